"""What allauth tells us, as audit lines. It and we must not know each other's insides, so these are its own signals."""

from __future__ import annotations

from typing import Any

from allauth.account import signals as account_signals
from allauth.mfa import signals as mfa_signals
from allauth.mfa.models import Authenticator
from django.http import HttpRequest

from accounts import services
from accounts.facts import facts_of_request
from accounts.models import User


def _password_changed(request: HttpRequest, user: User, **kwargs: Any) -> None:
    services.password_changed(user=user, facts=facts_of_request(request))


def _factor(what: str) -> Any:
    def receive(request: HttpRequest, user: User, authenticator: Authenticator, **kwargs: Any) -> None:
        kind = str(authenticator.get_type_display())
        services.record_mfa_change(user=user, facts=facts_of_request(request), what=f"{kind}: {what}.")

    return receive


def _factor_failed(request: HttpRequest, user: User, **kwargs: Any) -> None:
    services.record_sign_in_failure(email=user.email, facts=facts_of_request(request), why="Wrong second factor.")


def connect() -> None:
    """Listen; called once when the app is ready."""
    for signal in (account_signals.password_changed, account_signals.password_set, account_signals.password_reset):
        signal.connect(_password_changed, dispatch_uid="accounts.password", weak=False)
    for signal, what in (
        (mfa_signals.authenticator_added, "added"),
        (mfa_signals.authenticator_removed, "removed"),
        (mfa_signals.authenticator_reset, "made anew"),
    ):
        signal.connect(_factor(what), dispatch_uid=f"accounts.factor.{what}", weak=False)
    mfa_signals.authentication_failed.connect(_factor_failed, dispatch_uid="accounts.factor.failed", weak=False)
