"""Compliance: download reports, how long the log is kept, destinations, saved views."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from audit import anchor_places, selectors, services, signing
from audit.enums import SinkKind
from audit.forms import ExportForm, SettingsForm, SinkForm
from audit.streaming import stream
from audit.verifier import audit_verify
from audit.views.common import actor_of
from core import htmx
from core.errors import Forbidden, InvalidInput

Answer = HttpResponse | StreamingHttpResponse


def _page(request: HttpRequest, *, status: int = 200, **changed: Any) -> HttpResponse:
    actor = actor_of(request)
    actor.require(selectors.PERMISSION, "see the audit log")
    if actor.org_id is None:
        raise Forbidden("Act in one organization to see its compliance page.")
    kept = services.settings_of(actor.org_id)
    asked = request.POST.get("kind") or request.GET.get("kind", "")
    kind = asked if asked in SinkKind.values else SinkKind.WEBHOOK.value
    manages = actor.can("audit.manage")
    context = {
        "page_title": "Compliance",
        "export_form": ExportForm(),
        "settings_form": SettingsForm.of(kept),
        "sink_form": SinkForm(kind=kind) if manages else None,
        "kinds": [(value, label, value == kind) for value, label in SinkKind.choices],
        "volume": selectors.volume(actor=actor),
        "anchors": anchor_places.standing(actor.org_id) if manages else [],
        "kept": kept,
        "public_key": signing.ring().public_keys()[signing.ring().active_id],
        "exports": selectors.exports(actor=actor) if actor.can("audit.export") else [],
        "sinks": selectors.sinks(actor=actor) if manages else [],
        "may_export": actor.can("audit.export"),
        "may_manage": manages,
        **changed,
    }
    return htmx.render_page(request, "audit/compliance.html", context, status=status)


def _show(form: Any, refused: InvalidInput) -> None:
    for field, words in refused.errors.items() or {"": [refused.message]}.items():
        form.add_error(field if field in form.fields else None, [f"{word}" for word in words])


def _done(request: HttpRequest, words: str) -> HttpResponse:
    messages.success(request, words)
    return htmx.redirect(request, reverse("audit:compliance"))


@require_safe
def compliance(request: HttpRequest) -> HttpResponse:
    """The page."""
    return _page(request)


@require_POST
def export(request: HttpRequest) -> Answer:
    """Download Audit Report: the file, streamed."""
    actor = actor_of(request)
    actor.require("audit.export", "export the audit log")
    form = ExportForm(request.POST)
    if not form.is_valid():
        return _page(request, status=422, export_form=form)
    try:
        download = services.start_export(actor=actor, **form.facts(request.organization.timezone))  # type: ignore[attr-defined]
    except InvalidInput as refused:
        _show(form, refused)
        return _page(request, status=422, export_form=form)
    return stream(request, download, reverse("audit:sidecar", args=[download.export.id]))


@require_safe
def sidecar(request: HttpRequest, export_id: UUID) -> HttpResponse:
    """The signed sidecar of a finished export."""
    found = services.get_export(actor=actor_of(request), export_id=export_id)
    if found.sidecar is None:
        raise Http404("The export was not finished.")
    response = HttpResponse(
        json.dumps(found.sidecar, indent=1, sort_keys=True, ensure_ascii=False), content_type="application/json"
    )
    response["Content-Disposition"] = f'attachment; filename="{found.sidecar["file"]}.sidecar.json"'
    return response


@require_safe
def verifier(request: HttpRequest) -> HttpResponse:
    """The stand-alone verifier, as a file."""
    actor_of(request).require("audit.export", "download the verifier")
    response = HttpResponse(Path(audit_verify.__file__).read_bytes(), content_type="text/x-python; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="audit_verify.py"'
    return response


@require_POST
def settings(request: HttpRequest) -> HttpResponse:
    """Retention and legal hold."""
    actor = actor_of(request)
    actor.require("audit.manage", "change how long the audit log is kept")
    form = SettingsForm(request.POST)
    if not form.is_valid():
        return _page(request, status=422, settings_form=form)
    try:
        services.change_settings(actor=actor, **form.cleaned_data)
    except InvalidInput as refused:
        _show(form, refused)
        return _page(request, status=422, settings_form=form)
    return _done(request, "The settings of the log are saved.")


@require_POST
def sink_add(request: HttpRequest) -> HttpResponse:
    """Add a destination; a webhook's secret is shown on the answer, this once."""
    actor = actor_of(request)
    actor.require("audit.manage", "send the audit log elsewhere")
    form = SinkForm(request.POST, kind=request.POST.get("kind", ""))
    if not form.is_valid():
        return _page(request, status=422, sink_form=form)
    try:
        sink, secret = services.add_sink(actor=actor, **form.facts())
    except InvalidInput as refused:
        _show(form, refused)
        return _page(request, status=422, sink_form=form)
    if secret:
        return _page(request, made=sink, made_secret=secret)
    return _done(request, f"{sink.name} is added and gets every line from now on.")


@require_POST
def sink_change(request: HttpRequest, sink_id: UUID, what: str) -> HttpResponse:
    """`what` is test, on, off, replay (with `days`) or remove."""
    actor = actor_of(request)
    if what == "test":
        problem = services.test_sink(actor=actor, sink_id=sink_id)
        if not problem:
            return _done(request, "The test event was confirmed.")
        messages.error(request, f"The test event was not confirmed. {problem}")
        return htmx.redirect(request, reverse("audit:compliance"))
    if what in {"on", "off"}:
        sink = services.set_sink_enabled(actor=actor, sink_id=sink_id, enabled=what == "on")
        return _done(request, f"{sink.name} is {what}.")
    if what == "replay":
        days = request.POST.get("days", "7")
        sink = services.replay_sink(
            actor=actor, sink_id=sink_id, days=int(days) if days.isdecimal() and len(days) < 5 else 0
        )
        return _done(request, f"{sink.name} gets the last {days} days again.")
    if what == "remove":
        services.remove_sink(actor=actor, sink_id=sink_id)
        return _done(request, "The destination is removed.")
    raise Http404


@require_POST
def view_save(request: HttpRequest) -> HttpResponse:
    """Keep the filters of the list under a name."""
    query = request.POST.get("query", "")
    try:
        saved = services.save_view(actor=actor_of(request), name=request.POST.get("name", ""), query=query)
    except InvalidInput as refused:
        messages.error(request, next(iter(refused.errors.values()), [refused.message])[0])
        return htmx.redirect(request, f"{reverse('audit:list')}?{query}")
    messages.success(request, f"The view {saved.name} is saved.")
    return htmx.redirect(request, f"{reverse('audit:list')}?{saved.query}")


@require_POST
def view_remove(request: HttpRequest, view_id: UUID) -> HttpResponse:
    """Forget a view."""
    services.remove_view(actor=actor_of(request), view_id=view_id)
    messages.success(request, "The view is removed.")
    return htmx.redirect(request, reverse("audit:list"))
