"""Workers that sleep on purpose: woken by a task that waits for them, put back to sleep when nothing runs."""

from __future__ import annotations

from datetime import timedelta

from core import clock, sleepable
from core.actor import Actor
from core.errors import CurfewError, NotFound
from core.sleepable import SleepState
from taskrunner import placing
from taskrunner.enums import HELD, LOST_AFTER_SECONDS, Status, WorkerState
from taskrunner.models import Task, Worker

KEEPER = "task_workers"


def wake_and_rest() -> tuple[int, int]:
    """How many workers were asked to wake and how many to sleep."""
    woken = rested = 0
    rows = Worker.objects.all_orgs().exclude(sleepable_id=None).filter(wanted=WorkerState.OPEN)
    for worker in rows.order_by("organization_id", "name"):
        if worker.auto_start and _is_wanted(worker):
            woken += _order(worker, SleepState.ASLEEP, wake=True)
        elif worker.auto_stop_minutes and _is_idle(worker):
            rested += _order(worker, SleepState.AWAKE, wake=False)
    return woken, rested


def _answers(worker: Worker) -> bool:
    return worker.seen_at is not None and worker.seen_at > clock.now() - timedelta(seconds=LOST_AFTER_SECONDS)


def _is_wanted(worker: Worker) -> bool:
    """Whether a queued task fits this worker, and none that is awake can ever take it."""
    if _answers(worker):
        return False
    queued = Task.objects.for_org(worker.organization_id).filter(status=Status.QUEUED, not_before__lte=clock.now())
    others = [
        other
        for other in Worker.objects.for_org(worker.organization_id).filter(wanted=WorkerState.OPEN)
        if other.id != worker.id and _answers(other)
    ]
    return any(
        placing.fits(task.wish, worker.capacity, worker.labels)
        and not any(placing.fits(task.wish, other.capacity, other.labels) for other in others)
        for task in queued.order_by("-priority", "queued_at")[:200]
    )


def _is_idle(worker: Worker) -> bool:
    """Whether nothing has run on it for the chosen time. A worker that does not answer counts as busy."""
    rows = Worker.objects.for_org(worker.organization_id).filter(id=worker.id)
    busy = Task.objects.for_org(worker.organization_id).filter(worker=worker, status__in=HELD).exists()
    if busy or not _answers(worker):
        rows.exclude(idle_since=None).update(idle_since=None)
        return False
    if worker.idle_since is None:
        rows.update(idle_since=clock.now())
        return False
    return bool(worker.idle_since + timedelta(minutes=worker.auto_stop_minutes or 0) <= clock.now())


def _order(worker: Worker, state: SleepState, *, wake: bool) -> int:
    actor = Actor.system(KEEPER, worker.organization_id)
    resource = worker.sleepable_id
    if resource is None:
        return 0
    try:
        kind = sleepable.kind_named(worker.sleepable_kind)
        view = sleepable.get(actor, worker.sleepable_kind, resource)
        if view.state != state or view.operation_id:
            return 0
        if wake:
            kind.request_wake(actor, resource, reason=f"a task waits for {worker.name}")
        else:
            kind.request_sleep(actor, resource, reason=f"{worker.name} has nothing to run")
    except (NotFound, CurfewError):
        return 0  # said in the audit log by the one who refused; the next sweep asks again
    return 1
