"""How django-allauth is bent to our house: accounts are made by our own sign-up service only."""

from __future__ import annotations

import logging
import time
from typing import Any
from urllib.parse import urlsplit

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.flows.login import get_authentication_records
from allauth.account.internal.flows.reauthentication import get_reauthentication_flows
from allauth.core import context
from allauth.mfa.adapter import DefaultMFAAdapter
from django.conf import settings
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from accounts import services, vault
from accounts.facts import facts_of_request
from accounts.landing import landing_url
from accounts.models import User
from core.errors import Forbidden
from core.middleware import client_ip

log = logging.getLogger(__name__)
TOO_MANY = "Too many attempts. Wait five minutes and try again, or choose a new password by the link below."
LOCKED_SECONDS = 300
FRESH_SECONDS = 300


LINKS = {"activate_url": "Confirm the address", "password_reset_url": "Choose a new password"}
HOW = {"socialaccount": "single sign-on", "mfa": "second factor"}


class AccountAdapter(DefaultAccountAdapter):
    """Closes allauth's own sign-up page; ours creates user, organization and placeholder account together."""

    error_messages = {
        **DefaultAccountAdapter.error_messages,
        "email_password_mismatch": "The e-mail address or the password is not right.",
        "too_many_login_attempts": TOO_MANY,
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def get_login_redirect_url(self, request: HttpRequest) -> Any:
        return landing_url(request.user) if isinstance(request.user, User) else "/"

    def get_signup_redirect_url(self, request: HttpRequest) -> Any:
        return self.get_login_redirect_url(request)

    def is_reauthentication_required(self, *, app: str = "") -> bool:
        """Whoever has neither password nor second factor shows it by a fresh single sign-on instead."""
        request = context.request
        if not get_reauthentication_flows(request.user):
            newest = max((r["at"] for r in get_authentication_records(request, request.user)), default=0)
            if time.time() - newest > FRESH_SECONDS:
                raise Forbidden(
                    "Is it still you? Log out and in again, then come back within five minutes.", code="stale"
                )
            return False
        return bool(super().is_reauthentication_required(app=app))

    def get_client_ip(self, request: HttpRequest) -> str:
        """The address that rate limits count by: believed from a trusted proxy only."""
        return client_ip(request) or "unknown"

    def send_mail(self, template_prefix: str, email: str, facts: dict[str, Any]) -> None:
        """As allauth's, but sent after a commit too, when the request is over."""
        site = {"name": "Curfew", "domain": urlsplit(settings.CURFEW_BASE_URL).netloc}
        words = {"request": context.request, "email": email, "current_site": site, **facts}
        self.render_mail(template_prefix, email, words).send()

    def render_mail(
        self, template_prefix: str, email: Any, context: dict[str, Any], headers: dict[str, str] | None = None
    ) -> EmailMessage:
        """The words of allauth's template in the look of our other mails, as text and HTML."""
        plain = super().render_mail(template_prefix, email, context, headers)
        url, button = next(((context[n], words) for n, words in LINKS.items() if context.get(n)), ("", ""))
        words = {
            "items": [{"subject": plain.subject, "body": str(plain.body).strip(), "url": url, "button": button}],
            "title": plain.subject,
            "preview": str(plain.body).strip()[:140],
            "why": f"This mail went to {', '.join(plain.to)}, the address given at Curfew.",
            "base_url": settings.CURFEW_BASE_URL,
        }
        text = render_to_string("email/message.txt", words)
        mail = EmailMultiAlternatives(
            plain.subject,
            text,
            plain.from_email,
            plain.to,
            headers={"Auto-Submitted": "auto-generated", **(headers or {})},
        )
        mail.attach_alternative(render_to_string("email/message.html", words), "text/html")
        return mail

    def send_notification_mail(self, *args: Any, **kwargs: Any) -> None:
        """Tell the person what changed; a mail server that is away does not undo it."""
        try:
            super().send_notification_mail(*args, **kwargs)
        except OSError as failed:  # SMTP's own errors are of this kind
            log.warning("security_mail_not_sent", extra={"reason": type(failed).__name__})

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        services.record_sign_in_failure(
            email=str(credentials.get("email", "")), facts=facts_of_request(request), why="Wrong password."
        )

    def post_login(self, request: HttpRequest, user: Any, **kwargs: Any) -> HttpResponse:
        methods = [HOW.get(r["method"], r["method"]) for r in get_authentication_records(request, user)]
        services.record_sign_in(
            user=user, facts=facts_of_request(request), how=" and ".join(dict.fromkeys(methods)) or "session"
        )
        response: HttpResponse = super().post_login(request, user, **kwargs)
        return response


class MFAAdapter(DefaultMFAAdapter):
    """Secrets of second factors are encrypted like every other secret."""

    def encrypt(self, text: str) -> str:
        return vault.seal_mfa(text)

    def decrypt(self, encrypted_text: str) -> str:
        return vault.open_mfa(encrypted_text)
