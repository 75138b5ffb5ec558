"""Workers join, tell how they are, are opened and closed, and leave; limits of people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import transaction

from accounts import services as accounts
from accounts.models import AgentToken, Membership
from audit import services as audit
from core import clock, sleepable
from core.actor import Actor
from core.errors import InvalidInput, InvalidState, NotFound
from core.live import publish
from taskrunner import checking
from taskrunner.enums import HELD, RENEW_SECONDS, WORKERS_MANAGE, WORKERS_OPERATE, WorkerState
from taskrunner.models import Quota, Sample, Task, Worker
from taskrunner.services.claiming import figures, worker_actor

TOPIC = "workers"
INTERVALS = {"heartbeat": 15, "renew": RENEW_SECONDS, "claim_wait": 20}
# The machine's own CPU, in percent of a core, and memory in MiB: what its use is a part of, even if it offers less.
WHOLE = ("cpu_whole", "memory_whole")
_MOST = {"cpu": 1_024_000, "memory": 64 * 1024 * 1024, "storage": 2**40, "gpus": 64}


def register(*, enrolment: str, facts: Mapping[str, Any], address: str = "") -> tuple[Worker, str]:
    """A machine joins with an enrolment token; the worker and the text of its lasting token, which is shown once.

    Raises NotSignedIn when the enrolment token is not live, InvalidInput by field.
    """
    known = _facts(facts)
    with transaction.atomic():
        token, text = accounts.mint_agent_token(enrolment=enrolment, name=known["name"])
        if token.kind != "worker":
            raise InvalidInput(errors={"token": ["This token enrols another kind of agent."]})
        name = _free_name(token.organization_id, known["name"])
        worker = Worker(
            organization_id=token.organization_id,
            token=token,
            address=address[:64],
            registered_at=clock.now(),
            seen_at=clock.now(),
            **{**known, "name": name},
        )
        worker.save(force_insert=True)
        AgentToken.objects.for_org(token.organization_id).filter(id=token.id).update(resource_id=worker.id)
        audit.record(actor=worker_actor(worker), verb="worker.enrolled", target=worker)
        publish(worker.organization_id, TOPIC, [worker.id])
    return worker, text


def _free_name(org_id: UUID, wanted: str) -> str:
    taken = set(Worker.objects.for_org(org_id).filter(name__startswith=wanted).values_list("name", flat=True))
    number, name = 2, wanted
    while name in taken:
        name = f"{wanted[:110]}-{number}"
        number += 1
    return name


def _facts(given: Mapping[str, Any]) -> dict[str, Any]:
    errors: dict[str, list[str]] = {}
    known: dict[str, Any] = {}
    for name, most in _MOST.items():
        value = given.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            errors[name] = [f"A whole number from 0 to {most}."]
        else:
            known[name] = value
    for name, length in (("hostname", 200), ("gpu_model", 120), ("engine", 60), ("agent_version", 40)):
        known[name] = "".join(c for c in str(given.get(name) or "") if c.isprintable())[:length]
    title = "".join(c for c in str(given.get("name") or known["hostname"]) if c.isprintable()).strip()[:120]
    known["name"] = title
    if not title:
        errors["name"] = ["Give the worker a name."]
    try:
        known["labels"] = checking.labels(given.get("labels") or {})
    except ValueError as wrong:
        errors["labels"] = [str(wrong)]
    if errors:
        raise InvalidInput(errors=errors)
    return known


def beat(
    *, worker: Worker, usage: Mapping[str, Any], capacity: Mapping[str, Any] | None = None, address: str = ""
) -> dict[str, Any]:
    """A sign of life with figures, from an address. The answer says what is wanted of the worker."""
    now = clock.now()
    kept = figures(usage)
    fields: dict[str, Any] = {
        "seen_at": now,
        "usage": {**kept, **figures(usage, WHOLE)},
        **({"address": address[:64]} if address else {}),
    }
    if capacity:
        known = _facts({"name": worker.name, "labels": worker.labels, **capacity})
        fields |= {name: known[name] for name in (*_MOST, "gpu_model", "engine", "agent_version") if name in capacity}
    with transaction.atomic():
        Worker.objects.for_org(worker.organization_id).filter(id=worker.id).update(**fields)
        if kept:
            Sample.objects.create(worker=worker, at=now, **kept)
        publish(worker.organization_id, TOPIC, [worker.id])
    return {"wanted": worker.wanted, "intervals": INTERVALS}


def save_worker(*, actor: Actor, worker_id: UUID, changes: Mapping[str, Any]) -> Worker:
    """Open, cordon or drain it (workers.operate); rename, label, automatic on and off, host mounts (workers.manage)."""
    from taskrunner import selectors

    worker = selectors.get_worker(actor=actor, worker_id=worker_id)
    actor.require(WORKERS_OPERATE if set(changes) <= {"wanted"} else WORKERS_MANAGE, "change workers")
    known = _checked_changes(actor, worker, changes)
    with transaction.atomic():
        before = {name: getattr(worker, name) for name in known}
        for name, value in known.items():
            setattr(worker, name, value)
        worker.save(update_fields=list(known))
        diff = {name: [str(before[name]), str(value)] for name, value in known.items() if before[name] != value}
        if diff:
            audit.record(actor=actor, verb="worker.changed", target=worker, changes=diff)
            publish(worker.organization_id, TOPIC, [worker.id])
    return worker


def _checked_changes(actor: Actor, worker: Worker, changes: Mapping[str, Any]) -> dict[str, Any]:
    errors: dict[str, list[str]] = {}
    known: dict[str, Any] = {}
    for name, value in changes.items():
        try:
            known[name] = _CHANGES[name](value)
        except KeyError:
            errors[name] = ["This cannot be changed."]
        except ValueError as wrong:
            errors[name] = [str(wrong)]
    same = Worker.objects.for_org(worker.organization_id).filter(name=known.get("name", "")).exclude(id=worker.id)
    if "name" in known and same.exists():
        errors["name"] = ["Another worker has this name."]
    if known.get("sleepable_id"):
        try:
            sleepable.get(actor, known.get("sleepable_kind", worker.sleepable_kind), known["sleepable_id"])
        except NotFound:
            errors["sleepable_id"] = ["There is no such machine."]
    if errors:
        raise InvalidInput(errors=errors)
    return known


def _wanted(value: Any) -> str:
    if value not in WorkerState.values:
        raise ValueError(f"One of {', '.join(WorkerState.values)}.")
    return str(value)


def _minutes(value: Any) -> int | None:
    if value in (None, ""):
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10_080:
        raise ValueError("1 to 10080 minutes, or nothing.")
    return value


def _title(value: Any) -> str:
    text = str(value).strip()
    if not 0 < len(text) <= 120 or not text.isprintable():
        raise ValueError("A name of 1 to 120 characters.")
    return text


def _mounts(value: Any) -> list[str]:
    if not isinstance(value, list) or any(not isinstance(p, str) or not p.startswith("/") or ".." in p for p in value):
        raise ValueError("A list of absolute paths.")
    return value


_CHANGES: dict[str, Any] = {
    "name": _title,
    "wanted": _wanted,
    "labels": checking.labels,
    "auto_start": bool,
    "auto_stop_minutes": _minutes,
    "sleepable_kind": str,
    "sleepable_id": lambda value: UUID(str(value)) if value else None,
    "host_mounts": _mounts,
}


def remove_worker(*, actor: Actor, worker_id: UUID) -> None:
    """Forget a worker and end its token. Raises InvalidState while tasks run on it."""
    from taskrunner import selectors

    worker = selectors.get_worker(actor=actor, worker_id=worker_id)
    actor.require(WORKERS_MANAGE, "remove workers")
    with transaction.atomic():
        if Task.objects.for_org(worker.organization_id).filter(worker=worker, status__in=HELD).exists():
            raise InvalidState(f"{worker.name} still runs tasks; drain it first.")
        if worker.token_id:
            AgentToken.objects.for_org(worker.organization_id).filter(id=worker.token_id).update(revoked_at=clock.now())
        audit.record(actor=actor, verb="worker.removed", target=worker)
        Sample.objects.filter(worker=worker, task=None).delete()  # those of tasks stay with their tasks
        org_id, gone = worker.organization_id, worker.id
        worker.delete()
        publish(org_id, TOPIC, [gone])


def save_quota(*, actor: Actor, user_id: UUID | None, limits: Mapping[str, int | None]) -> Quota:
    """Limits of one member, or of all together (user_id None). Null lifts a limit."""
    actor.require(WORKERS_MANAGE, "set task limits")
    names = {"most_queued", "most_running", "most_cpu", "most_memory", "most_gpus"}
    wrong = {
        name: ["A whole number that is not negative, or nothing."]
        for name, value in limits.items()
        if name not in names or (value is not None and (isinstance(value, bool) or not 0 <= value < 2**31))
    }
    if wrong:
        raise InvalidInput(errors=wrong)
    if actor.org_id is None:
        raise NotFound("There is no organization.")
    member = None
    if user_id is not None:
        member = Membership.objects.visible_to(actor).filter(user_id=user_id).select_related("user").first()
        if member is None:
            raise NotFound("There is no such member.")
    with transaction.atomic():
        row, _ = Quota.objects.visible_to(actor).get_or_create(
            organization_id=actor.org_id, user=member.user if member else None
        )
        before = {name: getattr(row, name) for name in limits}
        for name, value in limits.items():
            setattr(row, name, value)
        row.save()
        audit.record(
            actor=actor,
            verb="task_quota.saved",
            target=row,
            target_label=member.user.display_name if member else "everybody",
            changes={name: [before[name], value] for name, value in limits.items() if before[name] != value},
        )
    return row
