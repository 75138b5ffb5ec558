"""To the provider of the single sign-on and back."""

from __future__ import annotations

import secrets
from typing import Any

from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts import services, sso
from accounts.access import caller_of, signed_in
from accounts.facts import facts_of_request
from accounts.throttles import LoginThrottle
from accounts.views.common import done
from core.errors import Conflict
from core.htmx import redirect


@never_cache
@require_safe
def login(request: HttpRequest) -> HttpResponse:
    """Off to the provider, with a fresh state, nonce and PKCE challenge kept in the session."""
    if not sso.is_offered():
        raise Http404
    if not LoginThrottle.page_allows(request):
        return sso.back_to_login(request, "Too many attempts. Wait a minute and try again.")
    back = request.GET.get("next", "")
    safe = url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()}, require_https=request.is_secure())
    nonce = secrets.token_urlsafe(24)
    adapter = sso.SsoAdapter(request)
    provider = adapter.get_provider()
    provider.oauth2_adapter_class = lambda asked, _: sso.SsoAdapter(asked)
    try:
        response: HttpResponse = provider.redirect(
            request, process="login", next_url=back if safe else None, auth_params={"nonce": nonce}, nonce=nonce
        )
    except ImmediateHttpResponse as instead:
        response = instead.response
    except (OAuth2Error, sso.NetworkTrouble, ValueError, KeyError) as failed:
        services.log_sso_failure(reason=f"{type(failed).__name__}: {failed}", facts=facts_of_request(request))
        return sso.back_to_login(request, sso.FAILED)
    return response


class _Callback(OAuth2CallbackView):
    def _get_state(self, request: HttpRequest, provider: Any) -> tuple[Any, Any]:
        state, response = super()._get_state(request, provider)
        self.adapter.state = state or {}
        return state, response


@never_cache
@require_safe
def callback(request: HttpRequest) -> HttpResponse:
    """Back from the provider: log in, or the log-in page with the reason."""
    if not sso.is_offered():
        raise Http404
    try:
        response: HttpResponse = _Callback.adapter_view(sso.SsoAdapter(request))(request)
    except (ValueError, KeyError, TypeError) as garbled:  # the provider's answers are no JSON, or lack a field
        services.log_sso_failure(reason=f"{type(garbled).__name__}: {garbled}", facts=facts_of_request(request))
        return sso.back_to_login(request, sso.FAILED)
    return response


@require_POST
@signed_in
def unlink(request: HttpRequest) -> HttpResponse:
    """End one's own link."""
    caller = caller_of(request)
    try:
        services.unlink_sso(actor=caller.actor, user=caller.user)
    except Conflict as refused:
        messages.error(request, refused.message)
        return redirect(request, reverse("accounts:security"))
    return done(request, reverse("accounts:security"), "The link to the single sign-on is ended.")
