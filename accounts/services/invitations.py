"""Invitations: an e-mail with a signed link that ends, accepted by the person whose address it names."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core import signing
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.urls import reverse

from accounts.actors import own_organization
from accounts.enums import Role
from accounts.models import ApiKey, Invitation, Membership, Organization, User
from accounts.permissions import permissions_of
from accounts.services.telling import security_changed
from audit import services as audit
from core import clock, hooks
from core.actor import Actor, ActorKind
from core.errors import Conflict, Forbidden, InvalidInput, NotFound, RateLimited
from core.live import publish

SALT = "accounts.invitation"
LIFETIME = timedelta(days=7)
MOST_AN_HOUR = 100
GONE = "This invitation does not work any more. Ask for a new one."


@dataclass(frozen=True, slots=True)
class Opened:
    """An invitation as its link shows it. `by_mail`: the link came out of the mailbox, not from the inviter's screen."""

    invitation: Invitation
    organization: Organization
    by_mail: bool
    user: User | None


def invite(*, actor: Actor, email: str, role: str) -> tuple[Invitation, str]:
    """Invite an address; returns the row and a link that the inviter may hand over where no mail arrives.

    Owners are invited by owners only. Raises InvalidInput per field, Conflict for a member or an open invitation, and
    RateLimited beyond a hundred mails an hour.
    """
    actor.require("members.manage", "invite people")
    address = email.strip().lower()
    errors: dict[str, list[str]] = {}
    if role not in Role.values:
        errors["role"] = ["Choose owner, admin, operator or viewer."]
    try:
        validate_email(address)
    except ValidationError:
        errors["email"] = ["This is not an e-mail address."]
    if errors or len(address) > 254:
        raise InvalidInput(errors=errors or {"email": ["An e-mail address has at most 254 characters."]})
    if role == Role.OWNER:
        actor.require("members.manage_owners", "invite an owner")
    org_id, now = own_organization(actor), clock.now()
    if Membership.objects.for_org(org_id).filter(user__email__iexact=address).exists():
        raise Conflict(f"{address} is a member already.", code="already_member")
    row = Invitation(
        organization_id=org_id,
        email=address,
        role=role,
        stamp=secrets.token_hex(8),
        invited_by=_person(actor),
        created_at=now,
        sent_at=now,
        expires_at=now + LIFETIME,
    )
    try:
        with transaction.atomic():
            _keep_pace(org_id)
            Invitation.objects.for_org(org_id).filter(
                email=address, accepted_at=None, revoked_at=None, expires_at__lt=now
            ).update(revoked_at=now)
            row.save(force_insert=True)
            audit.record(
                actor=actor,
                verb="member.invited",
                target=row,
                target_label=address,
                changes={"role": [None, role]},
            )
            _mail(actor, row)
    except IntegrityError:
        raise Conflict(f"{address} has an invitation already. Send that one again.", code="already_invited") from None
    return row, link_of(row, by_mail=False)


def resend_invitation(*, actor: Actor, invitation_id: UUID) -> tuple[Invitation, str]:
    """Send it anew with a new link and seven new days; older links stop working."""
    actor.require("members.manage", "invite people")
    with transaction.atomic():
        row = _open(actor, invitation_id)
        _keep_pace(row.organization_id)
        row.stamp, row.sent_at = secrets.token_hex(8), clock.now()
        row.expires_at = row.sent_at + LIFETIME
        row.invited_by = _person(actor)
        row.save(update_fields=["stamp", "sent_at", "expires_at", "invited_by"])
        audit.record(actor=actor, verb="invitation.sent_again", target=row, target_label=row.email)
        _mail(actor, row)
    return row, link_of(row, by_mail=False)


def revoke_invitation(*, actor: Actor, invitation_id: UUID) -> Invitation:
    """Take it back: its links stop working."""
    actor.require("members.manage", "take back invitations")
    with transaction.atomic():
        row = _open(actor, invitation_id)
        row.revoked_at = clock.now()
        row.save(update_fields=["revoked_at"])
        audit.record(actor=actor, verb="invitation.revoked", target=row, target_label=row.email)
        publish(row.organization_id, "accounts", [row.id])
    return row


def open_invitation(*, token: str) -> Opened:
    """What a link offers. Raises NotFound for a forged, old, revoked or used link, or one whose sender lost the right."""
    row, by_mail = _row_of(token)
    house = Organization.objects.get(pk=row.organization_id)
    user = User.objects.filter(email__iexact=row.email, is_active=True).first()
    return Opened(row, house, by_mail, user)


def accept_invitation(*, token: str, user: User, facts: Mapping[str, str] | None = None) -> Membership:
    """Join as the signed-in person whose address was invited. Raises NotFound for a link that does not work any more,
    Forbidden for another person."""
    with transaction.atomic():
        row, by_mail = _row_of(token, lock=True)
        if user.email.lower() != row.email.lower():
            raise Forbidden(f"This invitation is for {row.email}. Log in as that person.", code="other_person")
        return _accept(row, user, by_mail, dict(facts or {}))


