"""Inviting on the members page, and the page that an invitation's link opens."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from allauth.account.internal.flows.login import perform_login, record_authentication
from allauth.account.models import Login
from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from accounts import selectors, services
from accounts.access import caller_of, signed_in
from accounts.facts import facts_of_request
from accounts.forms import InviteForm, JoinForm, show_error
from accounts.models import User
from accounts.throttles import SignupThrottle
from accounts.views.common import done
from accounts.views.people import members_page
from core.errors import CurfewError, InvalidInput
from core.htmx import redirect, render_page


@require_POST
@signed_in
def invite(request: HttpRequest) -> HttpResponse:
    """Send an invitation; its link stands on the answering page, for when no mail arrives."""
    actor = caller_of(request).actor
    form = InviteForm(actor, request.POST)
    if not form.is_valid():
        actor.require("members.manage", "invite people")
        return members_page(request, status=422, form=form)
    try:
        row, link = services.invite(actor=actor, **form.cleaned_data)
    except CurfewError as refused:
        if refused.status == 403:
            raise
        show_error(form, refused)
        return members_page(request, status=refused.status, form=form)
    return members_page(request, status=201, invited=row, invited_link=link)


@require_POST
@signed_in
def invitation_change(request: HttpRequest, invitation_id: UUID, what: str) -> HttpResponse:
    """`what` is resend or revoke."""
    actor = caller_of(request).actor
    if what not in ("resend", "revoke"):
        raise Http404
    if what == "resend":
        row, link = services.resend_invitation(actor=actor, invitation_id=invitation_id)
        return members_page(request, invited=row, invited_link=link)
    row = services.revoke_invitation(actor=actor, invitation_id=invitation_id)
    return done(request, reverse("accounts:members"), f"The invitation of {row.email} is taken back.")


@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "POST"])
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """The link: join as the person who is signed in, log in first, or make a new person."""
    offer = services.open_invitation(token=token)
    me = request.user if isinstance(request.user, User) else None
    is_me = me is not None and me.email.lower() == offer.invitation.email.lower()
    form = JoinForm(request.POST if request.method == "POST" and offer.user is None and me is None else None)
    context: dict[str, Any] = {
        "offer": offer,
        "role": offer.invitation.get_role_display(),
        "inviter": offer.invitation.invited_by.display_name if offer.invitation.invited_by else "",
        "me": me,
        "is_me": is_me,
        "form": form,
        "here": request.path,
    }
    if request.method == "POST" and is_me and me is not None:
        joined = services.accept_invitation(token=token, user=me, facts=facts_of_request(request))
        request.session[selectors.SESSION_ORG] = str(joined.organization_id)
        messages.success(
            request, f"You are {offer.invitation.get_role_display().lower()} of {offer.organization.name}."
        )
        return redirect(request, "/")
    if request.method == "POST" and form.is_bound:
        return _join_anew(request, token, form, context)
    return render_page(request, "accounts/invitation.html", context)


def _join_anew(request: HttpRequest, token: str, form: JoinForm, context: dict[str, Any]) -> HttpResponse:
    if not form.is_valid():
        return render_page(request, "accounts/invitation.html", context, status=422)
    if not SignupThrottle.page_allows(request):
        form.add_error(None, "Too many sign-ups from your address. Try again in an hour.")
        return render_page(request, "accounts/invitation.html", context, status=429)
    try:
        user, joined = services.accept_as_new(token=token, facts=facts_of_request(request), **form.cleaned_data)
    except InvalidInput as refused:
        show_error(form, refused)
        return render_page(request, "accounts/invitation.html", context, status=422)
    user.backend = settings.AUTHENTICATION_BACKENDS[0]
    record_authentication(request, user, method="invitation")
    response: HttpResponse = perform_login(request, Login(user=user, email=user.email))
    if request.user.is_authenticated:
        request.session[selectors.SESSION_ORG] = str(joined.organization_id)
    return response
