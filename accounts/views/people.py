"""Settings, Members and API keys."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth import logout as end_session
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import selectors, services
from accounts.access import caller_of, signed_in
from accounts.forms import ApiKeyForm, InviteForm, show_error
from accounts.views.common import done, settings_page
from core import clock
from core.errors import Conflict, InvalidInput
from core.htmx import redirect


def members_page(request: HttpRequest, *, status: int = 200, **more: Any) -> HttpResponse:
    """Everybody, who is invited, and the table of roles."""
    actor = caller_of(request).actor
    may_invite = actor.can("members.manage")
    context = {
        "page_title": "Members",
        "members": selectors.list_members(actor=actor),
        "invitations": selectors.list_invitations(actor=actor) if may_invite else [],
        "may_invite": may_invite,
        "form": InviteForm(actor) if may_invite else None,
        "matrix": selectors.role_matrix(),
        **more,
    }
    return settings_page(request, "accounts/members.html", context, fragment="members", status=status)


@signed_in
@require_safe
def members(request: HttpRequest) -> HttpResponse:
    """The page."""
    return members_page(request)


@require_POST
@signed_in
def member_role(request: HttpRequest, membership_id: UUID) -> HttpResponse:
    """Give a member another role."""
    try:
        row = services.change_role(
            actor=caller_of(request).actor, membership_id=membership_id, role=request.POST.get("role", "")
        )
    except (Conflict, InvalidInput) as refused:
        messages.error(request, _words(refused))
        return redirect(request, reverse("accounts:members"))
    return done(
        request, reverse("accounts:members"), f"{row.user.display_name} is {row.get_role_display().lower()} now."
    )


@signed_in
@require_http_methods(["GET", "POST"])
def member_remove(request: HttpRequest, membership_id: UUID) -> HttpResponse:
    """Confirm, then take a member out."""
    actor = caller_of(request).actor
    member = selectors.get_member(actor=actor, membership_id=membership_id)
    if not member.is_me:
        actor.require("members.manage", "remove members")
    if request.method == "GET":
        context = {
            "page_title": f"Remove {member.name}",
            "member": member,
            "house": caller_of(request).organization.name,
        }
        return settings_page(request, "accounts/member_remove.html", context, fragment="dialog")
    try:
        services.remove_member(actor=actor, membership_id=membership_id)
    except Conflict as refused:
        messages.error(request, refused.message)
        return redirect(request, reverse("accounts:members"))
    if member.is_me and not selectors.memberships_of(caller_of(request).user):
        end_session(request)
        return redirect(request, reverse("accounts:login"))
    request.session.pop(selectors.SESSION_ORG, None) if member.is_me else None
    return done(request, "/" if member.is_me else reverse("accounts:members"), f"{member.name} was removed.")


def _keys(request: HttpRequest, *, status: int = 200, **more: Any) -> HttpResponse:
    actor = caller_of(request).actor
    context = {
        "page_title": "API keys",
        "keys": selectors.list_api_keys(actor=actor),
        "form": ApiKeyForm(actor),
        "now": clock.now(),
        **more,
    }
    return settings_page(request, "accounts/api_keys.html", context, fragment="keys", status=status)


@signed_in
@require_http_methods(["GET", "POST"])
def api_keys(request: HttpRequest) -> HttpResponse:
    """List keys, or make one: its text is on the answering page and nowhere else, so that page is not a redirect."""
    if request.method == "GET":
        return _keys(request)
    actor = caller_of(request).actor
    form = ApiKeyForm(actor, request.POST)
    if not form.is_valid():
        return _keys(request, status=422, form=form)
    try:
        key, text = services.create_api_key(actor=actor, **form.cleaned_data)
    except InvalidInput as refused:
        show_error(form, refused)
        return _keys(request, status=422, form=form)
    return _keys(request, status=201, made=key, made_text=text)


@require_POST
@signed_in
def api_key_revoke(request: HttpRequest, key_id: UUID) -> HttpResponse:
    """End a key at once."""
    key = services.revoke_api_key(actor=caller_of(request).actor, key_id=key_id)
    return done(request, reverse("accounts:api-keys"), f"The key {key.name} is revoked.")


def _words(refused: Conflict | InvalidInput) -> str:
    errors = getattr(refused, "errors", {})
    return " ".join(w for words in errors.values() for w in words) or refused.message
