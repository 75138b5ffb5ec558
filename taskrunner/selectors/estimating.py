"""What a task will probably take and cost, from earlier runs; "no data" when there are none."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from decimal import Decimal

from accounts.models import Organization
from core import sleepable
from core.actor import Actor
from core.errors import NotFound
from costs import spending
from costs.budgets import label_of
from taskrunner import placing
from taskrunner.enums import PERMISSION_VIEW, Status
from taskrunner.models import Task, Worker
from taskrunner.placing import Wish

LOOKED_AT = 50
# Kinds of machine of which a worker is only a part that nobody measures: what a task's share costs is not known.
NOT_WHOLE = ("cluster",)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds: median and range of earlier runs. Dollars: the share of the dearest worker that fits, or None.

    `alerts` say which of the organization's budgets it meets used up, or would use up.
    """

    basis: str
    runs: int = 0
    seconds: float | None = None
    least: float | None = None
    most: float | None = None
    cost: Decimal | None = None
    hourly: Decimal | None = None
    priced_by: str = ""
    alerts: tuple[str, ...] = ()


def estimate(*, actor: Actor, image: str, command: list[str], wish: Wish) -> Estimate:
    """From the newest successful runs of the same image and command in the organization.

    The share of a machine is the largest of the shares of its CPU, memory and GPUs that the task reserves.
    """
    actor.require(PERMISSION_VIEW, "see estimates")
    rows = Task.objects.visible_to(actor).filter(
        image=image, command=command, status=Status.SUCCEEDED, started_at__isnull=False, finished_at__isnull=False
    )
    times = [
        (ended - began).total_seconds()
        for began, ended in rows.order_by("-finished_at").values_list("started_at", "finished_at")[:LOOKED_AT]
        if began and ended
    ]
    hourly, name = _hourly(actor, wish)
    if not times:
        return Estimate("no_data", hourly=hourly, priced_by=name, alerts=_alerts(actor, None))
    median = statistics.median(times)
    cost = hourly * Decimal(median) / 3600 if hourly is not None else None
    least, most = min(times), max(times)
    return Estimate("earlier_runs", len(times), median, least, most, cost, hourly, name, _alerts(actor, cost))


def _alerts(actor: Actor, cost: Decimal | None) -> tuple[str, ...]:
    """Of the budgets of the whole organization; nothing for who may not see money."""
    if actor.org_id is None or not actor.can("costs.view"):
        return ()
    organization = Organization.objects.get(id=actor.org_id)
    found = []
    for standing in spending.standings(actor=actor, organization=organization):
        budget, left = standing.budget, standing.budget.amount - standing.spent
        words = label_of(budget)
        if budget.scope != "organization":
            continue
        if left <= 0:
            found.append(f"{words[0].upper()}{words[1:]}, is used up.")
        elif cost is not None and cost > left:
            found.append(f"It would use up {words}, of which ${left:,.2f} is left.")
    return tuple(found)


def _hourly(actor: Actor, wish: Wish) -> tuple[Decimal | None, str]:
    """Dollars an hour for the task's share of the dearest priced worker that fits it."""
    found: list[tuple[Decimal, str]] = []
    for worker in Worker.objects.visible_to(actor).exclude(sleepable_id=None).exclude(sleepable_kind__in=NOT_WHOLE):
        if worker.sleepable_id is None or not placing.fits(wish, worker.capacity, worker.labels):
            continue
        try:
            view = sleepable.get(actor, worker.sleepable_kind, worker.sleepable_id)
        except NotFound:
            continue
        if view.hourly_cost is not None:
            found.append((view.hourly_cost * _share(worker, wish), worker.name))
    return max(found) if found else (None, "")


def _share(worker: Worker, wish: Wish) -> Decimal:
    parts = [
        Decimal(need) / have
        for need, have in (
            (wish.resources.cpu, worker.cpu),
            (wish.resources.memory, worker.memory),
            (wish.resources.gpus, worker.gpus),
        )
        if have
    ]
    return max(parts, default=Decimal(1))
