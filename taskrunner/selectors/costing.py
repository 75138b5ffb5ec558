"""What a task has cost: its share of the machine that it ran on, from the ledger's intervals; else nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from core import clock
from costs.enums import Phase
from costs.ledger import amount
from costs.models import Interval
from taskrunner.models import Attempt, Task, Worker
from taskrunner.selectors.estimating import NOT_WHOLE, _share


@dataclass(frozen=True, slots=True)
class Cost:
    """Dollars, or None with why they are not known. `intervals` are those that the sum is of."""

    amount: Decimal | None
    why: str = ""
    intervals: tuple[str, ...] = ()


def cost_of(task: Task, attempts: Sequence[Attempt] | None = None) -> Cost:
    """The share of each attempt's machine while its container ran.

    Known only when every attempt that ran did so on a machine of the ledger that was priced all the time.
    """
    rows = list(Attempt.objects.filter(task=task)) if attempts is None else list(attempts)
    ran = [row for row in rows if row.started_at is not None]
    if not ran:
        return Cost(None, "It has not run.")
    workers = Worker.objects.for_org(task.organization_id).in_bulk([r.worker_id for r in ran if r.worker_id])
    total, used = Decimal(0), []
    for row in ran:
        worker = workers.get(row.worker_id)
        if worker is None or worker.sleepable_id is None or worker.sleepable_kind in NOT_WHOLE:
            return Cost(None, f"Nobody knows what {row.worker_label} costs.")
        start, end = row.started_at, row.finished_at or clock.now()
        if start is None or end <= start:
            continue
        found = _covered(worker, start, end)
        if found is None:
            return Cost(None, f"The ledger does not price {row.worker_label} for the whole time.")
        part, ids = found
        total += part * min(Decimal(1), _share(worker, task.wish))
        used += ids
    return Cost(total, intervals=tuple(used))


def _covered(worker: Worker, start: datetime, end: datetime) -> tuple[Decimal, list[str]] | None:
    """What the machine cost from `start` to `end`; None unless priced awake intervals cover all of it."""
    machine = worker.sleepable_id
    if machine is None:
        return None
    rows = Interval.objects.for_org(worker.organization_id).filter(
        resource_kind=worker.sleepable_kind, resource_id=machine, started_at__lt=end
    )
    total, at, ids = Decimal(0), start, []
    for row in rows.exclude(ended_at__lte=start).order_by("started_at"):
        if row.started_at > at or row.phase != Phase.AWAKE or row.price is None:
            return None
        until = min(end, row.ended_at or end)
        total += amount(row.price, at, until)
        ids.append(str(row.id))
        at = until
    return (total, ids) if at >= end else None
