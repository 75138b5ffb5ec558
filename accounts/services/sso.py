"""Which of our people somebody is who comes from the single sign-on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from uuid import UUID

from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction

from accounts.enums import Role
from accounts.models import Invitation, Membership, Organization, User
from accounts.permissions import permissions_of
from accounts.services.invitations import join
from accounts.services.sessions import record_mfa_change
from audit import services as audit
from core import clock
from core.actor import Actor, ActorKind
from core.errors import Conflict, Forbidden, NotFound
from core.live import publish

log = logging.getLogger(__name__)


def person_for_sso(*, email: str, verified: bool, name: str, provider: str, facts: Mapping[str, str]) -> User:
    """The person to link a first single sign-on to; made when an invitation or the e-mail's domain lets them in.

    An existing person is taken only when both sides confirmed the address: the provider says so, and our own mail to
    it was answered. Raises Forbidden with words for the log-in page otherwise.
    """
    address = email.strip().lower()
    try:
        validate_email(address)
    except ValidationError:
        raise Forbidden(f"{provider} did not tell your e-mail address.", code="sso_no_email") from None
    if not verified:
        raise Forbidden(
            f"{provider} has not confirmed your e-mail address. Confirm it there first.", code="sso_unverified"
        )
    with transaction.atomic():
        user = User.objects.filter(email__iexact=address).first()
        if user is not None:
            _check_existing(user, address)
        else:
            user = _new(address, name)
        joined = _let_in(user, address, dict(facts))
        if not joined and not Membership.objects.all_orgs().filter(user=user).exists():
            raise Forbidden(
                f"{address} is not invited to any organization here. Ask somebody of yours for an invitation.",
                code="sso_not_invited",
            )
        record_mfa_change(user=user, facts=facts, what=f"Linked to {provider}.")
    return user


def unlink_sso(*, actor: Actor, user: User) -> None:
    """End the link; the password is the way in from then on. Raises Conflict when there is none, NotFound without a link."""
    with transaction.atomic():
        rows = SocialAccount.objects.filter(user=user)
        if not rows.exists():
            raise NotFound("Your account is not linked to a single sign-on.")
        if not user.has_usable_password():
            raise Conflict("Choose a password first; without it you could not log in any more.", code="no_password")
        rows.delete()
        audit.record(actor=actor, verb="mfa.changed", target=user, detail="Single sign-on: removed.")


def log_sso_failure(*, reason: str, facts: Mapping[str, str]) -> None:
    """A log line for the operator; nobody's audit log, as nobody is known."""
    log.warning("sso_failed", extra={"reason": reason[:300], "ip": facts.get("ip", "")})


def domains() -> dict[str, tuple[UUID, str]]:
    """Domain to organization and role, from `CURFEW_OIDC_DOMAINS` (`larkspur.com=<organization id>:viewer`)."""
    found: dict[str, tuple[UUID, str]] = {}
    for part in settings.CURFEW_OIDC_DOMAINS:
        domain, _, rest = part.partition("=")
        house, _, role = rest.partition(":")
        try:
            found[domain.strip().lower()] = (UUID(house.strip()), role.strip() or Role.VIEWER)
        except ValueError:
            log.error("sso_domain_unreadable", extra={"entry": part[:200]})
    return {d: (h, r) for d, (h, r) in found.items() if r in Role.values and r != Role.OWNER}


def _check_existing(user: User, address: str) -> None:
    if not user.is_active:
        raise Forbidden("This person's access was switched off.", code="inactive")
    if not EmailAddress.objects.filter(user=user, email__iexact=address, verified=True).exists():
        raise Forbidden(
            f"{address} has an account here whose e-mail address was never confirmed. Log in with its password and "
            "confirm the address under Settings, Security; then the single sign-on works.",
            code="sso_unconfirmed_here",
        )


def _new(address: str, name: str) -> User:
    user = User(email=address, name=name.strip()[:120])
    user.set_unusable_password()
    user.save(force_insert=True)
    EmailAddress.objects.create(user=user, email=address, primary=True, verified=True)
    return user


def _let_in(user: User, address: str, facts: dict[str, str]) -> bool:
    """Join by open invitations to the address, and by its domain; only at the first single sign-on, so that who was
    removed stays out."""
    joined = False
    now = clock.now()
    waiting = (
        Invitation.objects.all_orgs()
        .select_for_update()
        .filter(email__iexact=address, accepted_at=None, revoked_at=None, expires_at__gt=now)
    )
    for invitation in waiting:
        joined = join(invitation, user, dict(facts)) is not None or joined
    house_id, role = domains().get(address.rpartition("@")[2], (None, ""))
    house = Organization.objects.filter(pk=house_id, closed_at=None).first() if house_id else None
    if house is not None:
        row, made = Membership.objects.for_org(house.pk).get_or_create(
            organization=house, user=user, defaults={"role": role}
        )
        joined = True
        if made:
            actor = Actor(ActorKind.USER, str(user.pk), user.display_name, house.pk, permissions_of(role), **facts)
            audit.record(
                actor=actor,
                verb="member.joined",
                target=row,
                target_label=user.email,
                changes={"role": [None, role]},
                detail="By single sign-on, for the domain of the e-mail address.",
            )
            publish(house.pk, "accounts", [row.id])
    return joined
