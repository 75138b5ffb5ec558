"""Tokens of agents: a short-lived enrolment token mints one lasting token for each machine, worker or cluster."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.db import transaction

from accounts import selectors, tokens
from accounts.actors import own_organization
from accounts.enums import AgentKind
from accounts.models import AgentToken, User
from audit import services as audit
from core import clock
from core.actor import Actor, ActorKind
from core.errors import InvalidInput, NotFound, NotSignedIn
from core.live import publish

ENROLMENT_HOURS = 24
LONGEST_ENROLMENT_HOURS = 24 * 30


def create_enrolment_token(
    *, actor: Actor, kind: str, name: str, hours: int = ENROLMENT_HOURS
) -> tuple[AgentToken, str]:
    """Make a token that may enrol agents of one kind for some hours; its text is shown this once."""
    actor.require("agents.manage", "enrol agents")
    errors = {}
    if kind not in AgentKind.values:
        errors["kind"] = ["Choose cluster, worker or machine."]
    if not 0 < len(name.strip()) <= 120:
        errors["name"] = ["Give the token a name of 1 to 120 characters."]
    if not 1 <= hours <= LONGEST_ENROLMENT_HOURS:
        errors["hours"] = [f"An enrolment token lives 1 to {LONGEST_ENROLMENT_HOURS} hours."]
    if errors:
        raise InvalidInput(errors=errors)
    made = tokens.new_opaque("cfe")
    creator = User.objects.filter(pk=actor.id).first() if actor.kind == ActorKind.USER else None
    with transaction.atomic():
        row = AgentToken(
            organization_id=own_organization(actor),
            kind=kind,
            name=name.strip(),
            prefix=made.prefix,
            digest=made.digest,
            enrolment=True,
            created_by=creator,
            expires_at=clock.now() + timedelta(hours=hours),
        )
        row.save(force_insert=True)
        audit.record(actor=actor, verb="agent_token.created", target=row, changes={"enrolment": [None, True]})
        publish(row.organization_id, "accounts", [row.id])
    return row, made.text


def mint_agent_token(*, enrolment: str, name: str, resource_id: UUID | None = None) -> tuple[AgentToken, str]:
    """Exchange a live enrolment token for the lasting token of one agent. Raises NotSignedIn when it is not live."""
    parent = selectors.agent_token(enrolment)
    if parent is None or not parent.enrolment:
        raise NotSignedIn("The enrolment token is not valid or has expired. Make a new one.", code="enrolment_invalid")
    made = tokens.new_opaque("cfa")
    with transaction.atomic():
        row = AgentToken(
            organization_id=parent.organization_id,
            kind=parent.kind,
            name=(name.strip() or parent.name)[:120],
            prefix=made.prefix,
            digest=made.digest,
            resource_id=resource_id,
            created_by_id=parent.created_by_id,
        )
        row.save(force_insert=True)
        AgentToken.objects.for_org(parent.organization_id).filter(id=parent.id).update(last_used_at=clock.now())
        audit.record(
            actor=Actor(ActorKind.AGENT, str(parent.id), parent.name, parent.organization_id),
            verb="agent_token.created",
            target=row,
            detail=f"Enrolled with {parent.name}.",
        )
        publish(row.organization_id, "accounts", [row.id])
    return row, made.text


def revoke_agent_token(*, actor: Actor, token_id: UUID) -> AgentToken:
    """End an agent's or enrolment token at once. NotFound for a token of another organization."""
    actor.require("agents.manage", "revoke agent tokens")
    with transaction.atomic():
        row = AgentToken.objects.visible_to(actor).select_for_update().filter(id=token_id).first()
        if row is None:
            raise NotFound("There is no such agent token.")
        if row.revoked_at is None:
            row.revoked_at = clock.now()
            row.save(update_fields=["revoked_at"])
            audit.record(actor=actor, verb="agent_token.revoked", target=row)
            publish(row.organization_id, "accounts", [row.id])
    return row
