"""The end of a person and of an organization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from allauth.usersessions.models import UserSession
from django.db import transaction

from accounts import selectors
from accounts.models import AgentToken, ApiKey, Invitation, Membership, Organization, RefreshToken, User
from accounts.services.sessions import revoke
from audit import services as audit
from core import clock, hooks
from core.actor import Actor, ActorKind
from core.errors import Conflict, InvalidInput
from core.live import publish


def delete_person(*, user: User, typed_email: str, facts: Mapping[str, str]) -> None:
    """Delete a person who asks for it: sign-ins, second factors, memberships, preferences, files.

    What they did stays in the audit logs under the name of then. Raises InvalidInput unless the own address was typed,
    Conflict while an organization would be left without an owner.
    """
    if typed_email.strip().lower() != user.email.lower():
        raise InvalidInput(errors={"confirm_email": [f"Type {user.email} exactly as it is written."]})
    with transaction.atomic():
        rows = list(Membership.objects.all_orgs().filter(user=user).select_related("organization"))
        list(
            Membership.objects.all_orgs()
            .filter(organization_id__in=[row.organization_id for row in rows])
            .order_by("id")
            .select_for_update()
        )
        stuck = selectors.blockers_of_leaving(user)
        if stuck:
            raise Conflict(stuck[0], code="last_owner")
        for row in rows:
            audit.record(
                actor=Actor(
                    ActorKind.USER, str(user.pk), user.display_name, row.organization_id, frozenset(), **dict(facts)
                ),
                verb="user.deleted",
                target=user,
                target_label=user.email,
                changes={"role": [row.role, None]},
            )
            publish(row.organization_id, "accounts", [row.id])
        revoke(user=user)
        for session in UserSession.objects.filter(user=user):
            session.end()
        hooks.person_deleted.emit(user_id=user.pk)
        user.delete()


def close_organization(*, actor: Actor, organization_id: UUID) -> None:
    """End an organization whose clouds were let go of, in the caller's transaction: nobody gets in any more.

    The row and its audit log stay, for as long as the log has to be kept.
    """
    now = clock.now()
    house = Organization.objects.select_for_update().get(pk=organization_id)
    if house.closed_at is not None:
        return
    hooks.organization_closed.emit(actor=actor, organization_id=organization_id)
    ended: dict[str, Any] = {
        "members": Membership.objects.for_org(house).count(),
        "API keys": ApiKey.objects.for_org(house).filter(revoked_at=None).update(revoked_at=now),
        "agents": AgentToken.objects.for_org(house).filter(revoked_at=None).update(revoked_at=now),
        "invitations": Invitation.objects.for_org(house)
        .filter(accepted_at=None, revoked_at=None)
        .update(revoked_at=now),
    }
    RefreshToken.objects.filter(organization=house, revoked_at=None).update(revoked_at=now)
    Membership.objects.for_org(house).delete()
    house.closed_at = now
    house.save(update_fields=["closed_at"])
    audit.record(
        actor=actor,
        verb="organization.closed",
        target=house,
        detail=", ".join(f"{name}: {count}" for name, count in ended.items()) + ".",
    )
    publish(house.pk, "accounts", [house.pk])
