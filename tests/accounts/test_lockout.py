"""Lock-out with clear words, one session at a time, and confirming an address."""

from __future__ import annotations

import re
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.usersessions.models import UserSession
from django.core import mail
from django.test import Client

from audit.models import AuditEntry
from tests.personas import PASSWORD, Persona

pytestmark = pytest.mark.django_db


def log_in(browser: Client, persona: Persona, password: str = PASSWORD) -> Any:
    return browser.post("/login", {"login": persona.email, "password": password})


def test_after_five_wrong_passwords_even_the_right_one_waits(alice: Persona, bob: Persona) -> None:
    browser = Client()
    for _ in range(5):
        assert log_in(browser, alice, "wrong").status_code == 422
    locked = log_in(browser, alice)
    assert (locked.status_code, locked["Retry-After"]) == (429, "300")
    assert "Wait five minutes" in locked.content.decode()
    assert "_auth_user_id" not in browser.session
    api = Client().post(
        "/api/auth/token", {"email": alice.email, "password": PASSWORD}, content_type="application/json"
    )
    assert (api.status_code, api["Retry-After"]) == (429, "300")
    assert log_in(Client(REMOTE_ADDR="192.0.2.7"), bob).status_code == 302  # others are not locked out
    failed = AuditEntry.objects.for_org(alice.organization).filter(verb="user.sign_in_failed").count()
    assert failed == 5


def test_too_many_resets_say_so(alice: Persona) -> None:
    browser = Client()
    answers = [browser.post("/account/password/reset/", {"email": alice.email}) for _ in range(8)]
    limited = answers[-1]
    assert limited.status_code == 429
    assert limited["Retry-After"] == "300"
    assert "Too many requests" in limited.content.decode()


def test_one_other_browser_is_logged_out(alice: Persona, bob: Persona, client_of: Any) -> None:
    here, there = Client(), Client(HTTP_USER_AGENT="Mozilla/5.0 (X11; Linux) Firefox/140.0")
    for browser in (here, there):
        log_in(browser, alice)
        browser.get("/settings/security")
    page = here.get("/settings/security").content.decode()
    ends = re.findall(r"/settings/security/sessions/\d+/end", page)
    assert len(ends) == 1
    assert "Log out Firefox on Linux" in page
    assert client_of(bob).post(ends[0]).status_code == 404
    here.post(ends[0])
    assert there.get("/settings/security").status_code == 302
    assert here.get("/settings/security").status_code == 200
    assert UserSession.objects.filter(user=alice.user).count() == 1


def test_an_address_is_confirmed_by_the_link_in_the_mail(alice: Persona, client_of: Any) -> None:
    EmailAddress.objects.create(user=alice.user, email=alice.email, primary=True, verified=False)
    browser = client_of(alice)
    assert "Not confirmed" in browser.get("/settings/security").content.decode()
    browser.post("/settings/security/confirm")
    link = re.search(r"(/account/confirm-email/\S+)", str(mail.outbox[-1].body))[1]
    assert "is yours?" in browser.get(link).content.decode()
    browser.post(link)
    assert EmailAddress.objects.get(user=alice.user).verified
    assert "Not confirmed" not in browser.get("/settings/security").content.decode()
    browser.post("/settings/security/confirm")
    assert len(mail.outbox) == 1
