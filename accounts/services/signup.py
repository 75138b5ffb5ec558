"""Signing up: a person, an organization, an ownership and a placeholder cloud account, all or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction

from accounts.enums import AccountStatus, Method, Provider, Role
from accounts.models import CloudAccount, Membership, Organization, User
from accounts.permissions import permissions_of
from audit import services as audit
from core.actor import Actor, ActorKind
from core.errors import Forbidden, InvalidInput

PLACEHOLDER_NAME = "AWS account"
TAKEN = "Somebody has signed up with this e-mail address already. Log in instead."


@dataclass(frozen=True, slots=True)
class SignedUp:
    """What a sign-up made; `account` is the placeholder that the first connection fills in."""

    user: User
    organization: Organization
    membership: Membership
    account: CloudAccount


def sign_up(
    *, organization: str, email: str, password: str, name: str = "", facts: Mapping[str, str] | None = None
) -> SignedUp:
    """Create user, organization, ownership and placeholder account in one transaction.

    `facts` are request_id, ip and user_agent for the audit line. The password is stored as a bcrypt hash. Raises
    Forbidden when this server takes no sign-ups, and InvalidInput with messages per field: organization, email,
    password (too weak), or an e-mail address that is taken.
    """
    if not settings.CURFEW_ALLOW_SIGNUP:
        raise Forbidden("This server takes no new sign-ups. Ask its operator for an account.", code="signup_closed")
    user = User(email=email.strip().lower(), name=name.strip())
    title = organization.strip()
    errors = _problems(user, title, password)
    if errors:
        raise InvalidInput(errors=errors)
    user.password = make_password(password)  # slow on purpose, so before the transaction
    try:
        with transaction.atomic():
            return _create(user, title, dict(facts or {}))
    except IntegrityError:
        if User.objects.filter(email__iexact=user.email).exists():
            raise InvalidInput(errors={"email": [TAKEN]}) from None
        raise


def _problems(user: User, title: str, password: str) -> dict[str, list[str]]:
    errors: dict[str, list[str]] = {}
    if not title:
        errors["organization"] = ["Give your organization a name."]
    elif len(title) > 120:
        errors["organization"] = ["An organization's name has at most 120 characters."]
    try:
        validate_email(user.email)
    except ValidationError:
        errors["email"] = ["This is not an e-mail address."]
    else:
        if len(user.email) > 254:
            errors["email"] = ["An e-mail address has at most 254 characters."]
        elif User.objects.filter(email__iexact=user.email).exists():
            errors["email"] = [TAKEN]
    if len(user.name) > 120:
        errors["name"] = ["A name has at most 120 characters."]
    try:
        validate_password(password, user)
    except ValidationError as weak:
        errors["password"] = list(weak.messages)
    return errors


def _create(user: User, title: str, facts: dict[str, str]) -> SignedUp:
    user.save(force_insert=True)
    EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=False)
    return _found(user, title, facts)


def create_organization(*, user: User, name: str, facts: Mapping[str, str] | None = None) -> SignedUp:
    """One more organization, owned by a person who is signed in. Raises InvalidInput, and Forbidden as `sign_up` does."""
    if not settings.CURFEW_ALLOW_SIGNUP:
        raise Forbidden("This server takes no new organizations. Ask its operator.", code="signup_closed")
    title = name.strip()
    if not 0 < len(title) <= 120:
        raise InvalidInput(errors={"name": ["An organization's name has 1 to 120 characters."]})
    with transaction.atomic():
        return _found(user, title, dict(facts or {}))


def _found(user: User, title: str, facts: dict[str, str]) -> SignedUp:
    house = Organization.objects.create(name=title)
    membership = Membership(organization=house, user=user, role=Role.OWNER)
    membership.save(force_insert=True)
    account = CloudAccount(
        organization=house,
        provider=Provider.AWS,
        name=PLACEHOLDER_NAME,
        method=Method.NONE,
        status=AccountStatus.PENDING,
    )
    account.save(force_insert=True)
    actor = Actor(ActorKind.USER, str(user.pk), user.display_name, house.pk, permissions_of(Role.OWNER), **facts)
    audit.record(actor=actor, verb="organization.created", target=house, changes={"owner": [None, user.email]})
    return SignedUp(user, house, membership, account)
