"""Submitting tasks, one or many that need each other, and the templates that they start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction

from accounts.models import User
from audit import services as audit
from core import clock, encryption
from core.actor import Actor, ActorKind
from core.errors import Forbidden, InvalidInput, NotFound, QuotaExceeded
from core.live import publish
from taskrunner import checking, graph
from taskrunner.enums import FINAL, PERMISSION_OPERATE, Status
from taskrunner.models import Quota, Task, TaskSchedule, TaskTemplate

MOST_AT_ONCE = 200
TOPIC = "tasks"
_PLAIN = (
    "name",
    "description",
    "image",
    "command",
    "cpu",
    "memory",
    "storage",
    "gpus",
    "labels",
    "environment",
    "network",
    "timeout_seconds",
    "retries",
    "retry_on",
    "priority",
    "shared",
)


def check(given: Mapping[str, Any]) -> dict[str, Any]:
    """`checking.checked` with the platform's own error. Raises InvalidInput."""
    try:
        return checking.checked(given)
    except checking.Wrong as wrong:
        raise InvalidInput(errors=wrong.errors) from None


def submit(
    *,
    actor: Actor,
    fields: Mapping[str, Any],
    needs: Sequence[UUID] = (),
    idempotency_key: str | None = None,
    retry_of: Task | None = None,
    schedule: TaskSchedule | None = None,
    owner: User | None = None,
) -> Task:
    """Queue a task, or keep it waiting for those that it needs. The same key gives the task that it made.

    Raises InvalidInput (by field), QuotaExceeded, NotFound for a needed task that the actor may not see.
    """
    actor.require(PERMISSION_OPERATE, "submit tasks")
    org_id = _organization(actor)
    facts = check(fields)
    if idempotency_key:
        known: Task | None = Task.objects.for_org(org_id).filter(idempotency_key=idempotency_key).first()
        if known:
            return known
    person = owner or _person(actor)
    wanted = _needed(actor, needs)
    with transaction.atomic():
        _within_quota(org_id, person, 1)
        task = _build(actor, org_id, facts, person, wanted)
        task.idempotency_key, task.retry_of, task.schedule = idempotency_key or None, retry_of, schedule
        try:
            with transaction.atomic():
                task.save(force_insert=True)
        except IntegrityError:
            return Task.objects.for_org(org_id).get(idempotency_key=idempotency_key)
        task.needs.set(wanted)
        _told(actor, task)
    return task


def submit_many(*, actor: Actor, tasks: Sequence[Mapping[str, Any]]) -> list[Task]:
    """Submit tasks that need each other by their `key`; all or none. Raises InvalidInput, also for a circle."""
    actor.require(PERMISSION_OPERATE, "submit tasks")
    org_id = _organization(actor)
    if not 1 <= len(tasks) <= MOST_AT_ONCE:
        raise InvalidInput(errors={"tasks": [f"1 to {MOST_AT_ONCE} tasks."]})
    keys = [str(given.get("key") or number) for number, given in enumerate(tasks)]
    if len(set(keys)) < len(keys):
        raise InvalidInput(errors={"tasks": ["Each key names one task."]})
    needs = {key: [str(n) for n in given.get("needs") or []] for key, given in zip(keys, tasks, strict=True)}
    try:
        order = graph.order(needs)
    except graph.BadGraph as bad:
        raise InvalidInput(errors={"tasks": [str(bad)]}) from None
    facts = {}
    for key, given in zip(keys, tasks, strict=True):
        try:
            facts[key] = check({k: v for k, v in given.items() if k not in ("key", "needs")})
        except InvalidInput as wrong:
            raise InvalidInput(errors={f"tasks.{key}.{name}": words for name, words in wrong.errors.items()}) from None
    person = _person(actor)
    made: dict[str, Task] = {}
    with transaction.atomic():
        _within_quota(org_id, person, len(tasks))
        for key in order:
            wanted = [made[name] for name in needs[key]]
            task = made[key] = _build(actor, org_id, facts[key], person, wanted)
            task.save(force_insert=True)
            task.needs.set(wanted)
            _told(actor, task)
    return [made[key] for key in keys]


def _organization(actor: Actor) -> UUID:
    if actor.org_id is None:
        raise Forbidden("A task belongs to an organization.")
    return actor.org_id


def _person(actor: Actor) -> User | None:
    return User.objects.filter(pk=actor.id).first() if actor.kind == ActorKind.USER else None


