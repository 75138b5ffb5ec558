"""Invitations: by mail, once, for one person, and only while whoever invited may."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.test import Client

from accounts import services
from accounts.models import Invitation, Membership, User
from audit.models import AuditEntry
from core import clock
from core.errors import Conflict, Forbidden, InvalidInput, NotFound
from notifications import services as notifications
from notifications.models import Delivery
from tests.personas import PASSWORD, Persona, make_person

pytestmark = pytest.mark.django_db
NINA = "nina@elsewhere.test"


def mailed_link() -> str:
    """The path of the link in the newest mail."""
    notifications.deliver_due()
    return re.search(r"(/invitations/\S+)", str(mail.outbox[-1].body))[1]


def roles_of(email: str) -> list[tuple[str, str]]:
    rows = Membership.objects.all_orgs().filter(user__email=email).select_related("organization")
    return sorted((row.organization.name, row.role) for row in rows)


def test_a_newcomer_joins_by_mail_on_a_server_without_sign_ups(alice: Persona, settings: Any, client_of: Any) -> None:
    settings.CURFEW_ALLOW_SIGNUP = False
    page = client_of(alice).post("/settings/members/invite", {"email": NINA.upper(), "role": "operator"})
    assert page.status_code == 201
    link = mailed_link()
    message = mail.outbox[-1]
    assert (message.to, message.subject) == ([NINA], "Alice invites you to Larkspur on Curfew")
    html = message.alternatives[0][0]
    assert "Accept the invitation" in html
    assert link in html
    kept = Delivery.objects.for_org(alice.organization).get()
    assert (kept.url, kept.body) == ("", "")  # the secret link is not kept
    browser = Client()
    assert NINA in browser.get(link).content.decode()
    weak = browser.post(link, {"name": "Nina", "password": "short"})
    assert weak.status_code == 422
    joined = browser.post(link, {"name": "Nina", "password": PASSWORD})
    assert joined.status_code == 302
    assert roles_of(NINA) == [("Larkspur", "operator")]
    assert EmailAddress.objects.get(email=NINA).verified
    assert browser.get("/settings/members").status_code == 200
    line = AuditEntry.objects.for_org(alice.organization).get(verb="member.joined")
    assert (line.actor_label, line.changes) == ("Nina", {"role": [None, "operator"]})
    assert Client().get(link).status_code == 404  # once


def test_a_link_that_the_inviter_saw_confirms_no_address(alice: Persona) -> None:
    _, link = services.invite(actor=alice.actor, email=NINA, role="viewer")
    user, _ = services.accept_as_new(token=link.rpartition("/")[2], name="", password=PASSWORD)
    assert not EmailAddress.objects.get(user=user).verified


def test_somebody_of_another_house_joins_and_switches(alice: Persona, mallory: Persona, client_of: Any) -> None:
    services.invite(actor=alice.actor, email=mallory.email, role="viewer")
    link = mailed_link()
    assert f"/login?next={quote(link)}" in Client().get(link).content.decode()
    assert "is for <b>mallory@" in client_of(alice).get(link).content.decode()
    browser = client_of(mallory)
    assert browser.post(link)["Location"] == "/"
    assert roles_of(mallory.email) == [("Harbour", "owner"), ("Larkspur", "viewer")]
    page = browser.get("/settings/").content.decode()
    assert "You are viewer of Larkspur" in page
    assert "Switch to Harbour" in page


def test_only_the_invited_person(alice: Persona, mallory: Persona, olga: Persona) -> None:
    _, link = services.invite(actor=alice.actor, email=mallory.email, role="admin")
    with pytest.raises(Forbidden):
        services.accept_invitation(token=link.rpartition("/")[2], user=olga.user)
    assert roles_of(mallory.email) == [("Harbour", "owner")]


def test_sending_again_ends_the_older_link_and_taking_back_ends_all(alice: Persona, client_of: Any) -> None:
    row, first = services.invite(actor=alice.actor, email=NINA, role="viewer")
    _, second = services.resend_invitation(actor=alice.actor, invitation_id=row.id)
    assert Client().get("/invitations/" + first.rpartition("/")[2]).status_code == 404
    assert Client().get("/invitations/" + second.rpartition("/")[2]).status_code == 200
    client_of(alice).post(f"/settings/members/invitations/{row.id}/revoke")
    assert Client().get("/invitations/" + second.rpartition("/")[2]).status_code == 404


def test_it_ends_after_a_week_and_with_the_right_of_its_sender(alice: Persona, bob: Persona) -> None:
    adam = make_person("adam", alice.organization, "admin")
    _, link = services.invite(actor=adam.actor, email=NINA, role="viewer")
    token = link.rpartition("/")[2]
    with clock.at(clock.now() + timedelta(days=8)), pytest.raises(NotFound):
        services.open_invitation(token=token)
    services.open_invitation(token=token)
    member = Membership.objects.for_org(alice.organization).get(user=adam.user)
    services.change_role(actor=alice.actor, membership_id=member.id, role="viewer")
    with pytest.raises(NotFound):
        services.accept_as_new(token=token, name="", password=PASSWORD)
    assert not User.objects.filter(email=NINA).exists()


def test_owners_are_invited_by_owners_only(alice: Persona, bob: Persona, client_of: Any) -> None:
    adam = make_person("adam", alice.organization, "admin")
    with pytest.raises(Forbidden):
        services.invite(actor=adam.actor, email=NINA, role="owner")
    assert 'value="owner"' not in client_of(adam).get("/settings/members").content.decode()
    row, _ = services.invite(actor=alice.actor, email=NINA, role="owner")
    with pytest.raises(Forbidden):
        services.resend_invitation(actor=adam.actor, invitation_id=row.id)
    with pytest.raises(Forbidden):
        services.invite(actor=bob.actor, email=NINA, role="viewer")


def test_bad_input_and_repeats(alice: Persona, bob: Persona, mallory: Persona) -> None:
    for change, field in (({"email": "no address"}, "email"), ({"role": "emperor"}, "role")):
        with pytest.raises(InvalidInput) as refused:
            services.invite(actor=alice.actor, **{"email": NINA, "role": "viewer", **change})
        assert list(refused.value.errors) == [field]
    with pytest.raises(Conflict):
        services.invite(actor=alice.actor, email=bob.email, role="viewer")
    row, _ = services.invite(actor=alice.actor, email=NINA, role="viewer")
    with pytest.raises(Conflict):
        services.invite(actor=alice.actor, email=NINA, role="viewer")
    with pytest.raises(NotFound):
        services.revoke_invitation(actor=mallory.actor, invitation_id=row.id)
    assert Invitation.objects.for_org(alice.organization).count() == 1


def test_the_members_page_has_a_fixed_number_of_queries(
    alice: Persona, client_of: Any, django_assert_num_queries: Any
) -> None:
    browser = client_of(alice)
    browser.get("/settings/members")
    services.invite(actor=alice.actor, email="a0@elsewhere.test", role="viewer")
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as one:
        browser.get("/settings/members")
    for number in (1, 2):
        services.invite(actor=alice.actor, email=f"a{number}@elsewhere.test", role="viewer")
    with django_assert_num_queries(len(one)):
        browser.get("/settings/members")
