"""Log in, sign up, log out, switch organization."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.internal.flows.login import perform_login, record_authentication
from allauth.account.models import Login
from allauth.account.views import LoginView
from django.conf import settings
from django.core.exceptions import NON_FIELD_ERRORS
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from accounts import selectors, services, sso
from accounts.access import caller_of, signed_in
from accounts.adapter import LOCKED_SECONDS
from accounts.facts import facts_of_request
from accounts.forms import PortalLoginForm, SignUpForm, show_error
from accounts.throttles import SignupThrottle
from core.errors import CurfewError
from core.htmx import redirect, render_page


class PortalLoginView(LoginView):
    """allauth's log-in (limits, lock-out, second factor) in our own page; 422 when something is wrong."""

    template_name = "accounts/login.html"
    form_class = PortalLoginForm

    def form_invalid(self, form: Any) -> HttpResponse:
        response: HttpResponse = super().form_invalid(form)
        locked = form.has_error(NON_FIELD_ERRORS, "too_many_login_attempts")
        response.status_code = 429 if locked else 422
        if locked:
            response["Retry-After"] = str(LOCKED_SECONDS)
        return response

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        next_url = self.request.POST.get("next") or self.request.GET.get("next") or ""
        return {
            **super().get_context_data(**kwargs),
            "next": next_url,
            "signup_open": settings.CURFEW_ALLOW_SIGNUP,
            "sso_name": settings.CURFEW_OIDC_NAME if sso.is_offered() else "",
        }


login = PortalLoginView.as_view()


@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "POST"])
def signup(request: HttpRequest) -> HttpResponse:
    """Make person and organization, sign in, go to the wizard."""
    if request.user.is_authenticated:
        return HttpResponseRedirect("/")
    form = SignUpForm(request.POST if request.method == "POST" else None)
    context: dict[str, Any] = {"form": form, "open": settings.CURFEW_ALLOW_SIGNUP}
    if request.method == "GET" or not form.is_valid():
        return render_page(request, "accounts/signup.html", context, status=422 if form.is_bound else 200)
    if not SignupThrottle.page_allows(request):
        form.add_error(None, "Too many sign-ups from your address. Try again in an hour.")
        return render_page(request, "accounts/signup.html", context, status=429)
    try:
        made = services.sign_up(**form.cleaned_data, facts=facts_of_request(request))
    except CurfewError as refused:
        show_error(form, refused)
        return render_page(request, "accounts/signup.html", context, status=refused.status)
    made.user.backend = settings.AUTHENTICATION_BACKENDS[0]
    record_authentication(request, made.user, method="sign-up")
    response: HttpResponse = perform_login(request, Login(user=made.user, email=made.user.email, signup=True))
    return response


def too_many(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """The page of every limit that allauth keeps (resets, confirmations, sign-ins)."""
    response = render(request, "errors/429.html", {"reason": "", "page_title": "Too many requests"}, status=429)
    response["Retry-After"] = str(LOCKED_SECONDS)
    return response


@require_POST
def logout(request: HttpRequest) -> HttpResponse:
    """End the session, also one that waits for its second factor."""
    caller = getattr(request, "caller", None)
    if caller is not None:
        services.record_sign_out(actor=caller.actor, user=caller.user)
    get_adapter(request).logout(request)
    return redirect(request, reverse("accounts:login"))


@require_POST
@signed_in
def switch_organization(request: HttpRequest) -> HttpResponse:
    """Act in another of one's organizations from now on, in this browser."""
    caller = services.switch_organization(
        user=caller_of(request).user,
        organization_id=request.POST.get("organization", ""),
        facts=facts_of_request(request),
    )
    request.session[selectors.SESSION_ORG] = str(caller.organization.pk)
    back = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()}, require_https=request.is_secure())
    return redirect(request, back if safe else "/")
