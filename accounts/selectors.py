"""Reads of people and cloud accounts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from accounts import tokens
from accounts.models import AgentToken, ApiKey, CloudAccount, Membership, Organization, User
from accounts.permissions import permissions_of
from core import clock
from core.actor import Actor, ActorKind
from core.errors import NotFound

SESSION_ORG = "organization_id"


@dataclass(frozen=True, slots=True)
class Caller:
    """A signed-in person and the organization that they act in."""

    user: User
    membership: Membership
    organization: Organization
    actor: Actor


def memberships_of(user: User) -> list[Membership]:
    """All of a person's memberships with their organizations, oldest first."""
    return list(Membership.objects.all_orgs().filter(user=user).select_related("organization").order_by("created_at"))


def caller_for(user: User, organization_id: str | UUID | None = None, **facts: str) -> Caller | None:
    """The person acting in the named organization, else in their first; None without any membership."""
    mine = memberships_of(user) if user.is_active else []
    if not mine:
        return None
    chosen = next((m for m in mine if str(m.organization_id) == str(organization_id)), mine[0])
    actor = Actor(
        kind=ActorKind.USER,
        id=str(user.pk),
        label=user.display_name,
        org_id=chosen.organization_id,
        permissions=permissions_of(chosen.role),
        **facts,
    )
    return Caller(user, chosen, chosen.organization, actor)


def actor_of_session(session: Any) -> Actor | None:
    """The actor of a WebSocket's session; re-reads the database, so that a lost right shows."""
    from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY

    user_id = session.get(SESSION_KEY)
    user = User.objects.filter(pk=user_id, is_active=True).first() if user_id else None
    if user is None or not user.get_session_auth_hash() == session.get(HASH_SESSION_KEY):
        return None
    if not session.exists(session.session_key):
        return None
    caller = caller_for(user, session.get(SESSION_ORG))
    return caller.actor if caller else None


def actor_of_access_token(text: str, **facts: str) -> Actor | None:
    """The actor of a JWT access token; the membership is read anew, so a removed member is out at once."""
    claims = tokens.decode(text, "access")
    if claims is None:
        return None
    row = Membership.objects.for_org(claims["org"]).filter(user_id=claims["sub"], user__is_active=True).select_related("user").first()
    if row is None:
        return None
    return Actor(ActorKind.USER, str(row.user_id), row.user.display_name, row.organization_id, permissions_of(row.role), **facts)


def actor_of_api_key(text: str, **facts: str) -> Actor | None:
    """The actor of an API key, limited to its scopes."""
    key = ApiKey.objects.all_orgs().filter(prefix=tokens.prefix_of(text), revoked_at=None).first()
    moment = clock.now()
    if key is None or not tokens.matches(text, key.digest) or (key.expires_at and key.expires_at < moment):
        return None
    if key.last_used_at is None or (moment - key.last_used_at).total_seconds() > 60:
        ApiKey.objects.all_orgs().filter(id=key.id).update(last_used_at=moment, last_used_ip=facts.get("ip", ""))
    return Actor(ActorKind.API_KEY, str(key.id), key.name, key.organization_id, frozenset(key.scopes), **facts)


def agent_token(text: str) -> AgentToken | None:
    """The live agent or enrolment token, or None."""
    row = AgentToken.objects.all_orgs().filter(prefix=tokens.prefix_of(text), revoked_at=None).first()
    if row is None or not tokens.matches(text, row.digest) or (row.expires_at and row.expires_at < clock.now()):
        return None
    return row


def actor_of_agent(row: AgentToken, **facts: str) -> Actor:
    return Actor(ActorKind.AGENT, str(row.id), row.name, row.organization_id, frozenset({f"agent.{row.kind}"}), **facts)


def list_accounts(*, actor: Actor) -> list[CloudAccount]:
    actor.require("accounts.view", "see cloud accounts")
    return list(CloudAccount.objects.visible_to(actor).order_by("created_at"))


def get_account(*, actor: Actor, account_id: UUID | str) -> CloudAccount:
    actor.require("accounts.view", "see cloud accounts")
    row = CloudAccount.objects.visible_to(actor).filter(id=account_id).first()
    if row is None:
        raise NotFound("There is no such cloud account.")
    return row
