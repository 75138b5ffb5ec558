"""Pages of cloud nodes: the grid, the same grid as a dialog, one node, and what their buttons do."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.access import signed_in
from cloudnodes import automatic, favourites, selectors, services, viewing
from cloudnodes.enums import RESOURCE
from cloudnodes.forms import read_place, read_switches
from core import fragments
from core.actor import Actor
from core.errors import Conflict, InvalidInput, QuotaExceeded
from core.htmx import is_fragment, redirect, render_page
from costs import budgets
from costs.spending import Standing
from operations import services as operations

TITLE = "Cloud Nodes - Container Status"
TOPICS = ("nodes", "operations", "money", "budgets", "accounts")
TEMPLATES = {"page": "cloudnodes/grid.html", "dialog": "cloudnodes/dialog.html"}
REFRESHED = "Asked the providers again; what changed shows here in a moment."


def _actor(request: HttpRequest) -> Actor:
    actor: Actor = request.actor  # type: ignore[attr-defined]
    return actor


def _say(text: str, kind: str = "good", detail: str = "") -> dict[str, Any]:
    return {"toast": {"text": text, "kind": kind, "detail": detail}}


def _grid_url(place: str, tier: str, search: str = "", page: int | None = 1) -> str:
    base = reverse("cloudnodes:dialog" if place == "dialog" else "cloudnodes:grid")
    told = {
        "tier": tier,
        "q": search,
        "page": page if page and page > 1 else "",
        "part": "grid" if place == "dialog" else "",
    }
    asked = {name: value for name, value in told.items() if value}
    return f"{base}?{urlencode(asked)}" if asked else base


def _refusals(actor: Actor, grid: selectors.Grid, refusing: list[Standing]) -> list[Standing]:
    """Those budgets that refuse the actor a start of what the grid shows."""
    return [s for s in refusing if any(s.covers(team=team, person=actor.label) for team in grid.teams)]


def _context(place: str, grid: selectors.Grid, actor: Actor, refusals: list[Standing]) -> dict[str, Any]:
    pages = grid.pages
    return {
        "page_title": TITLE if place == "dialog" else "Cloud Nodes",
        "grid": grid,
        "refusals": refusals,
        "may_change_budgets": actor.can("budgets.manage"),
        "place": place,
        "wrap": f"nodes-{place}",
        "grid_url": _grid_url(place, grid.tier, pages.search, pages.number),
        "previous_url": _grid_url(place, grid.tier, pages.search, pages.previous) if pages.previous else "",
        "next_url": _grid_url(place, grid.tier, pages.search, pages.next) if pages.next else "",
        "tier_url": reverse("cloudnodes:dialog" if place == "dialog" else "cloudnodes:grid"),
    }


def _asked(request: HttpRequest) -> dict[str, Any]:
    """Which part of the grid is asked for: search words and page; the tier is the view's business."""
    data = request.POST if request.method == "POST" else request.GET
    number = data.get("page", "")
    return {"search": data.get("q", "")[:100], "page": int(number[:9]) if number.isdecimal() else 1}


def _show(
    request: HttpRequest, place: str, tier: str, *, fragment: str = "nodes", trigger: dict[str, Any] | None = None
) -> HttpResponse:
    actor = _actor(request)
    viewing.touch(actor.org_id)
    grid = selectors.get_grid(actor=actor, tier=tier, **_asked(request))
    context = _context(place, grid, actor, _refusals(actor, grid, budgets.refusing(actor=actor)))
    return render_page(request, TEMPLATES[place], context, fragment=fragment, trigger=trigger)


def _refresh(request: HttpRequest, place: str, tier: str) -> HttpResponse:
    """The grid again, for a page that shows it already: made once for all viewers with the same rights.

    A page that says which nodes changed (`ids`) and how its grid is laid out (`shape`) gets only the rows of those
    nodes and what stands around the rows, as long as the layout is still the same.
    """
    actor, asked = _actor(request), _asked(request)
    viewing.touch(actor.org_id)
    shared = fragments.sharing(actor, TOPICS)
    view = (tier, *asked.values())
    grid = shared.value(lambda: selectors.get_grid(actor=actor, tier=tier, **asked), "nodes", *view)
    refusals = _refusals(actor, grid, shared.value(lambda: budgets.refusing(actor=actor), "refusing"))
    whom = tuple(s.budget.id for s in refusals)  # a person's budget is told to this person alone

    def rendered(template: str, *name: str, **more: Any) -> fragments.Fragment:
        def context() -> dict[str, Any]:
            return {**_context(place, grid, actor, refusals), **more}

        return shared.rendered(request, template, context, place, *view, whom, *name)

    ids = {i for i in request.GET.get("ids", "").split(",") if i}
    if not ids or request.GET.get("shape") != shared.value(lambda: grid.shape, "shape", *view):
        return fragments.answer(request, rendered(f"{TEMPLATES[place]}#nodes"))
    holds = shared.value(grid.row_of_each, "rows", *view)
    changed = {row.id: row for row in map(holds.get, sorted(ids)) if row is not None}
    rows = [rendered("cloudnodes/partials/_changed_row.html", str(i), row=row) for i, row in changed.items()]
    return fragments.answer(request, rendered("cloudnodes/partials/_changes.html"), *rows)


