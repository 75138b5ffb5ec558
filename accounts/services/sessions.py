"""Signing in and out: JWT pairs with rotated refresh tokens, the organization in use, and their audit lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID, uuid4

from allauth.usersessions.models import UserSession
from django.db import transaction
from django.db.models import Q

from accounts import selectors, tokens
from accounts.models import Membership, Organization, RefreshToken, User
from accounts.permissions import permissions_of
from accounts.services.telling import security_changed
from audit import services as audit
from audit.enums import Outcome
from core import clock
from core.actor import Actor, ActorKind
from core.errors import NotFound, NotSignedIn

EXPIRED = "The refresh token is not valid or has expired. Log in again."
REUSED = "This refresh token was used before. For safety the whole log-in was ended; log in again."


@dataclass(frozen=True, slots=True)
class TokenPair:
    """`access` lives 15 minutes, `refresh` 14 days and works once."""

    access: str
    refresh: str


def issue_tokens(*, caller: selectors.Caller) -> TokenPair:
    """Start a new refresh family for a person in an organization; rows that expired are cleared away."""
    with transaction.atomic():
        RefreshToken.objects.filter(user=caller.user, expires_at__lt=clock.now()).delete()
        return _pair(caller.user, caller.membership, uuid4())


def rotate_refresh(*, refresh: str, facts: Mapping[str, str] | None = None) -> TokenPair:
    """Exchange a refresh token for a new pair; it works once.

    A second use ends its whole family (somebody has a copy) and is audited. Raises NotSignedIn with the code
    `token_invalid` or `token_reused`.
    """
    claims = tokens.decode(refresh, "refresh")
    if claims is None:
        raise NotSignedIn(EXPIRED, code="token_invalid")
    with transaction.atomic():
        pair = _rotate(claims)
    if pair is not None:
        return pair
    if _end_reused_family(claims, dict(facts or {})):
        raise NotSignedIn(REUSED, code="token_reused")
    raise NotSignedIn(EXPIRED, code="token_invalid")


def _rotate(claims: Mapping[str, str]) -> TokenPair | None:
    member = (
        Membership.objects.for_org(claims["org"])
        .filter(user_id=claims["sub"], user__is_active=True)
        .select_related("user")
        .first()
    )
    live = RefreshToken.objects.filter(jti=claims["jti"], spent_at=None, revoked_at=None, expires_at__gt=clock.now())
    if member is None or not live.update(spent_at=clock.now()):
        return None
    return _pair(member.user, member, UUID(claims["fam"]))


def _pair(user: User, membership: Membership, family: UUID) -> TokenPair:
    jti = uuid4()
    RefreshToken.objects.create(
        jti=jti,
        family=family,
        user=user,
        organization_id=membership.organization_id,
        expires_at=clock.now() + tokens.REFRESH_LIFETIME,
    )
    return TokenPair(
        tokens.encode_access(user.pk, membership.organization_id, membership.role),
        tokens.encode_refresh(user.pk, membership.organization_id, jti, family),
    )


def _end_reused_family(claims: Mapping[str, str], facts: dict[str, str]) -> bool:
    """True when the token was spent before; its family is revoked then."""
    row = RefreshToken.objects.filter(jti=claims["jti"]).exclude(spent_at=None).select_related("user").first()
    if row is None:
        return False
    with transaction.atomic():
        ended = RefreshToken.objects.filter(family=row.family, revoked_at=None).update(revoked_at=clock.now())
        if ended:
            audit.record(
                actor=_actor(row.user, row.organization_id, facts),
                verb="user.sign_in_failed",
                target_kind="user",
                target_id=str(row.user_id),
                target_label=row.user.email,
                outcome=Outcome.DENIED,
                detail="A refresh token was used a second time; every token of that log-in was revoked.",
            )
    return True


def revoke(*, refresh: str = "", user: User | None = None, organization_id: UUID | None = None) -> int:
    """End the family of one refresh token, or every family of a person (in one organization). Returns rows revoked."""
    rows = RefreshToken.objects.filter(revoked_at=None)
    if refresh:
        claims = tokens.decode(refresh, "refresh")
        if claims is None:
            return 0
        rows = rows.filter(family=claims["fam"], user_id=claims["sub"])
    elif user is not None:
        rows = rows.filter(user=user)
        if organization_id:
            rows = rows.filter(organization_id=organization_id)
    else:
        return 0
    return rows.update(revoked_at=clock.now())


def switch_organization(
    *, user: User, organization_id: UUID | str, facts: Mapping[str, str] | None = None
) -> selectors.Caller:
    """Let a person act in another of their organizations. Raises NotFound when they are no member of it."""
    caller = selectors.caller_for(user, organization_id, **dict(facts or {}))
    if caller is None or str(caller.organization.pk) != str(organization_id):
        raise NotFound("There is no such organization.")
    audit.record_alone(actor=caller.actor, verb="organization.switched", target=caller.organization)
    return caller


def record_sign_in(*, user: User, facts: Mapping[str, str], how: str = "password") -> None:
    """Audit a completed sign-in in the organization that the person lands in."""
    caller = selectors.caller_for(user, **dict(facts))
    if caller:
        audit.record_alone(actor=caller.actor, verb="user.signed_in", target=user, detail=f"By {how}.")


def record_sign_out(*, actor: Actor, user: User) -> None:
    """Audit a sign-out."""
    if actor.org_id:
        audit.record_alone(actor=actor, verb="user.signed_out", target=user)


def end_session(*, actor: Actor, user: User, session_id: int) -> None:
    """Log a person's browser out, wherever it is. NotFound for another person's."""
    with transaction.atomic():
        row = UserSession.objects.filter(pk=session_id, user=user).first()
        if row is None:
            raise NotFound("There is no such session.")
        row.end()
        audit.record(actor=actor, verb="user.signed_out", target=user, detail=f"Another browser, at {row.ip}.")


def record_sign_in_failure(*, email: str, facts: Mapping[str, str], why: str) -> None:
    """Audit a failed sign-in of a known person in their organizations; an unknown address belongs to nobody's log."""
    user = User.objects.filter(Q(email__iexact=email.strip())).first()
    if user is None:
        return
    for membership in selectors.memberships_of(user):
        audit.record_alone(
            actor=_actor(user, membership.organization_id, dict(facts)),
            verb="user.sign_in_failed",
            target=user,
            target_label=user.email,
            outcome=Outcome.FAILED,
            detail=why,
        )


def password_changed(*, user: User, facts: Mapping[str, str]) -> None:
    """A new password ends every API log-in of the person; audited and told in all of their organizations."""
    with transaction.atomic():
        revoke(user=user)
        for membership in selectors.memberships_of(user):
            audit.record(
                actor=_actor(user, membership.organization_id, dict(facts)), verb="user.password_changed", target=user
            )
            words = f"{user.display_name} has a new password"
            security_changed(membership.organization_id, words, "accounts:security")


def record_mfa_change(*, user: User, facts: Mapping[str, str], what: str) -> None:
    """Audit and tell of a second factor that was added, removed or made anew."""
    for membership in selectors.memberships_of(user):
        with transaction.atomic():
            audit.record(
                actor=_actor(user, membership.organization_id, dict(facts)),
                verb="mfa.changed",
                target=user,
                detail=what,
            )
            words = f"{user.display_name} changed how they log in. {what}"
            security_changed(membership.organization_id, words, "accounts:security")


def _actor(user: User, organization: Organization | UUID, facts: dict[str, str]) -> Actor:
    org_id = organization.pk if isinstance(organization, Organization) else organization
    return Actor(ActorKind.USER, str(user.pk), user.display_name, org_id, permissions_of(""), **facts)
