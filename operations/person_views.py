"""Settings, My data: the export and its file; and closing the organization."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from allauth.account.internal.flows.reauthentication import raise_if_reauthentication_required
from django.contrib import messages
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import selectors as accounts
from accounts.access import caller_of, signed_in
from accounts.views.common import done, settings_page
from core.errors import Conflict, InvalidInput
from operations import closing, personal_export


@signed_in
@require_safe
def my_data(request: HttpRequest) -> HttpResponse:
    """What one may take along, and the way out."""
    caller = caller_of(request)
    found = personal_export.exports_of(actor=caller.actor)
    context = {
        "page_title": "My data",
        "exports": [
            {"operation": o, "ready": o.status == "succeeded" and personal_export.path_of(o).is_file()} for o in found
        ],
        "under_way": any(not o.is_final for o in found),
        "may_go": not accounts.blockers_of_leaving(caller.user),
    }
    return settings_page(request, "operations/my_data.html", context, fragment="exports")


@require_POST
@signed_in
def export(request: HttpRequest) -> HttpResponse:
    """Order it."""
    try:
        personal_export.request_export(actor=caller_of(request).actor)
    except Conflict as refused:
        messages.error(request, refused.message)
        return HttpResponseRedirect(reverse("operations:my-data"))
    return done(request, reverse("operations:my-data"), "Your data is being gathered. The file appears below.")


@signed_in
@require_safe
def download(request: HttpRequest, operation_id: UUID) -> HttpResponse:
    """One's own file."""
    path = personal_export.fetch(actor=caller_of(request).actor, operation_id=operation_id)
    response: Any = FileResponse(path.open("rb"), as_attachment=True, filename="curfew-my-data.zip")
    response["Cache-Control"] = "private, no-store"
    return cast(HttpResponse, response)


@signed_in
@require_http_methods(["GET", "POST"])
def close(request: HttpRequest) -> HttpResponse:
    """Confirm with the typed name, then close the organization step by step."""
    caller = caller_of(request)
    caller.actor.require("organization.delete", "close the organization")
    raise_if_reauthentication_required(request, app="")
    errors: dict[str, Any] = {}
    if request.method == "POST":
        try:
            operation = closing.request_close(
                actor=caller.actor,
                typed_name=request.POST.get("confirm_name", ""),
                wake=request.POST.get("sleepers", "wake") == "wake",
            )
        except InvalidInput as refused:
            errors = refused.errors
        except Conflict as refused:
            messages.error(request, refused.message)
            return HttpResponseRedirect(reverse("accounts:settings-organization"))
        else:
            return HttpResponseRedirect(operation.get_absolute_url())
    context = {
        "page_title": f"Close {caller.organization.name}",
        "house": caller.organization.name,
        "blast": closing.blast_radius(actor=caller.actor),
        "errors": errors,
        "typed": request.POST.get("confirm_name", ""),
        "sleepers": request.POST.get("sleepers", "wake"),
        "currency": caller.organization.currency,
    }
    return settings_page(request, "operations/close.html", context, status=422 if errors else 200)
