"""Members and invitations over HTTP."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.core import mail
from django.test import Client
from rest_framework.test import APIClient

from accounts import services
from accounts.models import Invitation, Membership
from audit.models import AuditEntry
from notifications import services as notifications
from tests.personas import PASSWORD, Persona

pytestmark = pytest.mark.django_db
Api = Callable[[Persona], APIClient]
NINA = "nina@elsewhere.test"


def membership(persona: Persona) -> str:
    return str(Membership.objects.for_org(persona.organization).get(user=persona.user).id)


def verbs(persona: Persona) -> list[str]:
    return list(AuditEntry.objects.for_org(persona.organization).order_by("seq").values_list("verb", flat=True))


def test_members_are_listed_changed_and_removed(alice: Persona, bob: Persona, api_of: Api) -> None:
    client, path = api_of(alice), f"/api/members/{membership(bob)}"
    listed = client.get("/api/members").json()
    assert [(m["name"], m["role"], m["is_me"]) for m in listed["results"]] == [
        ("Alice", "owner", True),
        ("Bob", "viewer", False),
    ]
    assert client.patch(path, {"role": "operator"}, format="json").json()["role"] == "operator"
    assert client.patch(path, {"role": "king"}, format="json").status_code == 422
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404
    assert verbs(alice) == ["member.role_changed", "member.removed"]


def test_the_last_owner_stays(alice: Persona, api_of: Api) -> None:
    client, path = api_of(alice), f"/api/members/{membership(alice)}"
    for answer in (client.delete(path), client.patch(path, {"role": "viewer"}, format="json")):
        assert (answer.status_code, answer.json()["code"]) == (409, "last_owner")


def test_who_may_not_manage_may_leave_and_look(alice: Persona, bob: Persona, api_of: Api) -> None:
    client = api_of(bob)
    assert client.patch(f"/api/members/{membership(alice)}", {"role": "viewer"}, format="json").status_code == 403
    assert client.get("/api/invitations").status_code == 403
    assert client.delete(f"/api/members/{membership(bob)}").status_code == 204
    assert client.get("/api/members").status_code == 401  # out at once


def test_an_invitation_from_the_first_word_to_the_last(alice: Persona, api_of: Api) -> None:
    client = api_of(alice)
    made = client.post("/api/invitations", {"email": NINA, "role": "operator"}, format="json")
    assert made.status_code == 201
    again = client.post("/api/invitations", {"email": NINA, "role": "viewer"}, format="json")
    assert (again.status_code, again.json()["code"]) == (409, "already_invited")
    (listed,) = client.get("/api/invitations").json()["results"]
    assert (listed["email"], listed["role"], listed["invited_by"]) == (NINA, "operator", "Alice")
    assert "link" not in listed
    sent = client.post(f"/api/invitations/{listed['id']}/resend").json()
    links = [text.partition("/invitations/")[2] for text in (made.json()["link"], sent["link"])]
    assert [Client().get(f"/invitations/{link}").status_code for link in links] == [404, 200]
    assert client.delete(f"/api/invitations/{listed['id']}").status_code == 204
    assert Client().get(f"/invitations/{links[1]}").status_code == 404
    assert verbs(alice) == ["member.invited", "invitation.sent_again", "invitation.revoked"]


def test_an_invitation_by_a_key_is_its_makers(alice: Persona) -> None:
    _, text = services.create_api_key(actor=alice.actor, name="people", scopes=["members.manage"])
    made = Client().post(
        "/api/invitations",
        {"email": NINA, "role": "viewer"},
        content_type="application/json",
        headers={"Authorization": f"Api-Key {text}"},
    )
    assert made.status_code == 201
    row = Invitation.objects.for_org(alice.organization).get()
    assert row.invited_by == alice.user
    token = made.json()["link"].rpartition("/")[2]
    user, _ = services.accept_as_new(token=token, name="Nina", password=PASSWORD)
    assert Membership.objects.for_org(alice.organization).get(user=user).role == "viewer"
    notifications.deliver_due()
    assert [m.to for m in mail.outbox][:1] == [[NINA]]


def test_a_key_cannot_make_owners(alice: Persona, bob: Persona) -> None:
    _, text = services.create_api_key(actor=alice.actor, name="people", scopes=["members.manage"])
    headers = {"Authorization": f"Api-Key {text}"}
    for method, path, body in (
        ("post", "/api/invitations", {"email": NINA, "role": "owner"}),
        ("patch", f"/api/members/{membership(bob)}", {"role": "owner"}),
    ):
        answer = getattr(Client(), method)(path, body, content_type="application/json", headers=headers)
        assert answer.status_code == 403
