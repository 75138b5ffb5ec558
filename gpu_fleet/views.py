"""Pages of the GPU fleet: cards, one machine, deploy, snapshots, market, savings, settings, and what their buttons do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.access import signed_in
from core.actor import Actor
from core.errors import Conflict, CurfewError, InvalidInput
from core.htmx import is_fragment, redirect, render_page
from core.providers import ProviderError
from gpu_fleet import advice, offers, selectors, services, viewing
from gpu_fleet.forms import DeployForm, SettingsForm, WizardForm
from gpu_fleet.selectors import market, pages
from gpu_fleet.selectors.standby import list_standbys
from gpu_fleet.wanted import Wanted
from operations import services as operations
from operations.registry import OperationFailed

TABS = (
    ("fleet", "Machines", "gpu_fleet:fleet"),
    ("market", "Market", "gpu_fleet:market"),
    ("snapshots", "Snapshots", "gpu_fleet:snapshots"),
    ("savings", "Savings", "gpu_fleet:savings"),
    ("settings", "Settings", "gpu_fleet:settings"),
)
STATES = ("awake", "asleep", "waking", "falling", "lost", "trouble")


def actor_of(request: HttpRequest) -> Actor:
    actor: Actor = request.actor  # type: ignore[attr-defined]
    return actor


def _base(request: HttpRequest, tab: str, title: str) -> dict[str, Any]:
    actor = actor_of(request)
    return {
        "page_title": title,
        "tabs": [{"label": label, "url": reverse(url), "current": key == tab} for key, label, url in TABS],
        "may_manage": actor.can("gpu.manage"),
        "may_operate": actor.can("gpu.operate"),
    }


def _say(text: str, kind: str = "good") -> dict[str, Any]:
    return {"toast": {"text": text, "kind": kind}}


@signed_in
@require_GET
def fleet(request: HttpRequest) -> HttpResponse:
    """Every machine, as cards or as a table (`?view=table`)."""
    return _fleet(request)


def _fleet(request: HttpRequest, trigger: dict[str, Any] | None = None) -> HttpResponse:
    search, state = request.GET.get("search", "")[:100], request.GET.get("state", "")
    found = pages.get_fleet(actor=actor_of(request), search=search, state=state if state in STATES else "")
    total = sum(found.states.values())
    pills = [{"key": "", "label": "All", "count": total}]
    pills += [{"key": s, "label": s.capitalize(), "count": found.states[s]} for s in STATES if found.states.get(s)]
    context = {
        **_base(request, "fleet", "GPU Fleet"),
        "found": found,
        "total": total,
        "pills": pills,
        "search": search,
        "state": state,
        "as_table": request.GET.get("view") == "table",
        "has_account": bool(offers.rental_accounts(actor=actor_of(request))),
    }
    return render_page(request, "gpu_fleet/fleet.html", context, fragment="fleet", trigger=trigger)


@signed_in
@require_GET
def machine(request: HttpRequest, machine_id: UUID) -> HttpResponse:
    """One machine: now, its race, curves, snapshots, money, how to log in."""
    return _machine(request, machine_id)


def _machine(request: HttpRequest, machine_id: UUID, trigger: dict[str, Any] | None = None) -> HttpResponse:
    page = pages.get_machine_page(actor=actor_of(request), machine_id=machine_id)
    row = page.card.machine
    context = {
        **_base(request, "fleet", row.name),
        "p": page,
        "card": page.card,
        "m": row,
        "load_chart": viewing.load_chart(page.beats),
        "ssh": _ssh(row),
        "known_hosts": _known_hosts(row),
        "login_keys": bool(selectors.get_settings(actor=actor_of(request)).login_keys),
        "standby_accounts": offers.standby_accounts(actor=actor_of(request)) if page.can_manage else [],
        "standby_ssh": _ssh(page.card.standby.row.spare) if page.card.standby else "",
    }
    return render_page(request, "gpu_fleet/machine.html", context, fragment="machine", trigger=trigger)


def _ssh(row: Any) -> str:
    rental = row.rental if row is not None else None
    return f"ssh -p {rental.ssh_port} root@{rental.ssh_host}" if rental is not None and rental.ssh_port else ""


def _known_hosts(row: Any) -> str:
    rental = row.rental
    if rental is None or not rental.ssh_port:
        return ""
    where = rental.ssh_host if rental.ssh_port == 22 else f"[{rental.ssh_host}]:{rental.ssh_port}"
    return "\n".join(f"{where} {key}" for key in rental.host_keys)


def act(request: HttpRequest, machine_id: UUID, work: Callable[[], Any], words: str) -> HttpResponse:
    """Do what a button asks, and show the page it stands on again."""
    kind = "good"
    try:
        work()
    except Conflict as refused:
        words, kind = refused.message, "warn"
    if request.POST.get("place") == "fleet":
        return (
            _fleet(request, _say(words, kind))
            if is_fragment(request)
            else redirect(request, reverse("gpu_fleet:fleet"))
        )
    if is_fragment(request):
        return _machine(request, machine_id, _say(words, kind))
    return redirect(request, reverse("gpu_fleet:machine", args=[machine_id]))


def ordering(request_change: Callable[..., Any], words: str) -> Callable[[HttpRequest, UUID], HttpResponse]:
    """The view of a button that orders something of one machine and says so in these words."""

    @signed_in
    @require_POST
    def ordered(request: HttpRequest, machine_id: UUID) -> HttpResponse:
        actor = actor_of(request)
        return act(request, machine_id, lambda: request_change(actor=actor, machine_id=machine_id), words)

    return ordered


wake = ordering(services.request_wake, "It is being woken.")
sleep = ordering(services.request_hibernate, "It is being backed up; it is destroyed once the snapshot is proven.")
snapshot = ordering(services.request_snapshot, "A snapshot is being taken.")
pause = ordering(services.request_pause, "It is being stopped where it is. Its disk stays, and may go on costing.")


@signed_in
@require_POST
def keep(request: HttpRequest, machine_id: UUID) -> HttpResponse:
    """Keep it awake for an hour, or as long as the form says."""
    try:
        minutes = float(request.POST.get("minutes", "60"))
    except ValueError:
        raise InvalidInput(errors={"minutes": ["A number of minutes."]}) from None
    actor = actor_of(request)
    words = f"It stays awake for {minutes:.0f} minutes." if minutes else "It may fall asleep again."
    return act(
        request,
        machine_id,
        lambda: services.keep_awake(actor=actor, machine_id=machine_id, minutes=minutes),
        words,
    )


@signed_in
@require_POST
def cancel(request: HttpRequest, machine_id: UUID) -> HttpResponse:
    """Stop what is under way."""
    actor = actor_of(request)
    row = services.find_machine(actor=actor, machine_id=machine_id)
    active = selectors.active_operations([row.id]).get(row.id)
    actor.require("gpu.operate", "cancel this")

    def work() -> None:
        if active is not None:
            operations.cancel_operation(actor=actor, operation_id=active.id)

    return act(request, machine_id, work, "It is being stopped.")


@signed_in
@require_http_methods(["GET", "POST"])
def destroy(request: HttpRequest, machine_id: UUID) -> HttpResponse:
    """Ask first, naming what is lost; then destroy without a backup."""
    actor = actor_of(request)
    row = services.find_machine(actor=actor, machine_id=machine_id)
    actor.require("gpu.manage", "destroy GPU machines")
    errors: list[str] = []
    if request.method == "POST":
        try:
            services.request_destroy(actor=actor, machine_id=machine_id, name=request.POST.get("name", "").strip())
            return redirect(request, reverse("gpu_fleet:fleet"))
        except (InvalidInput, Conflict) as refused:
            told = refused.errors.get("name", []) if isinstance(refused, InvalidInput) else []
            errors = told or [refused.message]
    page = pages.get_machine_page(actor=actor, machine_id=machine_id)
    context = {**_base(request, "fleet", f"Destroy {row.name}"), "m": row, "card": page.card, "errors": errors}
    return render_page(request, "gpu_fleet/destroy.html", context, status=422 if errors else 200)


@signed_in
@require_http_methods(["GET", "POST"])
def move(request: HttpRequest, machine_id: UUID) -> HttpResponse:
    """What a move to another host would copy, take and cost; then the move itself."""
    actor = actor_of(request)
    row = services.find_machine(actor=actor, machine_id=machine_id)
    actor.require("gpu.operate", "migrate GPU machines")
    posted = request.method == "POST"
    gpu = (request.POST if posted else request.GET).get("gpu_name", row.wanted.get("gpu_name") or "").strip()[:80]
    given = {} if gpu == (row.wanted.get("gpu_name") or "") else {"gpu_name": gpu}
    errors: list[str] = []
    if posted:
        try:
            services.request_migrate(actor=actor, machine_id=machine_id, wanted=given)
            return redirect(request, row.get_absolute_url())
        except (InvalidInput, Conflict) as refused:
            errors = [refused.message]
    best, problems = offers.best_elsewhere(actor=actor, machine=row, given=given)
    context = {
        **_base(request, "fleet", f"Move {row.name}"),
        "m": row,
        "gpu_name": gpu,
        "facts": selectors.move_facts(machine=row),
        "best": best,
        "problems": problems,
        "errors": errors,
    }
    return render_page(request, "gpu_fleet/move.html", context, status=422 if errors else 200)


@signed_in
@require_GET
def wizard_page(request: HttpRequest) -> HttpResponse:
    """From a goal to three sizes with live offers, the arithmetic shown; `Deploy` carries a size into the form."""
    actor = actor_of(request)
    actor.require("gpu.view", "see offers")
    asked = "goal" in request.GET
    form = WizardForm(request.GET if asked else None, initial={"context": 4096, "batch": 1})
    found: advice.Advice | None = None
    if asked and form.is_valid():
        try:
            found = advice.advise(actor=actor, told=form.cleaned_data)
        except InvalidInput as refused:
            for name, words in refused.errors.items():
                form.add_error(name if name in form.fields else None, words)
    context = {
        **_base(request, "fleet", "What machine do I need?"),
        "form": form,
        "advice": found,
        "tiers": viewing.tier_links(found) if found else [],
    }
    return render_page(request, "gpu_fleet/wizard.html", context, fragment="advice")


@signed_in
@require_http_methods(["GET", "POST"])
def deploy(request: HttpRequest) -> HttpResponse:
    """What the new machine wants, with live offers beside it; the POST begins the race."""
    actor = actor_of(request)
    actor.require("gpu.manage", "rent machines")
    accounts = offers.rental_accounts(actor=actor)
    posted = request.method == "POST"
    form = DeployForm(request.POST if posted else None, accounts=accounts, initial=request.GET.dict())
    if posted and form.is_valid():
        given = dict(form.cleaned_data)
        facts = {name: given.pop(name) for name in ("name", "account_id", "auto_sleep", "idle_minutes")}
        try:
            made, _ = services.create_machine(actor=actor, wanted=given, **facts)
            return redirect(request, made.get_absolute_url())
        except InvalidInput as refused:
            for name, words in refused.errors.items():
                form.add_error(name if name in form.fields else None, words)
    found = None
    if request.GET.get("look") or (is_fragment(request) and not posted):
        found = _live_offers(actor, request.GET.dict())
    context = {**_base(request, "fleet", "Deploy a machine"), "form": form, "accounts": accounts, "offers": found}
    return render_page(request, "gpu_fleet/deploy.html", context, fragment="offers", status=422 if posted else 200)


def _live_offers(actor: Actor, told: dict[str, Any]) -> dict[str, Any]:
    """The cheapest twelve offers for what the form says now."""
    try:
        account = UUID(told["account_id"]) if told.get("account_id") else None
        found = offers.search_offers(actor=actor, wanted=Wanted.of(told), account_id=account)
    except (CurfewError, ValueError) as bad:
        return {"rows": [], "problems": [str(bad)], "count": 0}
    return {"rows": [offer for _, offer in found.offers[:12]], "count": len(found.offers), "problems": found.problems}


@signed_in
@require_GET
def snapshots(request: HttpRequest) -> HttpResponse:
    """Every snapshot with its proof."""
    rows = selectors.list_snapshots(actor=actor_of(request))
    page = Paginator(rows, 50).get_page(request.GET.get("page", "1"))
    page.object_list = list(page.object_list)
    context = {**_base(request, "snapshots", "Snapshots"), "page": page}
    return render_page(request, "gpu_fleet/snapshots.html", context, fragment="snapshots")


@signed_in
@require_POST
def snapshot_act(request: HttpRequest, snapshot_id: UUID) -> HttpResponse:
    """Verify, restore or delete one."""
    actor = actor_of(request)
    row = services.find_snapshot(actor=actor, snapshot_id=snapshot_id)
    action = request.POST.get("action", "")
    work: dict[str, Callable[[], Any]] = {
        "verify": lambda: services.verify_again(actor=actor, snapshot_id=snapshot_id),
        "restore": lambda: services.request_restore(actor=actor, machine_id=row.machine_id, snapshot_id=snapshot_id),
        "delete": lambda: services.delete_snapshot(actor=actor, snapshot_id=snapshot_id),
    }
    if action not in work:
        raise InvalidInput("Choose what to do with the snapshot.")
    try:
        work[action]()
    except (ProviderError, OperationFailed) as bad:
        raise Conflict(bad.message) from None
    return redirect(request, reverse("gpu_fleet:snapshots"))


@signed_in
@require_GET
def market_page(request: HttpRequest) -> HttpResponse:
    """Prices as they were seen, and what is offered now."""
    actor = actor_of(request)
    chosen = request.GET.get("gpu", "")[:80]
    rows = market.monitor(actor=actor)
    gpu = chosen or (rows[0].gpu_name if rows else "")
    history = market.price_history(actor=actor, gpu_name=gpu) if gpu else []
    context = {
        **_base(request, "market", "GPU market"),
        "rows": rows,
        "gpu": gpu,
        "chart": viewing.price_chart(history, gpu),
        "windows": market.safe_windows(actor=actor, gpu_name=gpu) if gpu else None,
        "has_market": market.has_market(actor=actor),
    }
    return render_page(request, "gpu_fleet/market.html", context, fragment="market")


@signed_in
@require_GET
def savings(request: HttpRequest) -> HttpResponse:
    """What sleeping saved, from the ledger."""
    found = pages.get_savings(actor=actor_of(request))
    context = {**_base(request, "savings", "GPU savings"), "found": found, "chart": viewing.savings_chart(found)}
    return render_page(request, "gpu_fleet/savings.html", context)


@signed_in
@require_http_methods(["GET", "POST"])
def settings(request: HttpRequest) -> HttpResponse:
    """How the fleet behaves."""
    actor = actor_of(request)
    rules = selectors.get_settings(actor=actor)
    posted = request.method == "POST"
    if posted:
        actor.require("gpu.manage", "change the settings of the GPU fleet")
    form = SettingsForm(request.POST if posted else None, initial=rules.shown())
    if posted and form.is_valid():
        try:
            services.change_settings(actor=actor, **form.cleaned_data)
            return redirect(request, reverse("gpu_fleet:settings"))
        except InvalidInput as refused:
            for name, words in refused.errors.items():
                form.add_error(name if name in form.fields else None, words)
    context = {
        **_base(request, "settings", "GPU fleet settings"),
        "form": form,
        "rules": rules,
        "standbys": list_standbys(actor=actor),
    }
    return render_page(request, "gpu_fleet/settings.html", context, status=422 if posted else 200)


@signed_in
@require_GET
def orphans(request: HttpRequest) -> HttpResponse:
    """Rentals that nobody accounts for: listed, never touched unasked."""
    found, problems = services.list_orphans(actor=actor_of(request))
    context = {**_base(request, "fleet", "Orphaned rentals"), "rows": found, "problems": problems}
    return render_page(request, "gpu_fleet/orphans.html", context)


@signed_in
@require_POST
def orphan_destroy(request: HttpRequest) -> HttpResponse:
    """A person has typed the id of one: destroy it."""
    services.destroy_orphan(
        actor=actor_of(request),
        account_id=request.POST.get("account_id", ""),
        provider_id=request.POST.get("provider_id", ""),
        confirm=request.POST.get("confirm", "").strip(),
    )
    return redirect(request, reverse("gpu_fleet:orphans"))
