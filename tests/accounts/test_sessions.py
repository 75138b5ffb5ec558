"""Tokens: rotated, used once, ended with the membership."""

from __future__ import annotations

from datetime import timedelta

import pytest
from rest_framework.test import APIClient

from accounts import selectors, services, tokens
from accounts.models import Membership, RefreshToken
from audit.models import AuditEntry
from core import clock
from core.errors import NotFound, NotSignedIn
from tests.personas import Persona, make_organization


def caller(persona: Persona) -> selectors.Caller:
    found = selectors.caller_for(persona.user, persona.organization.pk)
    assert found is not None
    return found


def test_a_refresh_token_works_once_and_its_second_use_ends_the_family(alice: Persona) -> None:
    first = services.issue_tokens(caller=caller(alice))
    second = services.rotate_refresh(refresh=first.refresh)
    assert second.refresh != first.refresh
    with pytest.raises(NotSignedIn) as refused:
        services.rotate_refresh(refresh=first.refresh)
    assert refused.value.code == "token_reused"
    with pytest.raises(NotSignedIn) as refused:
        services.rotate_refresh(refresh=second.refresh)
    assert refused.value.code == "token_invalid"
    lines = AuditEntry.objects.for_org(alice.organization).filter(verb="user.sign_in_failed")
    assert [(e.outcome, "second time" in e.detail) for e in lines] == [("denied", True)]


def test_another_log_in_of_the_same_person_goes_on(alice: Persona) -> None:
    stolen, other = services.issue_tokens(caller=caller(alice)), services.issue_tokens(caller=caller(alice))
    services.rotate_refresh(refresh=stolen.refresh)
    with pytest.raises(NotSignedIn):
        services.rotate_refresh(refresh=stolen.refresh)
    assert services.rotate_refresh(refresh=other.refresh).access


@pytest.mark.parametrize("spoil", ["garbage", "access", "expired", "revoked", "member_gone", "inactive"])
def test_what_is_not_live_is_refused(spoil: str, alice: Persona) -> None:
    pair = services.issue_tokens(caller=caller(alice))
    text = pair.refresh
    if spoil == "garbage":
        text = "eyJhbGciOiJIUzI1NiJ9.e30.x"
    elif spoil == "access":
        text = pair.access
    elif spoil == "expired":
        RefreshToken.objects.update(expires_at=clock.now() - timedelta(seconds=1))
    elif spoil == "revoked":
        assert services.revoke(refresh=pair.refresh) == 1
    elif spoil == "member_gone":
        Membership.objects.for_org(alice.organization).filter(user=alice.user).delete()
    else:
        alice.user.is_active = False
        alice.user.save(update_fields=["is_active"])
    with pytest.raises(NotSignedIn) as refused:
        services.rotate_refresh(refresh=text)
    assert refused.value.code == "token_invalid"


def test_a_changed_role_counts_from_the_next_call_on(bob: Persona, api_of: object) -> None:
    client: APIClient = api_of(bob)
    assert client.get("/api/auth/profile").json()["role"] == "viewer"
    Membership.objects.for_org(bob.organization).filter(user=bob.user).update(role="admin")
    assert "accounts.manage" in client.get("/api/auth/profile").json()["permissions"]


def test_a_new_password_ends_every_api_log_in(alice: Persona) -> None:
    pair = services.issue_tokens(caller=caller(alice))
    services.password_changed(user=alice.user, facts={})
    with pytest.raises(NotSignedIn):
        services.rotate_refresh(refresh=pair.refresh)
    assert AuditEntry.objects.for_org(alice.organization).filter(verb="user.password_changed").count() == 1


def test_switching_needs_a_membership(alice: Persona, mallory: Persona) -> None:
    with pytest.raises(NotFound):
        services.switch_organization(user=alice.user, organization_id=mallory.organization.pk)
    second = make_organization("Larkspur Labs")
    Membership.objects.for_org(second).create(organization=second, user=alice.user, role="viewer")
    found = services.switch_organization(user=alice.user, organization_id=second.pk)
    assert (found.organization, found.membership.role) == (second, "viewer")


def test_expired_rows_are_cleared_away(alice: Persona) -> None:
    services.issue_tokens(caller=caller(alice))
    RefreshToken.objects.update(expires_at=clock.now() - timedelta(days=1))
    services.issue_tokens(caller=caller(alice))
    assert RefreshToken.objects.filter(user=alice.user).count() == 1


def test_tokens_of_a_kind_do_not_pass_for_another(alice: Persona) -> None:
    pair = services.issue_tokens(caller=caller(alice))
    assert tokens.decode(pair.access, "refresh") is None
    assert selectors.actor_of_access_token(pair.refresh) is None
