"""How long figures and logs of tasks are kept, by the organization's choice."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from audit import services as audit
from core import clock
from core.actor import Actor
from core.errors import Forbidden, InvalidInput
from taskrunner.enums import WORKERS_MANAGE
from taskrunner.models import Attempt, LogPiece, LogStream, Sample, TaskSettings

SHORTEST_DAYS, LONGEST_DAYS = 1, 3650
BATCH = 2000


def save_keeping(*, actor: Actor, sample_days: int | None, log_days: int | None) -> TaskSettings:
    """Keep figures and logs for so many days after a task's end; None is for ever. Raises InvalidInput."""
    actor.require(WORKERS_MANAGE, "change how long logs of tasks are kept")
    if actor.org_id is None:
        raise Forbidden("Act in one organization to change its settings.")
    wanted = {"sample_days": sample_days, "log_days": log_days}
    wrong = {
        name: [f"{SHORTEST_DAYS} to {LONGEST_DAYS} days, or nothing for ever."]
        for name, days in wanted.items()
        if days is not None and (isinstance(days, bool) or not SHORTEST_DAYS <= days <= LONGEST_DAYS)
    }
    if wrong:
        raise InvalidInput(errors=wrong)
    with transaction.atomic():
        row, _ = (
            TaskSettings.objects.for_org(actor.org_id).select_for_update().get_or_create(organization_id=actor.org_id)
        )
        changes = {name: [getattr(row, name), days] for name, days in wanted.items() if getattr(row, name) != days}
        if changes:
            row.sample_days, row.log_days = sample_days, log_days
            row.save(update_fields=["sample_days", "log_days"])
            audit.record(actor=actor, verb="task_settings.changed", target=row, changes=changes)
    return row


def settings_of(organization_id: UUID) -> TaskSettings:
    """What is set, or the default unsaved."""
    row: TaskSettings | None = TaskSettings.objects.for_org(organization_id).first()
    return row or TaskSettings(organization_id=organization_id)


def forget_old() -> tuple[int, int]:
    """Remove what organizations no longer keep: how many figures, and of how many attempts the log."""
    samples = logs = 0
    for row in TaskSettings.objects.all_orgs():
        if row.sample_days is not None:
            samples += _forget_samples(row.organization_id, row.sample_days)
        if row.log_days is not None:
            logs += _forget_logs(row.organization_id, row.log_days)
    return samples, logs


def _forget_samples(org_id: UUID, days: int) -> int:
    old = Sample.objects.filter(Q(worker__organization_id=org_id) | Q(task__organization_id=org_id))
    old = old.filter(at__lt=clock.now() - timedelta(days=days))
    gone = 0
    while ids := list(old.order_by("id").values_list("id", flat=True)[:BATCH]):
        gone += Sample.objects.filter(id__in=ids).delete()[0]
    return gone


def _forget_logs(org_id: UUID, days: int) -> int:
    """Of attempts that ended before then. How long the log was stays known."""
    old = Attempt.objects.filter(
        task__organization_id=org_id,
        finished_at__lt=clock.now() - timedelta(days=days),
        log__isnull=False,
        log__removed_at=None,
    )
    gone = 0
    for attempt_id in list(old.order_by("finished_at").values_list("id", flat=True)[:BATCH]):
        pieces = LogPiece.objects.filter(attempt_id=attempt_id)
        while ids := list(pieces.order_by("id").values_list("id", flat=True)[:200]):
            LogPiece.objects.filter(id__in=ids).delete()
        LogStream.objects.filter(attempt_id=attempt_id).update(removed_at=clock.now())
        gone += 1
    return gone
