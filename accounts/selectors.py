"""Reads of people and cloud accounts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from allauth.usersessions.models import UserSession

from accounts import tokens
from accounts.actors import own_organization
from accounts.enums import AccountStatus, Role
from accounts.models import AgentToken, ApiKey, CloudAccount, Invitation, Membership, Organization, User
from accounts.permissions import ALL_PERMISSIONS, ROLE_PERMISSIONS, WORDS, permissions_of
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
    """All of a person's memberships with their organizations, oldest first. Those that were read with the session's
    person (`accounts.backends`) serve once: whoever asks again may have changed them."""
    at_hand: list[Membership] | None = getattr(user, "memberships_at_hand", None)
    if at_hand is not None:
        del user.memberships_at_hand  # type: ignore[attr-defined]
        return at_hand
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


def actor_of_session(session: Any, **facts: str) -> Actor | None:
    """The actor of a WebSocket's session; re-reads the database, so that a lost right shows."""
    from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY

    user_id = session.get(SESSION_KEY)
    user = User.objects.filter(pk=user_id, is_active=True).first() if user_id else None
    if user is None or user.get_session_auth_hash() != session.get(HASH_SESSION_KEY):
        return None
    if not session.exists(session.session_key):
        return None
    caller = caller_for(user, session.get(SESSION_ORG), **facts)
    return caller.actor if caller else None


def actor_of_access_token(text: str, **facts: str) -> Actor | None:
    """The actor of a JWT access token; the membership is read anew, so a removed member is out at once."""
    claims = tokens.decode(text, "access")
    if claims is None:
        return None
    row = (
        Membership.objects.for_org(claims["org"])
        .filter(user_id=claims["sub"], user__is_active=True)
        .select_related("user")
        .first()
    )
    if row is None:
        return None
    return Actor(
        ActorKind.USER, str(row.user_id), row.user.display_name, row.organization_id, permissions_of(row.role), **facts
    )


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
    moment = clock.now()
    if row is None or not tokens.matches(text, row.digest) or (row.expires_at and row.expires_at < moment):
        return None
    if not row.enrolment and (row.last_used_at is None or (moment - row.last_used_at).total_seconds() > 60):
        AgentToken.objects.all_orgs().filter(id=row.id).update(last_used_at=moment)
        row.last_used_at = moment
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


def find_accounts(
    *, actor: Actor, provider: str = "", status: str = "", search: str = "", ordering: str = ""
) -> list[CloudAccount]:
    """Cloud accounts that match; oldest first unless `ordering` (a field, "-" for descending) says otherwise."""
    actor.require("accounts.view", "see cloud accounts")
    rows = CloudAccount.objects.visible_to(actor)
    if provider:
        rows = rows.filter(provider=provider)
    if status:
        rows = rows.filter(status=status)
    if search:
        rows = rows.filter(name__icontains=search[:120])
    return list(rows.order_by(ordering or "created_at", "id"))


def get_user(user_id: UUID) -> User | None:
    """An active person; None otherwise."""
    return User.objects.filter(pk=user_id, is_active=True).first()


def get_organization(*, actor: Actor) -> Organization:
    """The organization that the actor acts in."""
    found = Organization.objects.filter(pk=own_organization(actor)).first()
    if found is None:
        raise NotFound("There is no such organization.")
    return found


def needs_wizard(caller: Caller) -> bool:
    """True while the first-run wizard should open: never closed, nothing connected, and the right to connect."""
    if caller.user.wizard_closed_at is not None or not caller.actor.can("accounts.manage"):
        return False
    return not CloudAccount.objects.visible_to(caller.actor).exclude(status=AccountStatus.PENDING).exists()


def find_prepared(*, actor: Actor, account_id: UUID | None = None) -> CloudAccount | None:
    """The AWS account whose role was prepared but that is not connected yet; None without one."""
    rows = (
        CloudAccount.objects.visible_to(actor)
        .filter(status=AccountStatus.PENDING, provider="aws")
        .exclude(external_id="")
    )
    if account_id:
        rows = rows.filter(id=account_id)
    found: CloudAccount | None = rows.order_by("created_at").first()
    return found


@dataclass(frozen=True, slots=True)
class Member:
    """A member as the page shows it; `roles` are those that the caller may give (the present one among them)."""

    id: UUID
    name: str
    email: str
    initials: str
    role: str
    role_label: str
    since: datetime
    is_me: bool
    roles: tuple[tuple[str, str], ...]
    can_remove: bool


def list_members(*, actor: Actor) -> list[Member]:
    """Everybody in the organization by name, with what the caller may change about each."""
    actor.require("members.view", "see members")
    rows = list(Membership.objects.visible_to(actor).select_related("user"))
    owners = sum(row.role == Role.OWNER for row in rows)
    shown = [_member(row, actor, owners) for row in rows]
    return sorted(shown, key=lambda m: (m.name.lower(), m.email))


def _member(row: Membership, actor: Actor, owners: int) -> Member:
    is_me = str(row.user_id) == actor.id
    is_owner = row.role == Role.OWNER
    last_owner = is_owner and owners == 1
    may_change = actor.can("members.manage") and not last_owner and (not is_owner or actor.can("members.manage_owners"))
    roles = tuple(
        (value, label)
        for value, label in Role.choices
        if may_change and (value != Role.OWNER or actor.can("members.manage_owners"))
    )
    return Member(
        id=row.id,
        name=row.user.display_name,
        email=row.user.email,
        initials=row.user.initials,
        role=row.role,
        role_label=row.get_role_display(),
        since=row.created_at,
        is_me=is_me,
        roles=roles,
        can_remove=not last_owner and (is_me or may_change),
    )