def _needed(actor: Actor, needs: Sequence[UUID]) -> list[Task]:
    from taskrunner import selectors

    return [selectors.get_task(actor=actor, task_id=task_id) for task_id in dict.fromkeys(needs)]


def _build(actor: Actor, org_id: UUID, facts: Mapping[str, Any], person: User | None, wanted: Sequence[Task]) -> Task:
    now = clock.now()
    failed = [need for need in wanted if need.status in FINAL and need.status != Status.SUCCEEDED]
    if failed:
        raise InvalidInput(errors={"needs": [f"{failed[0].name} did not succeed."]})
    waits = any(need.status != Status.SUCCEEDED for need in wanted)
    task = Task(
        organization_id=org_id,
        owner=person,
        owner_label=(person.display_name if person else actor.label)[:200],
        status=Status.WAITING if waits else Status.QUEUED,
        reason=f"Waits for {', '.join(n.name for n in wanted)}"[:500] if waits else "Waits for a worker",
        not_before=now,
        created_at=now,
        queued_at=None if waits else now,
        secret_names=sorted(facts["secrets"]),
        files=sorted(facts["files"]),
        **{name: facts[name] for name in _PLAIN},
    )
    if facts["secrets"] or facts["files"]:
        task.sealed = encryption.seal({"secrets": facts["secrets"], "files": facts["files"]}, bound_to=task.seal_name)
    return task


def _told(actor: Actor, task: Task) -> None:
    audit.record(
        actor=actor,
        verb="task.submitted",
        target=task,
        changes={"image": [None, task.image], "secrets": [None, task.secret_names]},
    )
    publish(task.organization_id, TOPIC, [task.id])


def _within_quota(org_id: UUID, person: User | None, more: int) -> None:
    """Raises QuotaExceeded when the person or the organization would have too many tasks that have not ended."""
    limits = Quota.objects.for_org(org_id).exclude(most_queued=None)
    for quota in limits:
        if quota.user_id is not None and (person is None or quota.user_id != person.pk):
            continue
        rows = Task.objects.for_org(org_id).exclude(status__in=FINAL)
        count = (rows.filter(owner_id=quota.user_id) if quota.user_id else rows).count()
        if count + more > (quota.most_queued or 0):
            whose = "You have" if quota.user_id else "The organization has"
            raise QuotaExceeded(f"{whose} {count} tasks that have not ended; the limit is {quota.most_queued}.")


def set_shared(*, actor: Actor, task_id: UUID, shared: bool) -> Task:
    """Let everybody of the organization see the task, or only its owner and admins."""
    task = _own(actor, task_id)
    with transaction.atomic():
        if task.shared != shared:
            audit.record(actor=actor, verb="task.shared", target=task, changes={"shared": [task.shared, shared]})
            task.shared = shared
            task.save(update_fields=["shared"])
            publish(task.organization_id, TOPIC, [task.id])
    return task


def _own(actor: Actor, task_id: UUID) -> Task:
    """A task that the actor may change: its own, or any with tasks.manage. NotFound, Forbidden."""
    from taskrunner import selectors

    task = selectors.get_task(actor=actor, task_id=task_id)
    actor.require(PERMISSION_OPERATE, "change tasks")
    if not selectors.is_own(actor, task):
        actor.require("tasks.manage", "change tasks of others")
    return task


def save_template(*, actor: Actor, name: str, fields: Mapping[str, Any]) -> TaskTemplate:
    """Keep a submission under a name, without its secrets and files. The same name is replaced."""
    actor.require(PERMISSION_OPERATE, "save task templates")
    org_id = _organization(actor)
    title = name.strip()
    if not 0 < len(title) <= 120:
        raise InvalidInput(errors={"template": ["A name of 1 to 120 characters."]})
    facts = check({**fields, "secrets": {}, "files": {}})
    with transaction.atomic():
        row, _ = TaskTemplate.objects.for_org(org_id).update_or_create(
            organization_id=org_id,
            name=title,
            defaults={
                "fields": {key: facts[key] for key in _PLAIN},
                "created_by_label": actor.label,
                "created_at": clock.now(),
            },
        )
        audit.record(actor=actor, verb="task_template.saved", target=row)
    return row


def delete_template(*, actor: Actor, template_id: UUID) -> None:
    actor.require(PERMISSION_OPERATE, "delete task templates")
    with transaction.atomic():
        row = TaskTemplate.objects.visible_to(actor).filter(id=template_id).first()
        if row is None:
            raise NotFound("There is no such template.")
        audit.record(actor=actor, verb="task_template.deleted", target=row)
        row.delete()
