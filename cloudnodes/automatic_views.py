"""Pages of automatic on and off: what each node does, its rule and countdown, favourites; and workflow runs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.access import signed_in
from cloudnodes import automatic, automatic_reading, favourites
from cloudnodes.automatic_forms import RuleForm
from core.actor import Actor
from core.errors import InvalidInput
from core.htmx import redirect, render_page

SIZE = 50


def _actor(request: HttpRequest) -> Actor:
    actor: Actor = request.actor  # type: ignore[attr-defined]
    return actor


@signed_in
@require_http_methods(["GET", "POST"])
def automatic_page(request: HttpRequest) -> HttpResponse:
    """Every node with its activity and rule; a POST saves or removes one rule."""
    actor = _actor(request)
    if request.method == "GET":
        return _page(request, actor, None)
    form = RuleForm(request.POST)
    if form.is_valid():
        try:
            words = _save(actor, form, remove="remove" in request.POST)
        except InvalidInput as refused:
            for field, said in refused.errors.items():
                form.add_error(field if field in form.fields else None, said)
        else:
            messages.success(request, words)
            return redirect(request, reverse("cloudnodes:automatic"))
    return _page(request, actor, form)


def _save(actor: Actor, form: RuleForm, *, remove: bool) -> str:
    given = form.cleaned_data
    kind, found = given["target"]
    where: dict[str, Any] = {"node": {"node_id": found}, "type": {"node_type_id": found}, "default": {}}[kind]
    if remove:
        automatic.remove_rule(actor=actor, **where)
        return "The rule is removed; the next wider one holds."
    warn = given["warn_minutes"]
    automatic.set_rule(
        actor=actor,
        idle_minutes=given["idle_minutes"],
        warn_minutes=5 if warn is None else warn,
        auto_start=given["auto_start"],
        **where,
    )
    minutes = given["idle_minutes"]
    return f"Saved: asleep after {minutes} idle minutes." if minutes else "Saved: never put to sleep for being idle."


def _page(request: HttpRequest, actor: Actor, form: RuleForm | None) -> HttpResponse:
    found = automatic_reading.overview(actor=actor, search=request.GET.get("q", "")[:100])
    page = Paginator(found.nodes, SIZE).get_page(request.GET.get("page"))
    target = (form.data.get("target") if form else request.GET.get("edit")) or "default"
    if form is None:
        form = RuleForm(initial={"target": target, **_initial(found, target)})
    context = {
        "page_title": "Automatic on and off",
        "o": found,
        "page": page,
        "form": form,
        "editing": _label(found, target),
        "here": request.get_full_path(),
        "target": target,
        "may_manage": actor.can("nodes.manage"),
        "may_operate": actor.can("nodes.operate"),
        "grid": {
            "url": reverse("cloudnodes:automatic"),
            "target": "#automatic",
            "search": request.GET.get("q", ""),
            "param": "q",
            "search_label": "Search nodes",
            "filters": [],
        },
    }
    status = 422 if form.errors else 200
    return render_page(request, "cloudnodes/automatic.html", context, fragment="nodes", status=status)


def _initial(found: automatic_reading.Overview, target: str) -> dict[str, Any]:
    by = {f"node:{w.node.id}": w.rule for w in found.nodes} | {f"type:{t.id}": r for t, r in found.types}
    rule = by.get(target, found.default)
    return {"idle_minutes": rule.idle_minutes, "warn_minutes": rule.warn_minutes, "auto_start": rule.auto_start}


def _label(found: automatic_reading.Overview, target: str) -> str:
    names = {f"node:{w.node.id}": f"{w.name} ({w.node.instance_name})" for w in found.nodes}
    names |= {f"type:{t.id}": f"every {t.name}" for t, _ in found.types}
    return names.get(target, "")


@signed_in
@require_POST
def keep(request: HttpRequest, node_id: UUID) -> HttpResponse:
    """Keep one node awake for a while."""
    text = request.POST.get("minutes", "60")
    if not text.isdecimal():
        raise InvalidInput(errors={"minutes": ["A number of minutes."]})
    automatic.keep_awake(actor=_actor(request), node_id=node_id, minutes=int(text))
    messages.success(request, f"It is not put to sleep for being idle in the next {text} minutes.")
    return _back(request)


@signed_in
@require_POST
def favourite(request: HttpRequest, node_id: UUID) -> HttpResponse:
    """Mark or unmark one node."""
    favourites.mark(actor=_actor(request), node_id=node_id, on=request.POST.get("on") == "1")
    return _back(request)


@signed_in
@require_POST
def start_favourites(request: HttpRequest) -> HttpResponse:
    """Wake every favourite that is off."""
    done = favourites.wake_all(actor=_actor(request))
    count = len(done.operations)
    messages.success(request, f"{count} on the way." if count else "Nothing to wake.")
    for name, refused in done.skipped:
        messages.warning(request, f"{name}: {refused.message}")
    return _back(request)


def _back(request: HttpRequest) -> HttpResponse:
    """To the page that was asked from, never to another site."""
    asked = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(asked, allowed_hosts=None) and asked.startswith("/")
    return redirect(request, asked if safe else reverse("cloudnodes:automatic"))


@signed_in
@require_GET
def runs_page(request: HttpRequest) -> HttpResponse:
    """Workflow runs: who ran what on which node, how long, and what it cost."""
    search = request.GET.get("q", "")[:100]
    page = Paginator(automatic_reading.list_runs(actor=_actor(request), search=search), SIZE).get_page(
        request.GET.get("page")
    )
    context = {
        "page_title": "Workflow runs",
        "page": page,
        "rows": automatic_reading.run_lines(list(page.object_list)),
        "currency": "USD",
        "grid": {
            "url": reverse("cloudnodes:runs"),
            "target": "#runs",
            "search": search,
            "param": "q",
            "search_label": "Search workflow runs",
            "filters": [],
        },
    }
    return render_page(request, "cloudnodes/runs.html", context, fragment="body")
