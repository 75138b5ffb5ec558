"""Sealing anew after a key rotation; what an admin sees; the session's last sight."""

from __future__ import annotations

import base64
import json
from io import StringIO

import pytest
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import call_command
from django.core.management.base import CommandError
from django.http import HttpResponse
from django.test import Client, RequestFactory

from accounts import vault
from accounts.middleware import SessionActivityMiddleware
from accounts.models import CloudAccount
from core import encryption
from core.providers import AuthenticationFailed
from tests.accounts.conftest import KEYS, PLANTED
from tests.personas import Persona, make_account

OLD = "k1:" + base64.b64encode(b"1" * 32).decode()
NEW = "k2:" + base64.b64encode(b"2" * 32).decode()


def sealed(persona: Persona, number: str) -> CloudAccount:
    row = make_account(persona.organization, number=number)
    row.credentials = encryption.seal(KEYS, bound_to=row.seal_name)
    row.save(update_fields=["credentials"])
    return row


def rotate() -> dict:
    out = StringIO()
    call_command("rotate_encryption_keys", "--json", stdout=out)
    return json.loads(out.getvalue())


def test_every_secret_moves_to_the_new_key_and_again_changes_nothing(
    alice: Persona, mallory: Persona, settings: object
) -> None:
    settings.CURFEW_ENCRYPTION_KEYS = OLD
    rows = [sealed(alice, "111122223333"), sealed(mallory, "444455556666")]
    factor = Authenticator.objects.create(
        user=alice.user, type="totp", data={"secret": vault.seal_mfa("JBSWY3DP"), "kept": 1}
    )
    settings.CURFEW_ENCRYPTION_KEYS = f"{NEW},{OLD}"
    report = rotate()
    assert report["key"] == "k2"
    assert [(r["kind"], r["done"], r["fresh"], r["failed"]) for r in report["results"] if r["done"] or r["failed"]] == [
        ("cloud_account", 2, 0, 0),
        ("second_factor", 1, 0, 0),
    ]
    assert [(r["done"], r["fresh"]) for r in rotate()["results"] if r["fresh"]] == [(0, 2), (0, 1)]
    settings.CURFEW_ENCRYPTION_KEYS = NEW
    for row in rows:
        row.refresh_from_db()
        assert vault.credentials_of(row).get("secret_access_key") == PLANTED
    factor.refresh_from_db()
    assert (vault.open_mfa(factor.data["secret"]), factor.data["kept"]) == ("JBSWY3DP", 1)


def test_a_stopped_rotation_goes_on_where_it_was(
    alice: Persona, settings: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CURFEW_ENCRYPTION_KEYS = OLD
    for i in range(3):
        sealed(alice, f"{i}11122223333")
    settings.CURFEW_ENCRYPTION_KEYS = f"{NEW},{OLD}"
    real, calls = encryption.seal, []

    def seal_one(*args: object, **kwargs: object) -> str:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(encryption, "seal", seal_one)
        with pytest.raises(KeyboardInterrupt):
            vault.reseal_all()
    assert [(r.done, r.fresh) for r in vault.reseal_all() if r.kind == "cloud_account"] == [(2, 1)]


def test_a_lost_key_is_said_and_nothing_is_overwritten(alice: Persona, settings: object) -> None:
    settings.CURFEW_ENCRYPTION_KEYS = OLD
    row = sealed(alice, "111122223333")
    before = row.credentials
    settings.CURFEW_ENCRYPTION_KEYS = NEW
    with pytest.raises(CommandError, match="could not be opened"):
        call_command("rotate_encryption_keys", stdout=StringIO())
    row.refresh_from_db()
    assert row.credentials == before
    with pytest.raises(AuthenticationFailed) as refused:
        vault.credentials_of(row)
    assert refused.value.code == "credentials_unreadable"


def test_an_account_without_credentials_says_so(alice: Persona) -> None:
    with pytest.raises(AuthenticationFailed) as refused:
        vault.credentials_of(make_account(alice.organization))
    assert refused.value.code == "not_connected"


def test_a_sandbox_account_without_a_sandbox_is_never_sent_to_the_real_cloud(alice: Persona, settings: object) -> None:
    settings.CURFEW_SANDBOX_AWS_ENDPOINT = ""
    row = sealed(alice, "111111111111")
    row.is_sandbox = True
    with pytest.raises(Exception, match="sandbox cloud is not running"):
        vault.credentials_of(row)


@pytest.mark.parametrize("model", ["user", "organization", "membership", "cloudaccount", "apikey", "agenttoken"])
def test_the_admin_shows_no_credential_and_changes_nothing(model: str, alice: Persona) -> None:
    row = sealed(alice, "111122223333")
    alice.user.is_staff = alice.user.is_superuser = True
    alice.user.save(update_fields=["is_staff", "is_superuser"])
    browser = Client()
    browser.force_login(alice.user)
    page = browser.get(f"/admin/accounts/{model}/")
    assert page.status_code == 200
    target = {"user": alice.user.pk, "organization": alice.organization.pk, "cloudaccount": row.pk}.get(model)
    if target:
        detail = browser.get(f"/admin/accounts/{model}/{target}/change/")
        assert detail.status_code == 200
        for secret in (row.credentials, alice.user.password, "111122223333"):
            assert secret not in detail.content.decode()
        assert browser.post(f"/admin/accounts/{model}/{target}/change/", {"name": "x"}).status_code == 403
        assert browser.post(f"/admin/accounts/{model}/{target}/delete/", {"post": "yes"}).status_code == 403


def test_a_session_is_noted_once_a_minute(alice: Persona) -> None:
    session = SessionStore()
    session.create()
    request = RequestFactory().get("/")
    request.session, request.user = session, alice.user
    middleware = SessionActivityMiddleware(lambda _: HttpResponse())
    middleware(request)
    first = UserSession.objects.get().last_seen_at
    middleware(request)
    assert UserSession.objects.get().last_seen_at == first
    request.user = AnonymousUser()
    assert middleware(request).status_code == 200
