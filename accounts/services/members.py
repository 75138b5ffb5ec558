"""Who belongs to an organization, and as what."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction

from accounts.enums import Role
from accounts.models import Membership
from accounts.services.sessions import revoke
from accounts.services.telling import security_changed
from audit import services as audit
from core.actor import Actor
from core.errors import Conflict, InvalidInput, NotFound
from core.live import publish


def change_role(*, actor: Actor, membership_id: UUID, role: str) -> Membership:
    """Give a member another role.

    Owners are made and unmade by owners only; the last owner stays one (Conflict). NotFound for a member of another
    organization, InvalidInput for an unknown role.
    """
    actor.require("members.manage", "change roles")
    if role not in Role.values:
        raise InvalidInput(errors={"role": ["Choose owner, admin, operator or viewer."]})
    with transaction.atomic():
        member, owners = _locked(actor, membership_id)
        if Role.OWNER in (member.role, role):
            actor.require("members.manage_owners", "make or unmake owners")
        if member.role == role:
            return member
        if member.role == Role.OWNER and owners == 1:
            raise Conflict("This is the last owner. Make somebody else an owner first.", code="last_owner")
        before, member.role = member.role, role
        member.save(update_fields=["role"])
        audit.record(
            actor=actor,
            verb="member.role_changed",
            target=member,
            target_label=member.user.email,
            changes={"role": [before, role]},
        )
        words = f"{actor.label} made {member.user.display_name} {Role(role).label.lower()} (was {Role(before).label.lower()})"
        security_changed(member.organization_id, words, "accounts:members")
        publish(member.organization_id, "accounts", [member.id])
    return member


def remove_member(*, actor: Actor, membership_id: UUID) -> None:
    """Take a person out of the organization and end their API log-ins in it. Anybody may leave; the last owner may not."""
    with transaction.atomic():
        member, owners = _locked(actor, membership_id)
        if str(member.user_id) != actor.id:
            actor.require("members.manage", "remove members")
            if member.role == Role.OWNER:
                actor.require("members.manage_owners", "remove an owner")
        if member.role == Role.OWNER and owners == 1:
            raise Conflict("This is the last owner. Make somebody else an owner first.", code="last_owner")
        revoke(user=member.user, organization_id=member.organization_id)
        audit.record(
            actor=actor,
            verb="member.removed",
            target=member,
            target_label=member.user.email,
            changes={"role": [member.role, None]},
        )
        words = f"{member.user.display_name} is no member any more"
        security_changed(member.organization_id, words, "accounts:members")
        publish(member.organization_id, "accounts", [member.id])
        member.delete()


def _locked(actor: Actor, membership_id: UUID) -> tuple[Membership, int]:
    """The member and the number of owners, under a lock on all of them so that two changes cannot both remove the last."""
    rows = list(Membership.objects.visible_to(actor).select_for_update().order_by("id"))
    member = next((row for row in rows if row.id == membership_id), None)
    if member is None:
        raise NotFound("There is no such member.")
    return member, sum(row.role == Role.OWNER for row in rows)
