"""How a task ends: by its worker's word, by a person, by a lost lease, or with a task that it needs."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef

from audit import services as audit
from audit.enums import Outcome
from core import clock, hooks
from core.actor import Actor
from core.errors import InvalidInput, InvalidState
from core.live import publish
from taskrunner import retrying
from taskrunner.enums import FINAL, HELD, MOST_UNHEARD, PENDING, ExitClass, Status
from taskrunner.models import Attempt, Task, Worker
from taskrunner.services.claiming import held_task, worker_actor
from taskrunner.services.submitting import TOPIC, _own, submit

SWEEPER = "task_sweep"


def finish(
    *, worker: Worker, task_id: UUID, fence: int, exit_class: str, exit_code: int | None = None, reason: str = ""
) -> Task:
    """The worker's word on how the attempt ended. Said again under the same fence it changes nothing.

    Raises Conflict `stale_lease` when another claim followed, InvalidInput for an unknown class.
    """
    if exit_class not in ExitClass.values or exit_class == ExitClass.DEPENDENCY:
        raise InvalidInput(errors={"exit_class": ["Unknown."]})
    with transaction.atomic():
        known = Attempt.objects.filter(task_id=task_id, number=fence, worker=worker, finished_at__isnull=False).exclude(
            exit_class=ExitClass.LOST
        )
        if known.exists():
            return Task.objects.for_org(worker.organization_id).get(id=task_id)
        task = held_task(worker, task_id, fence, lock=True)
        if task.cancel_requested_at is not None and exit_class != ExitClass.OK:
            exit_class = ExitClass.CANCELLED
        _end_attempt(worker_actor(worker), task, ExitClass(exit_class), exit_code, reason)
    return task


def _end_attempt(actor: Actor, task: Task, exit_class: ExitClass, exit_code: int | None, reason: str) -> None:
    """Within a transaction that holds the task: close the attempt, then end the task or queue it again."""
    now = clock.now()
    words = (reason or _words(exit_class, exit_code))[:500]
    Attempt.objects.filter(task=task, number=task.fence).update(
        finished_at=now, exit_code=exit_code, exit_class=exit_class, reason=words
    )
    task.exit_code, task.exit_class, task.lease_expires_at = exit_code, exit_class, None
    unheard = exit_class == ExitClass.LOST and task.status == Status.CLAIMED and task.fence < MOST_UNHEARD
    if unheard:
        task.attempt -= 1  # nothing ran: the agent never heard of its claim, or died before it began
    again = unheard or retrying.tries_again(
        exit_class=exit_class, attempt=task.attempt, retries=task.retries, retry_on=task.retry_on
    )
    if again and task.cancel_requested_at is None:
        wait = retrying.pause(task.attempt) if task.attempt else 0
        task.status, task.worker, task.started_at = Status.QUEUED, None, None
        task.not_before, task.queued_at = now + timedelta(seconds=wait), now
        task.reason = f"{words} Attempt {task.attempt + 1} of {task.retries + 1} follows."[:500]
        verb, outcome = "task.requeued", Outcome.FAILED
    else:
        task.status = {
            ExitClass.OK: Status.SUCCEEDED,
            ExitClass.CANCELLED: Status.CANCELLED,
            ExitClass.DEPENDENCY: Status.CANCELLED,
        }.get(exit_class, Status.FAILED)
        task.finished_at, task.reason = now, words
        verb = "task.cancelled" if task.status == Status.CANCELLED else "task.finished"
        outcome = Outcome.FAILED if task.status == Status.FAILED else Outcome.SUCCESS
    task.save()
    audit.record(actor=actor, verb=verb, target=task, outcome=outcome, detail=words)
    publish(task.organization_id, TOPIC, [task.id])
    if task.status in FINAL:
        hooks.task_ended.emit(task=task)
        _release(task)


def _words(exit_class: ExitClass, exit_code: int | None) -> str:
    if exit_class == ExitClass.ERROR and exit_code is not None:
        return f"The command ended with code {exit_code}."
    return f"{exit_class.label}."


def _release(task: Task) -> None:
    """Move on what waits for a task that has ended."""
    for waiting in task.needed_by.select_for_update().filter(status=Status.WAITING).order_by("id"):
        _settle(waiting)


def _settle(task: Task) -> None:
    """Queue a waiting task when all that it needs succeeded; end it when one did not."""
    needs = list(task.needs.values_list("name", "status"))
    broken = [name for name, status in needs if status in FINAL and status != Status.SUCCEEDED]
    if broken:
        _end_attempt(
            Actor.system(SWEEPER, task.organization_id), task, ExitClass.DEPENDENCY, None,
            f"{broken[0]}, which it needs, did not succeed.",
        )  # fmt: skip
        return
    if all(status == Status.SUCCEEDED for _, status in needs):
        now = clock.now()
        task.status, task.queued_at, task.not_before, task.reason = Status.QUEUED, now, now, "Waits for a worker"
        task.save(update_fields=["status", "queued_at", "not_before", "reason"])
        publish(task.organization_id, TOPIC, [task.id])


def cancel(*, actor: Actor, task_id: UUID) -> Task:
    """End a task that waits at once; ask the worker of a running one to stop it. Raises InvalidState when it ended."""
    task = _own(actor, task_id)
    with transaction.atomic():
        task = Task.objects.visible_to(actor).select_for_update().get(id=task.id)
        if task.is_final:
            raise InvalidState(f"{task.name} has already ended.")
        if task.status in PENDING:
            task.cancel_requested_at = clock.now()
            _end_attempt(actor, task, ExitClass.CANCELLED, None, f"{actor.label} cancelled it.")
        elif task.cancel_requested_at is None:
            task.cancel_requested_at = clock.now()
            task.reason = f"{actor.label} asked to cancel it"[:500]
            task.save(update_fields=["cancel_requested_at", "reason"])
            audit.record(actor=actor, verb="task.cancel_requested", target=task)
            publish(task.organization_id, TOPIC, [task.id])
    return task


def retry(*, actor: Actor, task_id: UUID, idempotency_key: str | None = None) -> Task:
    """Submit a task that ended once more, as a new task with the same secrets. Raises InvalidState while it runs."""
    from core import encryption
    from taskrunner.services.submitting import _PLAIN

    task = _own(actor, task_id)
    if not task.is_final:
        raise InvalidState(f"{task.name} has not ended.")
    sealed = encryption.unseal(task.sealed, bound_to=task.seal_name)
    fields = {name: getattr(task, name) for name in _PLAIN}
    return submit(
        actor=actor,
        fields={**fields, "secrets": sealed.get("secrets", {}), "files": sealed.get("files", {})},
        idempotency_key=idempotency_key,
        retry_of=task,
        owner=task.owner,
    )


def delete(*, actor: Actor, task_id: UUID) -> None:
    """Delete a task that ended, with its log. Raises InvalidState while it has not ended."""
    task = _own(actor, task_id)
    with transaction.atomic():
        task = Task.objects.visible_to(actor).select_for_update().get(id=task.id)
        if not task.is_final:
            raise InvalidState(f"{task.name} has not ended; cancel it first.")
        audit.record(actor=actor, verb="task.deleted", target=task)
        org_id, deleted = task.organization_id, task.id
        task.delete()
        publish(org_id, TOPIC, [deleted])


def sweep_leases(limit: int = 500) -> int:
    """Take back the tasks whose worker fell silent; how many."""
    now = clock.now()
    due = Task.objects.all_orgs().filter(status__in=HELD, lease_expires_at__lt=now).order_by("lease_expires_at")
    count = 0
    for task_id, fence in list(due.values_list("id", "fence")[:limit]):
        with transaction.atomic():
            task = Task.objects.all_orgs().select_for_update(of=("self",)).filter(
                id=task_id, fence=fence, status__in=HELD, lease_expires_at__lt=now
            ).select_related("worker").first()  # fmt: skip
            if task is None:
                continue
            name = task.worker.name if task.worker else "Its worker"
            lost = ExitClass.LOST if task.cancel_requested_at is None else ExitClass.CANCELLED
            _end_attempt(Actor.system(SWEEPER, task.organization_id), task, lost, None, f"{name} is not answering.")
            count += 1
    return count


def sweep_waiting(limit: int = 500) -> int:
    """Settle waiting tasks whose needs ended without their noticing (a kill between two writes); how many moved."""
    unfinished = Task.needs.through.objects.filter(from_task_id=OuterRef("pk"), to_task__status__in=(*PENDING, *HELD))
    rows = Task.objects.all_orgs().filter(~Exists(unfinished), status=Status.WAITING)
    moved = 0
    for task_id in list(rows.values_list("id", flat=True)[:limit]):
        with transaction.atomic():
            task = Task.objects.all_orgs().select_for_update().filter(id=task_id, status=Status.WAITING).first()
            if task is not None:
                _settle(task)
                moved += 1
    return moved
