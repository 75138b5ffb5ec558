"""Heartbeats: what they change, what they are answered, and whether the machine counts as idle."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction

from accounts.models import AgentToken
from core import clock
from core.errors import NotFound
from core.providers import ProviderError
from gpu_fleet import gateway, idle
from gpu_fleet.enums import (
    BUSY_HEARTBEAT_SECONDS,
    DOZE,
    HEARTBEAT_SECONDS,
    HIBERNATE,
    OPEN_LANES,
    RESOURCE,
    STANDBY_HEARTBEAT_SECONDS,
    Lane,
    SnapshotState,
)
from gpu_fleet.models import Beat, FleetSettings, Machine, Rental, Snapshot
from gpu_fleet.services import copying, lanes, leases
from gpu_fleet.services.settings import settings_of
from gpu_fleet.services.states import locked, settle, tell_pages
from operations import services as operations
from operations.models import Operation

COUNTING_SECONDS = 10
MOST_JOBS = 10
KEPT_TOLD = ("status", "message", "version", "uptime", "gpu_metrics", "disk_usage", "disk_free_gb", "facts", "hostname")
TUNING = {"compression": "auto", "pack_size": 16}


def record_beat(*, token: AgentToken, body: Mapping[str, Any]) -> dict[str, Any]:
    """Take one heartbeat and answer it. Raises NotFound when the machine is no more.

    A heartbeat of a rental that lost its race, or of an earlier one, is told to shut down and changes nothing else.
    """
    if token.resource_id is None:
        raise NotFound("This token belongs to no machine.")
    machine = Machine.objects.for_org(token.organization_id).filter(id=token.resource_id).first()
    if machine is None:
        raise NotFound("The machine of this token is no more.")
    instance = str(body.get("instance_id") or "")[:120]
    rental = leases.rental_of(machine, instance)
    if rental is None or rental.lane in (Lane.CLOSING, Lane.GONE, Lane.NEVER):
        return _reply(instance, "shutdown", "This machine is not wanted any more.", HEARTBEAT_SECONDS)
    keys = [str(key)[:800] for key in body.get("host_keys") or [] if isinstance(key, str)]
    lanes.heard(row=rental, host_keys=keys)
    if rental.lane in OPEN_LANES:
        return _reply(instance, "none", "Waiting for the race to end.", BUSY_HEARTBEAT_SECONDS)
    return _winner(machine, rental, token, body, instance)


def _winner(
    machine: Machine, rental: Rental, token: AgentToken, body: Mapping[str, Any], instance: str
) -> dict[str, Any]:
    rules = settings_of(machine.organization_id)
    operation = operations.active_operation(RESOURCE, machine.id)
    with transaction.atomic():
        row = locked(machine.id)
        if row is None or row.rental_id != rental.id:
            return _reply(instance, "shutdown", "This machine is not wanted any more.", HEARTBEAT_SECONDS)
        now = clock.now()
        interval = _keep(row, body, now)
        verdict = judge(row, rules, now)
        before = (row.observed_state, row.verdict, row.sleep_at)
        row.verdict, row.verdict_why = verdict.word.value, "; ".join(verdict.reasons)[:300]
        row.idle_since, row.sleep_at = verdict.idle_since, (verdict.sleep_at if _may_sleep(row, rules) else None)
        settle(row, operation.kind if operation else "", now)
        row.save(
            update_fields=[
                "heard_at", "told", "agent_version", "verdict", "verdict_why", "idle_since", "sleep_at",
                "observed_state", "state_since", "missing_since",
            ]
        )  # fmt: skip
        if operation or before != (row.observed_state, row.verdict, row.sleep_at) or interval:
            tell_pages(row)
        copying.hear(row, row.told["jobs"])
    stands_by, copies = copying.orders(row, operation, rules)
    reply = _reply(instance, "none", row.verdict_why, _pace(row, operation, verdict))
    if stands_by:
        reply["standby"], reply["interval"] = True, min(reply["interval"], STANDBY_HEARTBEAT_SECONDS)
    if operation is not None and operation.kind in (HIBERNATE, DOZE):
        reply["action"], reply["message"] = "prepare_hibernate", "It is being put to sleep."
    _renew_token(row, token, reply)
    reply["orders"] = [*_orders(row, operation, rules), *copies]
    reply["dead_man"] = _dead_man(row, rules, now)
    reply["login_keys"] = rules.login_keys.splitlines()
    return reply


def _keep(row: Machine, body: Mapping[str, Any], now: datetime) -> bool:
    """Keep the newest telling and one beat for curves and judgement; False for a beat that adds nothing."""
    evidence = _mapping(body.get("evidence"))
    told = {name: body[name] for name in KEPT_TOLD if name in body}
    jobs = [job for job in body.get("jobs") or [] if isinstance(job, dict)][-MOST_JOBS:]
    row.told = {**told, "jobs": jobs}
    row.heard_at, row.missing_since = now, None
    row.agent_version = str(body.get("version") or "")[:20]
    sample = sample_of(body, now)
    loads = [load for load in sample.gpus or () if load is not None]
    facts: Mapping[str, Any] = _mapping(body.get("facts"))
    total, used = _number(facts.get("memory_total")), _number(facts.get("memory_used"))
    Beat.objects.for_org(row.organization_id).create(
        organization_id=row.organization_id,
        machine=row,
        generation=row.generation,
        at=now,
        seconds=sample.seconds,
        gpu=max(loads) if loads and len(loads) == len(sample.gpus or ()) else None,
        cpu=sample.cpu,
        memory=None if not total or used is None else round(100 * used / total, 1),
        signals=dict(evidence),
    )
    return True


def sample_of(body: Mapping[str, Any], at: datetime) -> idle.Sample:
    """A heartbeat as evidence. The older protocol tells GPU loads alone: then everything else is unknown, so busy."""
    told = body.get("evidence")
    if isinstance(told, Mapping):
        return sample_from(told, at)
    metrics = body.get("gpu_metrics")
    loads = metrics.get("gpu_utilizations") if isinstance(metrics, Mapping) else None
    return idle.Sample(at, float(HEARTBEAT_SECONDS), _loads(loads))


def sample_from(told: Mapping[str, Any], at: datetime) -> idle.Sample:
    """Evidence as it was sent; whatever is malformed is unknown."""
    absent = told.get("absent")
    names = frozenset(str(n) for n in absent) if isinstance(absent, list) else frozenset()
    # these may be said not to exist; the others every machine has
    known = names & {"gpus", "net", "kernels"}
    seconds = _number(told.get("seconds")) or 0.0
    return idle.Sample(
        at,
        min(seconds, 600.0),
        _loads(told.get("gpus")),
        cpu=_number(told.get("cpu")),
        disk=_number(told.get("disk")),
        net=_number(told.get("net")),
        ssh=_count(told.get("ssh")),
        kernels=_count(told.get("kernels")),
        jobs=_count(told.get("jobs")),
        absent=known,
    )


def _mapping(told: Any) -> Mapping[str, Any]:
    return told if isinstance(told, Mapping) else {}


def _loads(told: Any) -> tuple[float | None, ...] | None:
    return tuple(_number(load) for load in told) if isinstance(told, list) else None


def _number(value: Any) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and value == value and abs(value) < 1e18
    return float(value) if good else None


def _count(value: Any) -> int | None:
    found = _number(value)
    return None if found is None or found < 0 else int(found)


def judge(row: Machine, rules: FleetSettings, now: datetime) -> idle.Verdict:
    """The verdict from the beats of this generation."""
    minutes = row.idle_minutes or rules.idle_minutes
    since = now - timedelta(minutes=minutes + 5)
    beats = Beat.objects.for_org(row.organization_id).filter(machine=row, generation=row.generation, at__gt=since)
    rows = list(beats.order_by("at").values_list("at", "signals"))
    samples = [sample_from(signals, at) if signals else idle.Sample(at, 0.0) for at, signals in rows]
    return idle.judge(
        samples,
        now,
        idle.Rule(minutes=minutes),
        interval=HEARTBEAT_SECONDS,
        since=row.awake_since,
        kept_until=row.keep_awake_until,
    )


def _may_sleep(row: Machine, rules: FleetSettings) -> bool:
    return row.auto_sleep and rules.auto_sleep and row.restored


def _pace(row: Machine, operation: Operation | None, verdict: idle.Verdict) -> float:
    """Seconds until the next heartbeat: quick while an order waits, quicker than usual while the countdown runs."""
    if operation is not None:
        return BUSY_HEARTBEAT_SECONDS
    return COUNTING_SECONDS if row.sleep_at is not None and not verdict.reasons else HEARTBEAT_SECONDS


def _reply(instance: str, action: str, message: str, interval: float) -> dict[str, Any]:
    return {
        "received": True,
        "instance_id": instance,
        "action": action,
        "message": message[:300],
        "interval": interval,
        "orders": [],
    }


def _renew_token(row: Machine, token: AgentToken, reply: dict[str, Any]) -> None:
    """All lanes of a race shared one token: the winner gets its own; once it is used, the others end."""
    secrets = gateway.secrets_of(row)
    wanted = secrets.get("token", "")
    if not wanted:
        return
    if wanted.startswith(f"{token.prefix}_"):
        lanes.revoke_tokens(machine=row, but=token.id)
    else:
        reply["token"] = wanted


def _orders(row: Machine, operation: Operation | None, rules: FleetSettings) -> list[dict[str, Any]]:
    """What the active operation wants of the machine, with the secrets that it needs, and a last warning."""
    found: list[dict[str, Any]] = []
    if row.sleep_at is not None and row.warned_for == row.sleep_at:
        words = f"Curfew: idle. This machine goes to sleep at {row.sleep_at:%H:%M:%S} UTC unless something works on it."
        found.append({"id": f"wall-{int(row.sleep_at.timestamp())}", "kind": "wall", "text": words})
    wanted = operation.state.get("order") if operation is not None else None
    if not isinstance(wanted, dict):
        return found
    try:
        repository = gateway.repository_for_machine(row, rules, operation.id if operation else None)
    except ProviderError:
        return found  # the operation itself meets the same error and says so
    order = {
        **wanted,
        "repository": repository.location,
        "password": repository.password,
        "environment": dict(repository.environment),
        "host": f"curfew-{row.id.hex[:12]}-{row.generation}",
        "tuning": TUNING,
    }
    return [*found, order]


def _dead_man(row: Machine, rules: FleetSettings, now: datetime) -> dict[str, Any]:
    if not rules.dead_man_hours:
        return {"silent_seconds": 0}
    verified = (
        Snapshot.objects.for_org(row.organization_id)
        .filter(machine=row, generation=row.generation, state=SnapshotState.VERIFIED)
        .order_by("-created_at")
        .first()
    )
    age = None if verified is None else round((now - verified.created_at).total_seconds())
    return {"silent_seconds": rules.dead_man_hours * 3600, "verified_seconds_ago": age}


def job_of(row: Machine, order_id: str) -> dict[str, Any] | None:
    """What the machine last told of an order."""
    for job in row.told.get("jobs") or []:
        if job.get("id") == order_id:
            return dict(job)
    return None


def keep_manifest(*, token: AgentToken, order_id: str, body: bytes) -> None:
    """Hashes made on the machine, for the snapshot that the order writes. Kept as sent (gzip)."""
    snapshot = _snapshot_of(token, order_id, writing=True)
    file = gateway.manifest_file(snapshot.organization_id, snapshot.id)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = file.with_suffix(".part")
    part.write_bytes(body)
    part.replace(file)


def read_manifest(*, token: AgentToken, snapshot_id: UUID | str) -> bytes:
    """The hashes of a snapshot of the token's machine, as they were kept."""
    snapshot = _snapshot_of(token, str(snapshot_id), writing=False)
    file = gateway.manifest_file(snapshot.organization_id, snapshot.id)
    if not file.is_file():
        raise NotFound("The hashes of this snapshot are not kept here.")
    return file.read_bytes()


def _snapshot_of(token: AgentToken, name: str, *, writing: bool) -> Snapshot:
    if token.resource_id is None:
        raise NotFound("This token belongs to no machine.")
    rows = Snapshot.objects.for_org(token.organization_id).filter(machine_id=token.resource_id)
    try:
        found = rows.filter(id=UUID(name.partition("-try")[0])).first()
    except ValueError:
        found = None
    if found is None or (writing and found.state != SnapshotState.WRITING):
        raise NotFound("There is no such snapshot.")
    snapshot: Snapshot = found
    return snapshot
