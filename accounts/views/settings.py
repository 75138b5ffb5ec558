"""Settings: the person, their organizations and appearance; the organization."""

from __future__ import annotations

from typing import Any

from django.conf import settings as configuration
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import selectors, services
from accounts.access import caller_of, signed_in
from accounts.facts import facts_of_request
from accounts.forms import AppearanceForm, NewOrganizationForm, OrganizationForm, ProfileForm, show_error
from accounts.views.common import done, settings_page
from core.errors import InvalidInput


def _page(request: HttpRequest, *, status: int = 200, **bound: Any) -> HttpResponse:
    caller = caller_of(request)
    house = caller.organization
    forms = {
        "profile": ProfileForm(initial={"name": caller.user.name, "timezone": caller.user.timezone}, prefix="profile"),
        "appearance": AppearanceForm(initial={"theme": caller.user.theme}, prefix="appearance"),
        "new": NewOrganizationForm(prefix="new"),
        **bound,
    }
    context = {
        "page_title": "Profile",
        "forms": forms,
        "email": caller.user.email,
        "role": caller.membership.get_role_display(),
        "house": {"name": house.name, "timezone": house.timezone},
        "memberships": [
            {
                "organization": m.organization,
                "role": m.get_role_display(),
                "since": m.created_at,
                "current": m.organization_id == house.pk,
            }
            for m in selectors.memberships_of(caller.user)
        ],
        "may_found": configuration.CURFEW_ALLOW_SIGNUP,
    }
    return settings_page(request, "accounts/settings.html", context, status=status)


def _house_page(request: HttpRequest, *, status: int = 200, form: OrganizationForm | None = None) -> HttpResponse:
    caller = caller_of(request)
    house = caller.organization
    context = {
        "page_title": "Organization",
        "form": form
        or OrganizationForm(initial={"name": house.name, "timezone": house.timezone}, prefix="organization"),
        "house": {
            "name": house.name,
            "timezone": house.timezone,
            "currency": house.currency,
            "since": house.created_at,
        },
        "may_manage": caller.actor.can("organization.manage"),
        "may_close": caller.actor.can("organization.delete"),
    }
    return settings_page(request, "accounts/organization.html", context, status=status)


@signed_in
@require_safe
def settings(request: HttpRequest) -> HttpResponse:
    """The page."""
    return _page(request)


@require_POST
@signed_in
def profile(request: HttpRequest) -> HttpResponse:
    """Save one's own name and zone."""
    caller = caller_of(request)
    form = ProfileForm(request.POST, prefix="profile")
    if not form.is_valid():
        return _page(request, status=422, profile=form)
    services.update_profile(actor=caller.actor, user=caller.user, **form.cleaned_data)
    return done(request, reverse("accounts:settings"), "Your profile is saved.")


@signed_in
@require_http_methods(["GET", "POST"])
def organization(request: HttpRequest) -> HttpResponse:
    """Show the organization; save its name and zone."""
    caller = caller_of(request)
    if request.method == "GET":
        return _house_page(request)
    caller.actor.require("organization.manage", "change the organization")
    form = OrganizationForm(request.POST, prefix="organization")
    if form.is_valid():
        try:
            services.update_organization(actor=caller.actor, **form.cleaned_data)
        except InvalidInput as refused:
            show_error(form, refused)
        else:
            return done(request, reverse("accounts:settings-organization"), "The organization is saved.")
    return _house_page(request, status=422, form=form)


@require_POST
@signed_in
def organization_new(request: HttpRequest) -> HttpResponse:
    """Found one more organization and act in it."""
    caller = caller_of(request)
    form = NewOrganizationForm(request.POST, prefix="new")
    if form.is_valid():
        try:
            made = services.create_organization(
                user=caller.user, name=form.cleaned_data["name"], facts=facts_of_request(request)
            )
        except InvalidInput as refused:
            show_error(form, refused)
        else:
            request.session[selectors.SESSION_ORG] = str(made.organization.pk)
            return done(request, "/", f"{made.organization.name} is ready, and you act in it now.")
    return _page(request, status=422, new=form)


@require_POST
@signed_in
def appearance(request: HttpRequest) -> HttpResponse:
    """Keep light, dark or the system's colours for this person."""
    caller = caller_of(request)
    form = AppearanceForm(request.POST, prefix="appearance")
    if not form.is_valid():
        return _page(request, status=422, appearance=form)
    services.set_appearance(actor=caller.actor, user=caller.user, theme=form.cleaned_data["theme"])
    return done(request, reverse("accounts:settings"), "Your choice of colours is saved.")