def accept_as_new(
    *, token: str, name: str, password: str, facts: Mapping[str, str] | None = None
) -> tuple[User, Membership]:
    """Make the invited person and join. Works on servers that take no sign-ups: the invitation is the permission.

    The address counts as confirmed only when the link came by mail. Raises InvalidInput per field, NotFound for a link
    that does not work any more, Conflict when the address signed up meanwhile.
    """
    row, _ = _row_of(token)
    user = User(email=row.email.lower(), name=name.strip())
    errors: dict[str, list[str]] = {}
    if len(user.name) > 120:
        errors["name"] = ["A name has at most 120 characters."]
    try:
        validate_password(password, user)
    except ValidationError as weak:
        errors["password"] = list(weak.messages)
    if errors:
        raise InvalidInput(errors=errors)
    user.password = make_password(password)  # slow on purpose, so before the transaction
    try:
        with transaction.atomic():
            row, by_mail = _row_of(token, lock=True)
            user.save(force_insert=True)
            EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=by_mail)
            return user, _accept(row, user, by_mail, dict(facts or {}))
    except IntegrityError:
        raise Conflict(f"{row.email} has signed up meanwhile. Log in to accept.", code="signed_up") from None


def link_of(row: Invitation, *, by_mail: bool) -> str:
    """The absolute address that accepts it."""
    token = signing.dumps([str(row.id), row.stamp, int(by_mail)], salt=SALT)
    return settings.CURFEW_BASE_URL + reverse("accounts:invitation", args=[token])


def _row_of(token: str, *, lock: bool = False) -> tuple[Invitation, bool]:
    try:
        row_id, stamp, by_mail = signing.loads(token, salt=SALT, max_age=LIFETIME)
    except signing.BadSignature:
        raise NotFound(GONE) from None
    rows = Invitation.objects.all_orgs().filter(
        id=row_id, stamp=stamp, accepted_at=None, revoked_at=None, expires_at__gt=clock.now()
    )
    row = (rows.select_for_update() if lock else rows).filter(organization__closed_at=None).first()
    if row is None or not _still_offered(row):
        raise NotFound(GONE)
    return row, bool(by_mail)


def _still_offered(row: Invitation) -> bool:
    """Whoever invited must still be allowed to: a removed or demoted administrator leaves no way in behind."""
    if row.invited_by_id is None:
        return False
    member = Membership.objects.for_org(row.organization_id).filter(user_id=row.invited_by_id).first()
    needed = {"members.manage", "members.manage_owners"} if row.role == Role.OWNER else {"members.manage"}
    return member is not None and needed <= permissions_of(member.role)


def join(row: Invitation, user: User, facts: dict[str, str]) -> Membership | None:
    """Use a locked invitation up for a person whose address was confirmed otherwise; None when it is offered no more."""
    return _accept(row, user, False, facts) if _still_offered(row) else None


def _accept(row: Invitation, user: User, by_mail: bool, facts: dict[str, str]) -> Membership:
    membership, made = Membership.objects.for_org(row.organization_id).get_or_create(
        organization_id=row.organization_id, user=user, defaults={"role": row.role}
    )
    row.accepted_at = clock.now()
    row.save(update_fields=["accepted_at"])
    if by_mail:
        EmailAddress.objects.filter(user=user, email__iexact=row.email).update(verified=True)
    if made:
        words = f"{user.display_name} ({user.email}) joined as {row.get_role_display().lower()}"
        security_changed(row.organization_id, words, "accounts:members")
        actor = Actor(
            ActorKind.USER, str(user.pk), user.display_name, row.organization_id, permissions_of(row.role), **facts
        )
        audit.record(
            actor=actor,
            verb="member.joined",
            target=membership,
            target_label=user.email,
            changes={"role": [None, membership.role]},
            detail=f"Invited by {row.invited_by}." if row.invited_by else "",
        )
    publish(row.organization_id, "accounts", [membership.id])
    return membership


def _open(actor: Actor, invitation_id: UUID) -> Invitation:
    row: Invitation | None = (
        Invitation.objects.visible_to(actor)
        .select_for_update()
        .filter(id=invitation_id, accepted_at=None, revoked_at=None)
        .first()
    )
    if row is None:
        raise NotFound("There is no such open invitation.")
    if row.role == Role.OWNER:
        actor.require("members.manage_owners", "change the invitation of an owner")
    return row


def _keep_pace(org_id: UUID) -> None:
    since = clock.now() - timedelta(hours=1)
    if Invitation.objects.for_org(org_id).filter(sent_at__gt=since).count() >= MOST_AN_HOUR:
        raise RateLimited("A hundred invitations went out within the hour. Wait a while.", retry_after=3600)


def _person(actor: Actor) -> User:
    """Who answers for an invitation: the person, or the maker of the API key."""
    person: User | None = None
    if actor.kind == ActorKind.USER:
        person = User.objects.filter(pk=actor.id).first()
    elif actor.kind == ActorKind.API_KEY:
        key = ApiKey.objects.visible_to(actor).filter(id=actor.id).select_related("created_by").first()
        person = key.created_by if key else None
    if person is None:
        raise Forbidden("An invitation needs a person who answers for it.")
    return person


def _mail(actor: Actor, row: Invitation) -> None:
    house = Organization.objects.get(pk=row.organization_id)
    hooks.mail_wanted.emit(
        organization_id=row.organization_id,
        address=row.email,
        subject=f"{actor.label} invites you to {house.name} on Curfew",
        body=(
            f"You would join {house.name} as {Role(row.role).label.lower()}. The link works once, until "
            f"{row.expires_at:%d %B %Y, %H:%M} UTC. If you do not expect this, ignore the mail: nothing happens."
        ),
        url=link_of(row, by_mail=True),
        button="Accept the invitation",
    )
    publish(row.organization_id, "accounts", [row.id])
