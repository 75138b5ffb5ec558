"""Workflow runs: begun when somebody's tool asks for a node, ended when it asks what it cost; each pays its share.

A run's cost is its part of the node's intervals: where several runs share a node, each moment is split evenly among them,
so that all runs together never cost more than the node did.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from audit import services as audit
from cloudnodes.automatic_models import WorkflowRun
from cloudnodes.enums import RESOURCE, Power
from cloudnodes.models import CloudNode
from cloudnodes.providers.metrics import Reading
from cloudnodes.services.observe import label_of
from core import clock
from core.actor import Actor
from core.errors import InvalidInput, NotFound
from core.live import publish
from costs import ledger
from costs.enums import Phase
from costs.models import Interval

ZERO = Decimal(0)
DONE, ABANDONED = "done", "abandoned"
# A run of which nobody has said a word for so long is over.
LONGEST = timedelta(hours=24)
MOST_PARAMS = 4000


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of one interval that a run was in: `sharers` runs were, and it pays one part of so many."""

    interval: Interval
    start: datetime
    end: datetime
    sharers: int
    cost: Decimal | None


@dataclass(slots=True)
class RunCost:
    """What a run cost; None when a price is not known. `seconds` is the time that the node was awake during it."""

    cost: Decimal | None
    seconds: float
    parts: list[Part] = field(default_factory=list)


def stretches(
    start: datetime, end: datetime, others: Sequence[tuple[datetime, datetime]]
) -> list[tuple[datetime, datetime, int]]:
    """Cut [start, end) wherever another run begins or ends; with how many share each piece, this one included. Pure."""
    edges = sorted({start, end, *(m for pair in others for m in pair if start < m < end)})
    return [(left, right, 1 + sum(a <= left and right <= b for a, b in others)) for left, right in pairwise(edges)]


def cost_of(
    start: datetime, end: datetime, others: Sequence[tuple[datetime, datetime]], intervals: Iterable[Interval]
) -> RunCost:
    """The share of one run from `start` to `end` in the awake intervals of its node."""
    pieces = stretches(start, end, others)
    found = RunCost(ZERO, 0.0)
    for interval in intervals:
        for left, right, sharers in pieces:
            part = ledger.overlap(interval.started_at, interval.ended_at, left, right)
            if part is None:
                continue
            money = None if interval.price is None else ledger.amount(interval.price, *part) / sharers
            found.parts.append(Part(interval, *part, sharers, money))
            found.seconds += (part[1] - part[0]).total_seconds()
            found.cost = None if money is None or found.cost is None else found.cost + money
    if not found.parts:
        found.cost = None
    return found


def begin(
    *,
    actor: Actor,
    node: CloudNode,
    workflow_id: str,
    params: Mapping[str, Any] | None = None,
    operation_id: UUID | None = None,
    ready: bool = False,
) -> WorkflowRun:
    """The run of this workflow on this node, made now if need be; a repeat returns it as it is. It starts to count when
    the node is `ready`. InvalidInput for parameters that are too large.
    """
    actor.require("nodes.operate", "run workflows on cloud nodes")
    if len(str(params or {})) > MOST_PARAMS:
        raise InvalidInput(errors={"params": [f"At most {MOST_PARAMS} characters."]})
    now = clock.now()
    with transaction.atomic():
        run, created = WorkflowRun.objects.for_org(node.organization_id).get_or_create(
            workflow_id=workflow_id[:200],
            resource_id=node.id,
            defaults={
                "organization_id": node.organization_id,
                "node": node,
                "node_label": label_of(node),
                "type_slug": node.node_type.slug,
                "provider": node.provider,
                "gpu_tier": node.gpu_tier,
                "team": node.team,
                "person": actor.label[:200],
                "params": dict(params or {}),
                "operation_id": operation_id,
                "asked_at": now,
                "started_at": now if ready else None,
            },
        )
        if not created and ready and run.started_at is None and run.ended_at is None:
            run.started_at = now
            run.save(update_fields=["started_at"])
        if created:
            audit.record(
                actor=actor,
                verb="node.run_began",
                target=node,
                target_label=label_of(node),
                detail=f"workflow {run.workflow_id}",
                organization_id=node.organization_id,
            )
            publish(node.organization_id, "nodes", [node.id])
    return run


def find(*, actor: Actor, workflow_id: str, node_type: str, provider: str, tier: str = "") -> WorkflowRun | None:
    """The newest run of a workflow on a type of node at a provider; None when `ensure` was never asked for it."""
    actor.require("nodes.view", "see workflow runs")
    text = node_type.strip()
    rows = WorkflowRun.objects.visible_to(actor).filter(
        Q(type_slug=text.lower()) | Q(node__node_type__name__iexact=text), workflow_id=workflow_id, provider=provider
    )
    if tier:
        rows = rows.filter(gpu_tier=tier.lower())
    found: WorkflowRun | None = rows.select_related("node").order_by("-asked_at").first()
    return found


