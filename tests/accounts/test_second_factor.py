"""Second factors: set up on pages, asked for by page and API, encrypted at rest."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth as totp
from django.core.cache import cache
from django.test import Client

from audit.models import AuditEntry
from tests.personas import PASSWORD, Persona


@pytest.fixture(autouse=True)
def _as_deployed(settings: object) -> Iterator[None]:
    settings.MFA_ADAPTER = "accounts.adapter.MFAAdapter"
    settings.MFA_ALLOW_UNVERIFIED_EMAIL = True
    return


def code_for(secret: str, step: int = 0) -> str:
    counter = next(iter(totp.yield_hotp_counters_from_time())) + step
    return totp.format_hotp_value(totp.hotp_value(secret, counter))


@pytest.fixture
def browser(alice: Persona) -> Client:
    client = Client()
    client.post("/login", {"login": alice.email, "password": PASSWORD})
    assert client.get("/account/2fa/totp/activate/")["Location"].startswith("/account/reauthenticate/")
    assert "Is it still you?" in client.get("/account/reauthenticate/").content.decode()
    client.post("/account/reauthenticate/", {"password": PASSWORD})
    return client


def set_up(browser: Client) -> str:
    """Turn the authenticator app on by the pages; returns its secret."""
    page = browser.get("/account/2fa/totp/activate/").content.decode()
    secret = re.search(r'id="authenticator_secret" value="([A-Z2-7]+)"', page)[1]
    answer = browser.post("/account/2fa/totp/activate/", {"code": code_for(secret)})
    assert answer.status_code == 302
    cache.clear()  # the same thirty seconds again: a used code is remembered
    return secret


def log_in(alice: Persona, **more: str) -> object:
    return Client().post(
        "/api/auth/token", {"email": alice.email, "password": PASSWORD, **more}, content_type="application/json"
    )


def test_setting_up_shows_recovery_codes_and_is_audited(
    alice: Persona, browser: Client, django_capture_on_commit_callbacks: object
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        set_up(browser)
    page = browser.get("/settings/security").content.decode()
    assert "10 codes left" in page
    assert "Turn off" in page
    lines = AuditEntry.objects.for_org(alice.organization).filter(verb="mfa.changed").order_by("seq")
    assert [e.detail for e in lines] == ["TOTP Authenticator: added.", "Recovery codes: added."]
    codes = browser.get("/account/2fa/recovery-codes/").content.decode()
    assert len(re.findall(r"<li>[0-9a-f ]+</li>", codes)) == 10


def test_the_secrets_are_encrypted_at_rest(alice: Persona, browser: Client) -> None:
    secret = set_up(browser)
    stored = [repr(a.data) for a in Authenticator.objects.filter(user=alice.user)]
    assert len(stored) == 2
    assert not [data for data in stored if secret in data]
    assert all("v1.k1." in data for data in stored)


def test_the_api_asks_for_the_code(alice: Persona, browser: Client) -> None:
    secret = set_up(browser)
    asked = log_in(alice)
    assert (asked.status_code, asked.json()["code"], asked["Content-Type"]) == (
        401,
        "mfa_required",
        "application/problem+json",
    )
    wrong = log_in(alice, otp="000000")
    assert (wrong.status_code, wrong.json()["code"]) == (401, "mfa_invalid")
    good = log_in(alice, otp=code_for(secret))
    assert (good.status_code, set(good.json())) == (200, {"access", "refresh", "user"})
    again = log_in(alice, otp=code_for(secret))
    assert (again.status_code, again.json()["code"]) == (401, "mfa_invalid")


def test_a_recovery_code_works_once(alice: Persona, browser: Client) -> None:
    set_up(browser)
    code = Authenticator.objects.get(user=alice.user, type="recovery_codes").wrap().get_unused_codes()[0]
    assert log_in(alice, otp=code).status_code == 200
    assert log_in(alice, otp=code).status_code == 401


def test_guessing_codes_locks_out(alice: Persona, browser: Client) -> None:
    set_up(browser)
    codes = [log_in(alice, otp=f"{i:06}").status_code for i in range(6)]
    assert codes == [401] * 5 + [429]


def test_the_page_asks_for_the_code(alice: Persona, browser: Client) -> None:
    secret = set_up(browser)
    fresh = Client()
    answer = fresh.post("/login", {"login": alice.email, "password": PASSWORD, "next": "/settings/"})
    assert answer["Location"] == "/account/2fa/authenticate/"
    assert fresh.get("/settings/").status_code == 302
    assert "Second factor" in fresh.get("/account/2fa/authenticate/").content.decode()
    wrong = fresh.post("/account/2fa/authenticate/", {"code": "000000"})
    assert "Incorrect code" in wrong.content.decode()
    failed = AuditEntry.objects.for_org(alice.organization).filter(
        verb="user.sign_in_failed", detail="Wrong second factor."
    )
    assert failed.count() == 1
    good = fresh.post("/account/2fa/authenticate/", {"code": code_for(secret)})
    assert good["Location"] == "/settings/"
    assert fresh.get("/settings/").status_code == 200


def test_cancelling_the_second_step_leaves_nothing_behind(alice: Persona, browser: Client) -> None:
    set_up(browser)
    fresh = Client()
    fresh.post("/login", {"login": alice.email, "password": PASSWORD})
    assert fresh.post("/account/logout/")["Location"] == "/login"
    assert fresh.get("/account/2fa/authenticate/").status_code == 302


@pytest.mark.parametrize(
    "path",
    [
        "/account/2fa/totp/deactivate/",
        "/account/2fa/recovery-codes/generate/",
        "/account/2fa/webauthn/add/",
        "/account/password/change/",
    ],
)
def test_its_pages_open(path: str, browser: Client) -> None:
    set_up(browser)
    page = browser.get(path)
    assert page.status_code == 200
    assert "style=" not in page.content.decode()


def test_turning_it_off(alice: Persona, browser: Client) -> None:
    set_up(browser)
    assert browser.post("/account/2fa/totp/deactivate/").status_code == 302
    assert not Authenticator.objects.filter(user=alice.user).exists()
    assert log_in(alice).status_code == 200


def test_a_new_password_is_audited_and_keeps_this_browser(alice: Persona, browser: Client) -> None:
    new = {"oldpassword": PASSWORD, "password1": "another walk at dawn", "password2": "another walk at dawn"}
    answer = browser.post("/account/password/change/", new)
    assert answer["Location"] == "/settings/security"
    assert browser.get("/settings/security").status_code == 200
    assert AuditEntry.objects.for_org(alice.organization).filter(verb="user.password_changed").count() == 1


def test_logging_out_elsewhere(alice: Persona, browser: Client) -> None:
    other = Client()
    other.post("/login", {"login": alice.email, "password": PASSWORD})
    other.get("/settings/security")
    assert "Log out everywhere else" in browser.get("/settings/security").content.decode()
    assert browser.post("/account/sessions/")["Location"] == "/settings/security"
    assert other.get("/settings/security").status_code == 302
    assert browser.get("/settings/security").status_code == 200


def test_a_forgotten_password(alice: Persona, mailoutbox: list) -> None:
    stranger = Client()
    assert (
        stranger.post("/account/password/reset/", {"email": alice.email})["Location"] == "/account/password/reset/done/"
    )
    link = re.search(r"http://testserver(/account/password/reset/key/\S+)", mailoutbox[0].body)[1]
    assert mailoutbox[0].subject == "Choose a new password"
    assert f'href="http://testserver{link}"' in mailoutbox[0].alternatives[0][0]
    page = stranger.get(link, follow=True)
    assert "Choose a new password" in page.content.decode()
    new = {"password1": "another walk at dawn", "password2": "another walk at dawn"}
    assert stranger.post(page.redirect_chain[-1][0], new).status_code == 302
    alice.user.refresh_from_db()
    assert alice.user.check_password("another walk at dawn")
    assert "does not work any more" in Client().get(link, follow=True).content.decode()


def test_a_new_password_is_told_by_mail_even_when_the_mail_server_is_away_for_a_while(
    alice: Persona, browser: Client, mailoutbox: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    EmailAddress.objects.create(user=alice.user, email=alice.email, primary=True, verified=True)
    change = {"oldpassword": PASSWORD, "password1": "another walk at dawn", "password2": "another walk at dawn"}
    assert browser.post("/account/password/change/", change).status_code == 302
    (told,) = mailoutbox
    for words in (told.body, told.alternatives[0][0]):
        assert "from 127.0.0.1" in words
        assert "If this was not you" in words

    def away(*args: object, **more: object) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr("accounts.adapter.AccountAdapter.send_mail", away)
    back = {
        "oldpassword": "another walk at dawn",
        "password1": "a third walk at noon",
        "password2": "a third walk at noon",
    }
    assert browser.post("/account/password/change/", back).status_code == 302
    alice.user.refresh_from_db()
    assert alice.user.check_password("a third walk at noon")
