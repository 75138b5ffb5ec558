"""Settings, Security: password, second factors, sessions. The changes themselves are allauth's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from allauth.account.internal.flows.email_verification import send_verification_email_to_address
from allauth.account.views import PasswordChangeView
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from allauth.usersessions.views import ListUserSessionsView
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse, reverse_lazy
from django.views.decorators.http import require_POST, require_safe

from accounts import selectors, services
from accounts.access import caller_of, signed_in
from accounts.views.common import done, settings_page
from core.htmx import redirect


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that is signed in."""

    id: int
    ip: str
    browser: str
    started: datetime
    seen: datetime
    is_current: bool


@dataclass(frozen=True, slots=True)
class Passkey:
    """A key that can sign in or be a second factor."""

    id: int
    name: str
    passwordless: bool
    created: datetime
    used: datetime | None


@signed_in
@require_safe
def security(request: HttpRequest) -> HttpResponse:
    """The page."""
    user = caller_of(request).user
    found = selectors.factors_of(user)
    codes = next((a for a in found if a.type == Authenticator.Type.RECOVERY_CODES), None)
    context = {
        "page_title": "Security",
        "totp": next((a for a in found if a.type == Authenticator.Type.TOTP), None),
        "passkeys": [_passkey(a) for a in found if a.type == Authenticator.Type.WEBAUTHN],
        "has_codes": codes is not None,
        "codes_left": len(codes.wrap().get_unused_codes()) if codes else 0,
        "sso_name": settings.CURFEW_OIDC_NAME if settings.CURFEW_OIDC_ISSUER else "",
        "sso_link": next(iter(selectors.sso_links_of(user)), None),
        "email": user.email,
        "address": selectors.address_of(user),
        "has_password": user.has_usable_password(),
        "sessions": [_session(s) for s in selectors.sessions_of(user)],
    }
    return settings_page(request, "accounts/security.html", context)


def _passkey(row: Authenticator) -> Passkey:
    key = row.wrap()
    return Passkey(row.pk, key.name, bool(key.is_passwordless), row.created_at, row.last_used_at)


def _session(row: UserSession) -> Session:
    return Session(row.pk, row.ip, browser_name(row.user_agent), row.created_at, row.last_seen_at, row.is_current())


def browser_name(agent: str) -> str:
    """A few words for a user agent: "Firefox on Linux"; its first part when nothing is recognised."""
    browsers = (
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
        ("curl/", "curl"),
    )
    systems = (
        ("Windows", "Windows"),
        ("Android", "Android"),
        ("iPhone", "iOS"),
        ("iPad", "iPadOS"),
        ("Mac OS", "macOS"),
        ("Linux", "Linux"),
    )
    browser = next((name for mark, name in browsers if mark in agent), agent.split(" ")[0][:40] or "Unknown browser")
    system = next((name for mark, name in systems if mark in agent), "")
    return f"{browser} on {system}" if system else browser


class SessionsView(ListUserSessionsView):
    """Ends all other sessions; the list is on the security page."""

    success_url = reverse_lazy("accounts:security")

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return HttpResponseRedirect(reverse("accounts:security"))


@require_POST
@signed_in
def session_end(request: HttpRequest, session_id: int) -> HttpResponse:
    """Log one other browser out; one's own goes by the ordinary way."""
    caller = caller_of(request)
    services.end_session(actor=caller.actor, user=caller.user, session_id=session_id)
    return done(request, reverse("accounts:security"), "That browser is logged out.")


@require_POST
@signed_in
def confirm_email(request: HttpRequest) -> HttpResponse:
    """Send the link that confirms one's own address; at most one in three minutes."""
    address = selectors.address_of(caller_of(request).user)
    if address is None or address.verified:
        return done(request, reverse("accounts:security"), "Your e-mail address is confirmed already.")
    if send_verification_email_to_address(request, address):
        return done(
            request, reverse("accounts:security"), f"A link is on its way to {address.email}. Open it to confirm."
        )
    messages.error(request, "A link was sent a moment ago. Look into your mail, or wait three minutes for another.")
    return redirect(request, reverse("accounts:security"))


sessions = SessionsView.as_view()
password_change = PasswordChangeView.as_view(success_url=reverse_lazy("accounts:security"))
