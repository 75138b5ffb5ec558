"""Single sign-on against a provider over HTTP: who gets in, as whom, and what is refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount
from cryptography.hazmat.primitives.asymmetric import rsa
from django.contrib.messages import get_messages
from django.test import Client

from accounts import services, sso
from accounts.models import Membership, User
from audit.models import AuditEntry
from tests.fakes.oidc import CLIENT_ID, CLIENT_SECRET, FakeOidc
from tests.personas import Persona, make_person

pytestmark = pytest.mark.django_db
NINA = {"sub": "248289761001", "email": "nina@larkspur.test", "email_verified": True, "name": "Nina Sand"}


@pytest.fixture
def oidc(settings: Any) -> Iterator[FakeOidc]:
    settings.CURFEW_BASE_URL = "http://testserver"
    with FakeOidc() as running:
        settings.CURFEW_OIDC_ISSUER = running.issuer
        settings.CURFEW_OIDC_CLIENT_ID, settings.CURFEW_OIDC_CLIENT_SECRET = CLIENT_ID, CLIENT_SECRET
        settings.CURFEW_OIDC_NAME = "Larkspur Login"
        running.person = dict(NINA)
        yield running


def log_in(browser: Client, start: str = "/account/sso/login") -> Any:
    """The round trip; the answer to the callback."""
    to_provider = browser.get(start)["Location"]
    back = httpx.get(to_provider).headers["Location"]
    return browser.get(back.removeprefix("http://testserver"))


def said(answer: Any) -> str:
    return " ".join(str(m) for m in get_messages(answer.wsgi_request))


def confirm(persona: Persona) -> None:
    EmailAddress.objects.create(user=persona.user, email=persona.email, primary=True, verified=True)


def test_the_button_is_there_only_when_it_leads_somewhere(client: Client, oidc: FakeOidc, settings: Any) -> None:
    assert "Log in with Larkspur Login" in client.get("/login").content.decode()
    settings.CURFEW_OIDC_ISSUER = ""
    assert "Larkspur Login" not in client.get("/login").content.decode()
    assert client.get("/account/sso/login").status_code == 404
    assert client.get("/account/sso/callback").status_code == 404


def test_a_member_whose_address_is_confirmed_on_both_sides(alice: Persona, oidc: FakeOidc) -> None:
    confirm(alice)
    oidc.person = {**NINA, "email": alice.email.upper()}
    browser = Client()
    answer = log_in(browser, "/account/sso/login?next=/settings/security")
    assert answer["Location"] == "/settings/security"
    page = browser.get("/settings/security").content.decode()
    assert "Larkspur Login" in page
    assert SocialAccount.objects.get().user == alice.user
    verbs = AuditEntry.objects.for_org(alice.organization).values_list("verb", "detail")
    assert ("mfa.changed", "Linked to Larkspur Login.") in verbs
    assert ("user.signed_in", "By single sign-on.") in verbs
    oidc.person = {**NINA, "email": "new-address@larkspur.test"}  # the subject counts from now on, not the address
    assert log_in(Client()).status_code == 302
    assert (SocialAccount.objects.count(), User.objects.count()) == (1, 1)


def test_an_invited_newcomer_and_one_by_domain(alice: Persona, oidc: FakeOidc, settings: Any) -> None:
    refused = log_in(Client())
    assert (refused["Location"], "not invited to any organization" in said(refused)) == ("/login", True)
    assert not User.objects.filter(email=NINA["email"]).exists()
    services.invite(actor=alice.actor, email=NINA["email"], role="operator")
    assert log_in(Client())["Location"] != "/login"
    rows = Membership.objects.for_org(alice.organization)
    assert rows.get(user__email=NINA["email"]).role == "operator"
    settings.CURFEW_OIDC_DOMAINS = [f"larkspur.test={alice.organization.id}:viewer", "broken", "x.test=1:owner"]
    oidc.person = {**NINA, "sub": "2", "email": "omar@larkspur.test"}
    assert log_in(Client())["Location"] != "/login"
    member = rows.get(user__email="omar@larkspur.test")
    assert member.role == "viewer"
    assert not member.user.has_usable_password()
    services.remove_member(actor=alice.actor, membership_id=member.id)
    log_in(Client())
    assert not rows.filter(user__email="omar@larkspur.test").exists()  # who was removed stays out


def test_nobody_is_taken_over_by_an_address_that_one_side_has_not_confirmed(
    alice: Persona, mallory: Persona, oidc: FakeOidc
) -> None:
    oidc.person = {**NINA, "email": alice.email}
    assert "never confirmed" in said(log_in(Client()))
    confirm(alice)
    oidc.person = {**NINA, "email": alice.email, "email_verified": False}
    assert "has not confirmed" in said(log_in(Client()))
    oidc.person = {"sub": "1"}
    assert "did not tell" in said(log_in(Client()))
    alice.user.is_active = False
    alice.user.save()
    oidc.person = {**NINA, "email": alice.email}
    assert "switched off" in said(log_in(Client()))
    assert not SocialAccount.objects.exists()


WRONG: dict[str, Callable[[FakeOidc], None]] = {
    "nonce": lambda o: setattr(o, "claims", lambda c: {**c, "nonce": "another"}),
    "no nonce": lambda o: setattr(o, "claims", lambda c: {k: v for k, v in c.items() if k != "nonce"}),
    "audience": lambda o: setattr(o, "claims", lambda c: {**c, "aud": "another"}),
    "party": lambda o: setattr(o, "claims", lambda c: {**c, "aud": [CLIENT_ID, "another"], "azp": "another"}),
    "issuer": lambda o: setattr(o, "claims", lambda c: {**c, "iss": "https://evil.test"}),
    "expired": lambda o: setattr(o, "claims", lambda c: {**c, "exp": int(time.time()) - 120}),
    "no expiry": lambda o: setattr(o, "claims", lambda c: {k: v for k, v in c.items() if k != "exp"}),
    "signature": lambda o: setattr(o, "sign_with", rsa.generate_private_key(public_exponent=65537, key_size=2048)),
    "secret as key": lambda o: (
        setattr(o, "sign_with", CLIENT_SECRET.ljust(32, "x")),
        setattr(o, "algorithm", "HS256"),
    )[0],
    "user info": lambda o: setattr(o, "userinfo", {"sub": "somebody else"}),
    "discovery": lambda o: setattr(o, "issuer_claimed", "https://evil.test"),
}


@pytest.mark.parametrize("how", WRONG)
def test_what_is_wrong_is_refused(how: str, alice: Persona, oidc: FakeOidc) -> None:
    services.invite(actor=alice.actor, email=NINA["email"], role="viewer")
    browser = Client()
    if how == "discovery":
        WRONG[how](oidc)
        answer = browser.get("/account/sso/login")
    else:
        WRONG[how](oidc)
        answer = log_in(browser)
    assert answer["Location"] == "/login"
    assert sso.FAILED in said(answer)
    assert not User.objects.filter(email=NINA["email"]).exists()
    assert browser.get("/settings/").status_code == 302


def test_a_code_of_another_browser_or_a_second_use_is_refused(alice: Persona, oidc: FakeOidc) -> None:
    confirm(alice)
    oidc.person = {**NINA, "email": alice.email}
    thief, victim = Client(), Client()
    victim.get("/account/sso/login")
    back = httpx.get(thief.get("/account/sso/login")["Location"]).headers["Location"].removeprefix("http://testserver")
    assert victim.get(back)["Location"] == "/login"
    assert thief.get(back)["Location"] != "/login"
    assert Client().get(back)["Location"] == "/login"
    cancelled = thief.get("/account/sso/callback?error=access_denied&state=x")
    assert cancelled["Location"] == "/login"


def test_a_provider_that_is_away_or_without_tls(oidc: FakeOidc, settings: Any) -> None:
    for issuer in ("http://127.0.0.1:9", "http://evil.test"):
        settings.CURFEW_OIDC_ISSUER = issuer
        answer = Client().get("/account/sso/login")
        assert (answer["Location"], said(answer)) == ("/login", sso.FAILED)


def test_the_link_can_be_ended_but_not_the_only_way_in(alice: Persona, oidc: FakeOidc, client_of: Any) -> None:
    confirm(alice)
    oidc.person = {**NINA, "email": alice.email}
    log_in(Client())
    client_of(alice).post("/settings/security/sso/unlink")
    assert not SocialAccount.objects.exists()
    nina = make_person("nina", alice.organization, "viewer")
    nina.user.set_unusable_password()
    nina.user.save()
    SocialAccount.objects.create(user=nina.user, provider=sso.provider_id(oidc.issuer), uid="9")
    browser = client_of(nina)
    stale = browser.get("/account/2fa/totp/activate/")
    assert (stale.status_code, "Log out and in again" in stale.content.decode()) == (403, True)
    confirm(nina)
    oidc.person = {**NINA, "sub": "9"}
    fresh = Client()
    log_in(fresh)
    assert fresh.get("/account/2fa/totp/activate/").status_code == 200
    assert "Choose a password first" in browser.post("/settings/security/sso/unlink", follow=True).content.decode()
    assert SocialAccount.objects.count() == 1
