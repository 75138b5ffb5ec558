"""What the buttons of standbys do, on a machine's page, on its card and in the settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_POST

from accounts.access import signed_in
from core.errors import InvalidInput
from core.htmx import redirect
from gpu_fleet import services
from gpu_fleet.views import act, actor_of, ordering

failover = ordering(services.request_failover, "The standby takes over: the last changes are copied, then it serves.")
failback = ordering(services.request_failback, "The GPU machine is brought back.")


@signed_in
@require_POST
def standby(request: HttpRequest, machine_id: UUID) -> HttpResponse:
    """Give a machine a standby, turn it on or off, change its rules, take it away."""
    actor = actor_of(request)
    machine = services.find_machine(actor=actor, machine_id=machine_id)
    actor.require("gpu.manage", "configure standbys")
    action = request.POST.get("action", "")
    row = services.standby_of(machine)
    if action == "create":
        words, work = "It gets a standby as soon as it is awake.", _create(request, machine_id)
    elif row is None:
        raise InvalidInput("It has no standby.")
    else:
        words, work = _change(request, row.id, action)
    if request.POST.get("place") == "settings":
        work()
        return redirect(request, reverse("gpu_fleet:settings"))
    return act(request, machine_id, work, words)


def _create(request: HttpRequest, machine_id: UUID) -> Callable[[], Any]:
    actor, account = actor_of(request), request.POST.get("account_id", "")
    try:
        key = UUID(account)
    except ValueError:
        raise InvalidInput(errors={"account_id": ["Choose where the standby is rented."]}) from None
    wanted = {name: request.POST.get(name, "") for name in ("gpu_name", "location", "max_hourly", "disk_gb")}
    return lambda: services.create_standby(actor=actor, machine_id=machine_id, account_id=key, wanted=wanted)


def _change(request: HttpRequest, standby_id: UUID, action: str) -> tuple[str, Callable[[], Any]]:
    actor = actor_of(request)
    if action in ("on", "off"):
        words = "The standby is on." if action == "on" else "The standby is off; what is rented for it is destroyed."
        return words, lambda: services.change_standby(actor=actor, standby_id=standby_id, enabled=action == "on")
    if action == "remove":
        return "The standby is taken away.", lambda: services.remove_standby(actor=actor, standby_id=standby_id)
    if action != "rules":
        raise InvalidInput("Choose what to do with the standby.")
    try:
        rules: dict[str, Any] = {
            "interval_seconds": float(request.POST.get("interval_seconds", "")),
            "grace_seconds": int(request.POST.get("grace_seconds", "")),
        }
    except ValueError:
        raise InvalidInput(errors={"interval_seconds": ["Whole seconds."]}) from None
    rules["auto_failover"] = request.POST.get("auto_failover") == "on"
    rules["auto_return"] = request.POST.get("auto_return") == "on"
    return "Saved.", lambda: services.change_standby(actor=actor, standby_id=standby_id, **rules)
