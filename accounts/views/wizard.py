"""The first-run wizard: four steps with addresses of their own, left at any time, never back by itself."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe

from accounts import sandbox, selectors, services
from accounts.access import caller_of, signed_in
from accounts.models import CloudAccount
from accounts.views import connecting
from accounts.views.cloud import card_of
from core.htmx import redirect, render_page

STEPS = ("Welcome", "Method", "Credentials", "Done")


def _render(
    request: HttpRequest, template: str, context: dict[str, Any], *, fragment: str = "", status: int = 200
) -> HttpResponse:
    number = int(context.get("step_number", 3))
    steps = [{"label": label, "current": i == number, "done": i < number} for i, label in enumerate(STEPS, start=1)]
    return render_page(
        request, template, {"steps": steps, "step_number": number, **context}, fragment=fragment, status=status
    )


def _finish(request: HttpRequest, row: CloudAccount) -> HttpResponse:
    return redirect(request, reverse("accounts:wizard-done", args=[row.id]))


PLACE = connecting.Place(
    template="accounts/wizard_connect.html",
    choose="accounts:wizard-method",
    fill="accounts:wizard-connect",
    render=_render,
    finish=_finish,
)


@signed_in
@require_safe
def welcome(request: HttpRequest) -> HttpResponse:
    """Step 1: what this is for."""
    caller = caller_of(request)
    context = {
        "step_number": 1,
        "page_title": "Welcome",
        "person": caller.user.display_name,
        "house": caller.organization.name,
        "sandbox_offered": sandbox.is_offered(),
        "may_manage": caller.actor.can("accounts.manage"),
    }
    return _render(request, "accounts/wizard_welcome.html", context)


@signed_in
@require_GET
def method(request: HttpRequest) -> HttpResponse:
    """Step 2: role or keys, or another cloud."""
    caller_of(request).actor.require("accounts.manage", "connect cloud accounts")
    context = {"step_number": 2, "page_title": "How to connect", **connecting.choice_context(request, PLACE)}
    return _render(request, "accounts/wizard_method.html", context)


@signed_in
@require_http_methods(["GET", "POST"])
def connect(request: HttpRequest, provider: str, method: str) -> HttpResponse:
    """Step 3: the fields; the cloud is asked at once."""
    return connecting.fill_in(request, PLACE, provider, method)


@require_POST
@signed_in
def connect_sandbox(request: HttpRequest) -> HttpResponse:
    """Straight to step 4 with a sandbox account."""
    return connecting.connect_sandbox(request, PLACE)


@signed_in
@require_safe
def finished(request: HttpRequest, account_id: UUID) -> HttpResponse:
    """Step 4: connected; the scan's progress."""
    row = selectors.get_account(actor=caller_of(request).actor, account_id=account_id)
    context = {"step_number": 4, "page_title": "Connected", "card": card_of(row)}
    return _render(request, "accounts/wizard_done.html", context, fragment="progress")


@require_POST
@signed_in
def skip(request: HttpRequest) -> HttpResponse:
    """Leave the wizard for good."""
    services.close_wizard(user=caller_of(request).user)
    return redirect(request, "/")