@signed_in
@require_GET
def grid(request: HttpRequest) -> HttpResponse:
    """The grid as a page; htmx gets the part that changes."""
    if is_fragment(request):
        return _refresh(request, "page", request.GET.get("tier", ""))
    return _show(request, "page", request.GET.get("tier", ""))


@signed_in
@require_GET
def dialog(request: HttpRequest) -> HttpResponse:
    """The grid as a dialog for #dialog-host; a plain request gets a page of the same title."""
    if is_fragment(request) and request.GET.get("part") == "grid":
        return _refresh(request, "dialog", request.GET.get("tier", ""))
    return _show(request, "dialog", request.GET.get("tier", ""), fragment="dialog")


@signed_in
@require_POST
def apply(request: HttpRequest) -> HttpResponse:
    """Apply the moved switches; without scripts, first show what that would change and cost."""
    place, tier = read_place(request.POST), request.POST.get("tier", "")
    switches = read_switches(request.POST)
    actor = _actor(request)
    if not switches:
        return _answer(request, place, tier, "Nothing was changed: every switch shows what it showed before.", "info")
    if request.POST.get("step") == "review":
        found = selectors.preview_changes(actor=actor, on=switches.on, off=switches.off)
        return _confirm(
            request, found, "Apply these changes?", reverse("cloudnodes:apply"), "Apply Changes", place, tier
        )
    done = services.apply_changes(actor=actor, on=switches.on, off=switches.off)
    return _applied(request, done, place, tier)


@signed_in
@require_http_methods(["GET", "POST"])
def everything(request: HttpRequest) -> HttpResponse:
    """Start all or Stop all of a tier: GET shows what would happen, POST does it to exactly the nodes that were shown."""
    data = request.POST if request.method == "POST" else request.GET
    wake, tier, place = data.get("do") != "stop", data.get("tier", ""), read_place(data)
    actor = _actor(request)
    if request.method == "POST":
        switches = read_switches(request.POST)
        act = services.start_all if wake else services.stop_all
        return _applied(request, act(actor=actor, tier=tier, only=switches.on if wake else switches.off), place, tier)
    found = selectors.preview_all(actor=actor, tier=tier, wake=wake)
    verb, count = ("Wake" if wake else "Put to sleep"), len(found.changes)
    title = f"Wake {_nodes(count)}?" if wake else f"Put {_nodes(count)} to sleep?"
    return _confirm(request, found, title, reverse("cloudnodes:all"), verb, place, tier, do="start" if wake else "stop")


@signed_in
@require_POST
def refresh(request: HttpRequest) -> HttpResponse:
    """Ask every provider again, as soon as a worker is free."""
    services.request_refresh(actor=_actor(request))
    return _answer(request, read_place(request.POST), request.POST.get("tier", ""), REFRESHED, "info")


@signed_in
@require_GET
def detail(request: HttpRequest, node_id: UUID) -> HttpResponse:
    """One node: what it does and why, its operations, intervals and price."""
    viewing.touch(_actor(request).org_id)
    return _show_detail(request, node_id)


def _show_detail(request: HttpRequest, node_id: UUID, trigger: dict[str, Any] | None = None) -> HttpResponse:
    actor = _actor(request)
    found = selectors.get_detail(actor=actor, node_id=node_id)
    ledger = f"{reverse('costs:ledger')}?{urlencode({'resource': f'{RESOURCE}:{node_id}', 'period': 'month'})}"
    context = {
        "page_title": found.name,
        "d": found,
        "node": found.node,
        "rule": automatic.rules_for([found.node])[node_id],
        "favourite": node_id in favourites.ids_of(actor),
        "place": "detail",
        "ledger_url": ledger,
    }
    return render_page(request, "cloudnodes/detail.html", context, fragment="node", trigger=trigger)


