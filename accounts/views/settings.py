"""Settings, Basics: the person, the organization, the appearance."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from accounts import services
from accounts.access import caller_of, signed_in
from accounts.forms import AppearanceForm, OrganizationForm, ProfileForm, show_error
from accounts.views.common import done, settings_page
from core.errors import InvalidInput


def _page(request: HttpRequest, *, status: int = 200, **bound: Any) -> HttpResponse:
    caller = caller_of(request)
    house = caller.organization
    forms = {
        "profile": ProfileForm(initial={"name": caller.user.name}, prefix="profile"),
        "organization": OrganizationForm(
            initial={"name": house.name, "timezone": house.timezone}, prefix="organization"
        ),
        "appearance": AppearanceForm(initial={"theme": caller.user.theme}, prefix="appearance"),
        **bound,
    }
    context = {
        "page_title": "Settings",
        "forms": forms,
        "email": caller.user.email,
        "role": caller.membership.get_role_display(),
        "house": {"name": house.name, "timezone": house.timezone, "currency": house.currency},
        "may_manage": caller.actor.can("organization.manage"),
    }
    return settings_page(request, "accounts/settings.html", context, status=status)


@signed_in
@require_safe
def settings(request: HttpRequest) -> HttpResponse:
    """The page."""
    return _page(request)


@require_POST
@signed_in
def profile(request: HttpRequest) -> HttpResponse:
    """Save one's own name."""
    caller = caller_of(request)
    form = ProfileForm(request.POST, prefix="profile")
    if not form.is_valid():
        return _page(request, status=422, profile=form)
    services.update_profile(actor=caller.actor, user=caller.user, name=form.cleaned_data["name"])
    return done(request, reverse("accounts:settings"), "Your profile is saved.")


@require_POST
@signed_in
def organization(request: HttpRequest) -> HttpResponse:
    """Save the organization's name and zone."""
    caller = caller_of(request)
    caller.actor.require("organization.manage", "change the organization")
    form = OrganizationForm(request.POST, prefix="organization")
    if form.is_valid():
        try:
            services.update_organization(actor=caller.actor, **form.cleaned_data)
        except InvalidInput as refused:
            show_error(form, refused)
        else:
            return done(request, reverse("accounts:settings"), "The organization is saved.")
    return _page(request, status=422, organization=form)


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