@dataclass(frozen=True, slots=True)
class Matrix:
    """Which role may do what: `rows` are (permission, its words, one truth per role in the order of `roles`)."""

    roles: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[bool, ...]], ...]


def role_matrix() -> Matrix:
    """The table that the code enforces."""
    rows = tuple(
        (name, WORDS[name], tuple(name in ROLE_PERMISSIONS[role] for role in Role.values)) for name in ALL_PERMISSIONS
    )
    return Matrix(tuple(Role.labels), rows)


@dataclass(frozen=True, slots=True)
class Invited:
    """An open invitation as the page shows it."""

    id: UUID
    email: str
    role: str
    role_label: str
    invited_by: str
    sent: datetime
    expires: datetime
    is_over: bool
    can_change: bool


def list_invitations(*, actor: Actor) -> list[Invited]:
    """Open invitations, newest first."""
    actor.require("members.manage", "see invitations")
    rows = Invitation.objects.visible_to(actor).filter(accepted_at=None, revoked_at=None)
    now = clock.now()
    return [
        Invited(
            id=row.id,
            email=row.email,
            role=row.role,
            role_label=row.get_role_display(),
            invited_by=row.invited_by.display_name if row.invited_by else "",
            sent=row.sent_at,
            expires=row.expires_at,
            is_over=row.expires_at <= now,
            can_change=row.role != Role.OWNER or actor.can("members.manage_owners"),
        )
        for row in rows.select_related("invited_by").order_by("-sent_at")
    ]


def get_invitation(*, actor: Actor, invitation_id: UUID) -> Invited:
    """One open invitation; NotFound when there is none such in the organization."""
    for invited in list_invitations(actor=actor):
        if invited.id == invitation_id:
            return invited
    raise NotFound("There is no such open invitation.")


def roles_to_give(*, actor: Actor) -> list[tuple[str, str]]:
    """The roles that the actor may hand out."""
    owners = actor.can("members.manage_owners")
    return [(value, label) for value, label in Role.choices if value != Role.OWNER or owners]


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent's or enrolment token as the page shows it."""

    id: UUID
    name: str
    kind_label: str
    prefix: str
    enrolment: bool
    made: datetime
    made_by: str
    seen: datetime | None
    expires: datetime | None
    revoked: datetime | None
    is_over: bool


def list_agents(*, actor: Actor) -> list[Agent]:
    """The organization's agent and enrolment tokens: live ones first, the newest first."""
    actor.require("agents.manage", "see agent tokens")
    now = clock.now()
    rows = AgentToken.objects.visible_to(actor).select_related("created_by").order_by("-created_at")
    shown = [
        Agent(
            id=row.id,
            name=row.name,
            kind_label=row.get_kind_display(),
            prefix=row.prefix,
            enrolment=row.enrolment,
            made=row.created_at,
            made_by=row.created_by.display_name if row.created_by else "",
            seen=row.last_used_at,
            expires=row.expires_at,
            revoked=row.revoked_at,
            is_over=row.revoked_at is not None or (row.expires_at is not None and row.expires_at < now),
        )
        for row in rows[:500]
    ]
    return sorted(shown, key=lambda agent: agent.is_over)


def list_api_keys(*, actor: Actor) -> list[ApiKey]:
    """The organization's keys, live ones first, newest first."""
    actor.require("api_keys.manage", "see API keys")
    rows = ApiKey.objects.visible_to(actor).select_related("created_by").order_by("-created_at")
    return sorted(rows, key=lambda key: key.revoked_at is not None)


def get_member(*, actor: Actor, membership_id: UUID) -> Member:
    """One member; NotFound when there is none such in the organization."""
    for member in list_members(actor=actor):
        if member.id == membership_id:
            return member
    raise NotFound("There is no such member.")


def factors_of(user: User) -> list[Authenticator]:
    """A person's second factors and passkeys, oldest first."""
    return list(Authenticator.objects.filter(user=user).order_by("created_at"))


def blockers_of_leaving(user: User) -> list[str]:
    """Why a person cannot be deleted yet, a sentence for each organization that would be left without an owner."""
    owned = [m for m in memberships_of(user) if m.role == Role.OWNER]
    with_others = set(
        Membership.objects.all_orgs()
        .filter(organization_id__in=[m.organization_id for m in owned], role=Role.OWNER)
        .exclude(user=user)
        .values_list("organization_id", flat=True)
    )
    return [
        f"You are the last owner of {m.organization.name}. Make somebody else an owner, or close the organization first."
        for m in owned
        if m.organization_id not in with_others
    ]


def address_of(user: User) -> EmailAddress | None:
    """The person's own e-mail address as allauth keeps it, with whether it was confirmed."""
    found: EmailAddress | None = EmailAddress.objects.filter(user=user, email__iexact=user.email).first()
    return found


def sso_links_of(user: User) -> list[SocialAccount]:
    """A person's links to the single sign-on, oldest first."""
    return list(SocialAccount.objects.filter(user=user).order_by("date_joined"))


def sessions_of(user: User) -> list[UserSession]:
    """The browsers in which a person is signed in; ended ones are cleared away."""
    return list(UserSession.objects.purge_and_list(user))