def finish(*, actor: Actor, workflow_id: str, resource_id: UUID | None = None) -> list[WorkflowRun]:
    """End the runs of a workflow (on one node) and keep what they cost; those that have ended stay as they are.

    NotFound when there is none. Without the right to operate nodes nothing is ended.
    """
    rows = WorkflowRun.objects.visible_to(actor).filter(workflow_id=workflow_id)
    if resource_id is not None:
        rows = rows.filter(resource_id=resource_id)
    found = list(rows.order_by("asked_at"))
    if not found:
        raise NotFound("There is no such workflow run.")
    actor.require("nodes.operate", "end workflow runs")
    now = clock.now()
    return [r if r.ended_at else _end(r.id, actor, now, DONE) for r in found]


def _end(run_id: UUID, actor: Actor, at: datetime, outcome: str) -> WorkflowRun:
    with transaction.atomic():
        run: WorkflowRun = WorkflowRun.objects.all_orgs().select_for_update().get(id=run_id)
        if run.ended_at is not None:
            return run
        run.started_at = run.started_at or _became_ready(run) or at
        run.ended_at, run.outcome = max(at, run.started_at), outcome
        run.cost = actual(run).cost
        run.save(update_fields=["started_at", "ended_at", "outcome", "cost"])
        audit.record(
            actor=actor,
            verb="node.run_ended",
            target_kind=RESOURCE,
            target_id=str(run.resource_id),
            target_label=run.node_label,
            detail=f"workflow {run.workflow_id}, {outcome}",
            organization_id=run.organization_id,
        )
        publish(run.organization_id, "nodes", [run.resource_id])
    return run


def _became_ready(run: WorkflowRun) -> datetime | None:
    """When the node answered, for a run whose tool never asked again after it had been told to wait."""
    ready = run.node.ready_at if run.node else None
    return ready if ready is not None and ready >= run.asked_at else None


def actual(run: WorkflowRun) -> RunCost:
    """What a run cost until it ended, or until now: always worked out from the intervals as they are known now."""
    if run.started_at is None:
        return RunCost(None, 0.0)
    end = run.ended_at or clock.now()
    others = [
        (start, stop or end)
        for start, stop in WorkflowRun.objects.for_org(run.organization_id)
        .filter(resource_id=run.resource_id, started_at__lt=end)
        .filter(Q(ended_at=None) | Q(ended_at__gt=run.started_at))
        .exclude(id=run.id)
        .values_list("started_at", "ended_at")
        if start is not None
    ]
    rows = (
        Interval.objects.for_org(run.organization_id)
        .filter(resource_kind=RESOURCE, resource_id=run.resource_id, phase=Phase.AWAKE, started_at__lt=end)
        .filter(Q(ended_at=None) | Q(ended_at__gt=run.started_at))
        .order_by("started_at")
    )
    return cost_of(run.started_at, end, others, rows)


def under_way(node_ids: Collection[UUID]) -> dict[UUID, list[WorkflowRun]]:
    """Runs that have not ended, by node. The ids must be the caller's own."""
    found: dict[UUID, list[WorkflowRun]] = defaultdict(list)
    rows = WorkflowRun.objects.all_orgs().filter(resource_id__in=list(node_ids), ended_at=None)
    for run in rows.filter(asked_at__gt=clock.now() - LONGEST):
        found[run.resource_id].append(run)
    return dict(found)


def close_stranded() -> int:
    """End runs that nobody ended: their node is down again, or a day has passed. Returns how many."""
    now = clock.now()
    rows = WorkflowRun.objects.all_orgs().filter(ended_at=None).select_related("node")
    down = Q(started_at__isnull=False) & (
        Q(node=None) | ~Q(node__provider_state__in=[Power.RUNNING, Power.STARTING, Power.UNKNOWN])
    )
    closed = 0
    for run in rows.filter(down | Q(asked_at__lte=now - LONGEST)):
        at = run.node.phase_at if run.node and run.node.phase_at and not run.node.is_on else now
        _end(run.id, Actor.system("idle_watcher", run.organization_id), max(at, run.started_at or at), ABANDONED)
        closed += 1
    return closed


def note_usage(*, node_id: UUID, reading: Reading, at: datetime) -> None:
    """Keep what the node's counters say for its runs: the last look before the end, and the first after the start."""
    told = {**reading.to_json(), "at": at.isoformat()}
    rows = WorkflowRun.objects.all_orgs().filter(resource_id=node_id, started_at__lte=at)
    recent = rows.filter(Q(ended_at=None) | Q(ended_at__gt=at - timedelta(minutes=2)))
    for run in recent:
        usage = dict(run.usage)
        usage.setdefault("first", told)
        if run.ended_at is None or "after" not in usage:
            usage["last"] = told
            if run.ended_at is not None:
                usage["after"] = True
        if usage != run.usage:
            WorkflowRun.objects.all_orgs().filter(id=run.id).update(usage=usage)


def usage_of(run: WorkflowRun) -> dict[str, Any] | None:
    """The difference of the node's counters between the looks next to the run's start and end; None without two looks."""
    first, last = run.usage.get("first"), run.usage.get("last")
    if not first or not last or first["at"] >= last["at"]:
        return None
    told: dict[str, Any] = {"from": first["at"], "to": last["at"]}
    if "done" in first and "done" in last and last["done"] >= first["done"]:
        told["requests"] = last["done"] - first["done"]
    for name, value in (last.get("tokens") or {}).items():
        before = (first.get("tokens") or {}).get(name, 0.0)
        if value >= before:
            told[name] = value - before
    return told