def _act(request: HttpRequest, node_id: UUID, act: Callable[[Actor], str]) -> HttpResponse:
    """Do one thing to one node, and show again where it was asked for."""
    place, tier = read_place(request.POST), request.POST.get("tier", "")
    try:
        words, kind = act(_actor(request)), "good"
    except (Conflict, InvalidInput, QuotaExceeded) as refused:
        words, kind = refused.message, "warn"
    if place != "detail":
        return _answer(request, place, tier, words, kind)
    if is_fragment(request):
        return _show_detail(request, node_id, _say(words, kind))
    _flash(request, words, kind)
    return redirect(request, reverse("cloudnodes:detail", args=[node_id]))


@signed_in
@require_POST
def wake(request: HttpRequest, node_id: UUID) -> HttpResponse:
    """Wake one node, or try again to."""

    def act(actor: Actor) -> str:
        services.request_start(actor=actor, node_id=node_id, reason=request.POST.get("reason", ""))
        return "Waking it"

    return _act(request, node_id, act)


@signed_in
@require_POST
def sleep(request: HttpRequest, node_id: UUID) -> HttpResponse:
    """Put one node to sleep, or try again to; deallocates what is off but still billed."""

    def act(actor: Actor) -> str:
        services.request_stop(actor=actor, node_id=node_id, reason=request.POST.get("reason", ""))
        return "Putting it to sleep"

    return _act(request, node_id, act)


@signed_in
@require_POST
def cancel(request: HttpRequest, node_id: UUID) -> HttpResponse:
    """Cancel what is under way on a node; it goes back to what it was."""

    def act(actor: Actor) -> str:
        operation = selectors.operation_of(actor=actor, node_id=node_id)
        if operation is None:
            return "Nothing is under way any more"
        operations.cancel_operation(actor=actor, operation_id=operation.id)
        return "Cancelled; it goes back to how it was"

    return _act(request, node_id, act)


@signed_in
@require_POST
def look(request: HttpRequest, node_id: UUID) -> HttpResponse:
    """Ask the provider of one node again."""

    def act(actor: Actor) -> str:
        services.request_refresh(actor=actor, account_id=selectors.get_node(actor=actor, node_id=node_id).account_id)
        return REFRESHED

    return _act(request, node_id, act)


@signed_in
@require_POST
def dismiss(request: HttpRequest, node_id: UUID) -> HttpResponse:
    """The error of the last order was read: show what the provider says."""

    def act(actor: Actor) -> str:
        services.dismiss_error(actor=actor, node_id=node_id)
        return "Dismissed"

    return _act(request, node_id, act)


def _confirm(
    request: HttpRequest,
    found: selectors.Preview,
    title: str,
    action: str,
    verb: str,
    place: str,
    tier: str,
    do: str = "",
) -> HttpResponse:
    context = {
        "page_title": title,
        "title": title,
        "preview": found,
        "action": action,
        "verb": verb,
        "place": place,
        "tier": tier,
        "do": do,
        "back": _grid_url("page", tier),
        "currency": selectors.CURRENCY,
    }
    return render_page(request, "cloudnodes/confirm.html", context, fragment="dialog")


def _applied(request: HttpRequest, done: services.Applied, place: str, tier: str) -> HttpResponse:
    """Say what was started and what was left out, and show the grid."""
    count = len(done.operations)
    left_out = " ".join(dict.fromkeys(refused.message for _, refused in done.skipped))
    idle = "Nothing was changed" if left_out else "Nothing to change"
    text = f"{_nodes(count)} on the way" if count else idle
    if left_out:
        text = f"{text}, {len(done.skipped)} left as {'it is' if len(done.skipped) == 1 else 'they are'}"
    return _answer(request, place, tier, text, "warn" if left_out else "good", left_out)


def _answer(request: HttpRequest, place: str, tier: str, text: str, kind: str, detail: str = "") -> HttpResponse:
    """After a POST: the part of the page with a toast; from a confirmation, its dialog closes; a redirect without scripts."""
    if not is_fragment(request):
        _flash(request, f"{text}. {detail}" if detail else text, kind)
        return redirect(request, reverse("cloudnodes:dialog") if place == "dialog" else _grid_url("page", tier))
    if request.POST.get("confirmed") and place == "page":
        response = HttpResponse(status=204)
        response["HX-Trigger"] = json.dumps({"live:nodes": {}, **_say(text, kind, detail), "dialog:close": {}})
        return response
    fragment = "dialog" if request.POST.get("confirmed") else "nodes"
    return _show(
        request, "dialog" if place == "dialog" else "page", tier, fragment=fragment, trigger=_say(text, kind, detail)
    )


def _flash(request: HttpRequest, text: str, kind: str) -> None:
    level = {"good": messages.SUCCESS, "warn": messages.WARNING, "bad": messages.ERROR}.get(kind, messages.INFO)
    messages.add_message(request, level, text)


def _nodes(count: int) -> str:
    return f"{count} node" if count == 1 else f"{count} nodes"
