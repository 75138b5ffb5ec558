"""Password and second factor of an API log-in, through allauth's own checks, limits and lock-out."""

from __future__ import annotations

from uuid import UUID

from allauth.account import app_settings
from allauth.account.adapter import get_adapter
from allauth.account.models import EmailAddress
from allauth.mfa.base.forms import AuthenticateForm
from allauth.mfa.models import Authenticator
from allauth.mfa.utils import is_mfa_enabled
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from accounts import selectors, services
from accounts.facts import facts_of_request
from accounts.models import User
from core.errors import Forbidden, NotFound, NotSignedIn, RateLimited

LOCKED = "Too many attempts. Wait a few minutes and try again."
WAIT_SECONDS = 300


def log_in(
    request: HttpRequest, *, email: str, password: str, otp: str = "", organization_id: UUID | None = None
) -> selectors.Caller:
    """The person behind an e-mail address and password, with a second factor where one is set up.

    Raises NotSignedIn with the code `invalid_credentials`, `inactive`, `email_not_verified`, `mfa_required` or
    `mfa_invalid`; RateLimited after too many attempts; Forbidden for a member of nothing; NotFound for an organization
    that the person is no member of.
    """
    user = _check_password(request, email, password)
    if needs_verified_email(user):
        raise NotSignedIn("Confirm your e-mail address first; the link is in your mail.", code="email_not_verified")
    if is_mfa_enabled(user, [Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN]):
        _check_second_factor(user, otp)
    facts = facts_of_request(request)
    caller = selectors.caller_for(user, organization_id, **facts)
    if caller is None:
        raise Forbidden("You are not a member of any organization.")
    if organization_id and caller.organization.pk != organization_id:
        raise NotFound("There is no such organization.")
    services.record_sign_in(
        user=user, facts=facts, how="password and code over the API" if otp else "password over the API"
    )
    return caller


def _check_password(request: HttpRequest, email: str, password: str) -> User:
    try:
        user = get_adapter(request).authenticate(request, email=email.strip(), password=password)
    except ValidationError:
        raise RateLimited(LOCKED, retry_after=WAIT_SECONDS) from None
    if user is None:
        raise NotSignedIn("The e-mail address or the password is not right.", code="invalid_credentials")
    if not user.is_active:
        raise NotSignedIn("This person's access was switched off.", code="inactive")
    known: User = user
    return known


def needs_verified_email(user: User) -> bool:
    """True when this server insists on confirmed addresses and this one is not."""
    mandatory = app_settings.EMAIL_VERIFICATION == app_settings.EmailVerificationMethod.MANDATORY
    return mandatory and not EmailAddress.objects.filter(user=user, verified=True).exists()


def _check_second_factor(user: User, otp: str) -> None:
    if not otp.strip():
        raise NotSignedIn("Send the code of your authenticator app as `otp`.", code="mfa_required")
    form = AuthenticateForm(user=user, data={"code": otp.strip()})
    if form.is_valid():
        form.authenticator.record_usage()
        return
    if form.has_error("code", "too_many_login_attempts"):
        raise RateLimited(LOCKED, retry_after=WAIT_SECONDS)
    raise NotSignedIn("The code is not right, or was used already.", code="mfa_invalid")
