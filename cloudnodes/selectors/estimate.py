"""What a node would cost, what it did cost, and today's spend per node. Sums over intervals; "no data" instead of a guess."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Q

from cloudnodes.automatic_models import WorkflowRun
from cloudnodes.enums import RESOURCE, START, Scales
from cloudnodes.models import CloudNode
from cloudnodes.selectors.nodes import learned_seconds, visible_nodes
from core import clock
from core.actor import Actor
from core.errors import NotFound
from costs import ledger
from costs.enums import Phase
from costs.models import Interval

EARLIER = timedelta(days=30)
SESSIONS = 50
FEWEST_ALIKE = 3
HOUR = Decimal(3600)
# How a client may say how long it will run, in seconds each.
_LENGTHS = {"duration_seconds": 1, "seconds": 1, "minutes": 60, "hours": 3600}


@dataclass(slots=True)
class Estimate:
    """`cost` is None and `basis` "no_data" when the price or the length is not known. `expected_seconds` includes waking;
    `low` and `high` are the range of the `runs` that it was learned from (None when it was not learned from any).
    """

    cost: Decimal | None
    hourly_rate: Decimal | None
    expected_seconds: float | None
    basis: str
    low: Decimal | None = None
    high: Decimal | None = None
    runs: int = 0
    breakdown: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Actual:
    """What the intervals of a window add up to; `cost` is None when there is none, or one without a price."""

    cost: Decimal | None
    gpu_seconds: float
    start: datetime | None
    end: datetime | None
    intervals: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class NodeSpend:
    """What one node has cost today."""

    id: UUID
    node_type: str
    provider: str
    gpu_tier: str
    instance_name: str
    spent: Decimal


def nodes_of(*, actor: Actor, node_type: str, provider: str, tier: str = "") -> list[CloudNode]:
    """Nodes of a type (by name or slug) at a provider, gone ones included; NotFound when there is none."""
    named = Q(node_type__name__iexact=node_type.strip()) | Q(node_type__slug=node_type.strip().lower())
    rows = visible_nodes(actor, gone=True).filter(named, provider=provider)
    found = list(rows.filter(gpu_tier=tier) if tier else rows)
    if not found:
        raise NotFound("There is no such node type at this provider.")
    return found


def estimate_cost(*, actor: Actor, node_type: str, provider: str, params: Mapping[str, Any]) -> Estimate:
    """Estimate one use: price of the node (the cheapest when several would do) times how long it will be awake.

    The length is what `params` says (`seconds`, `minutes`, `hours` or `duration_seconds`), else the median of earlier
    runs of this node type, else of the times that these nodes were awake.
    """
    nodes = [
        n
        for n in nodes_of(
            actor=actor, node_type=node_type, provider=provider, tier=str(params.get("gpu_tier", "")).lower()
        )
        if n.gone_at is None
    ]
    priced = sorted(n.hourly_cost for n in nodes if n.hourly_cost is not None)
    rate = priced[0] if priced else None
    length, basis = _length(params)
    seen: list[float] = []
    if length is None:
        seen, basis = _earlier_lengths(actor, nodes, params)
        length = statistics.median(seen) if seen else None
    waking = _waking_seconds(nodes)
    if rate is None or length is None:
        return Estimate(None, rate, waking, "no_data")
    lines = [{"item": "run", "seconds": round(length, 1), "hourly_rate": rate, "cost": _priced(rate, length)}]
    if waking:
        wake = {"item": "wake", "seconds": round(waking, 1), "hourly_rate": rate, "cost": _priced(rate, waking)}
        lines.insert(0, wake)
    return Estimate(
        cost=_priced(rate, length + (waking or 0.0)),
        hourly_rate=rate,
        expected_seconds=length + (waking or 0.0),
        basis=basis,
        low=_priced(rate, min(seen) + (waking or 0.0)) if seen else None,
        high=_priced(rate, max(seen) + (waking or 0.0)) if seen else None,
        runs=len(seen),
        breakdown=lines,
    )


def _priced(rate: Decimal, seconds: float) -> Decimal:
    return rate * Decimal(str(seconds)) / HOUR


def _length(params: Mapping[str, Any]) -> tuple[float | None, str]:
    for name, seconds in _LENGTHS.items():
        value = params.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 10_000_000:
            return float(value) * seconds, "given_duration"
    return None, ""


def _waking_seconds(nodes: Sequence[CloudNode]) -> float | None:
    """The learned wake time when all are asleep; nothing when one is up already."""
    if any(n.is_on or n.scaling == Scales.TO_ZERO for n in nodes):
        return None
    learned = learned_seconds(START, [n.subject for n in nodes])
    return min(learned.values()) if learned else None


def _earlier_lengths(actor: Actor, nodes: Sequence[CloudNode], params: Mapping[str, Any]) -> tuple[list[float], str]:
    """Seconds that earlier uses took, and what they are: runs with the same parameters when there are three, else all
    runs of these nodes' type there, else the times that the nodes were awake; of the last thirty days.
    """
    first = nodes[0] if nodes else None
    if first is None:
        return [], "no_data"
    rows = WorkflowRun.objects.visible_to(actor).filter(
        type_slug=first.node_type.slug,
        provider=first.provider,
        gpu_tier__in={n.gpu_tier for n in nodes},
        outcome="done",
        started_at__isnull=False,
        ended_at__gt=clock.now() - EARLIER,
    )
    told = list(rows.order_by("-ended_at").values_list("started_at", "ended_at", "params")[: SESSIONS * 4])
    own = {k: v for k, v in params.items() if k != "gpu_tier"}
    lengths = [((end - start).total_seconds(), known) for start, end, known in told if start and end]
    alike = [length for length, known in lengths if own and known == own]
    if len(alike) >= FEWEST_ALIKE:
        return alike[:SESSIONS], "earlier_runs_alike"
    if lengths:
        return [length for length, _ in lengths[:SESSIONS]], "earlier_runs"
    awake = Interval.objects.visible_to(actor).filter(
        resource_kind=RESOURCE,
        resource_id__in=[n.id for n in nodes],
        phase=Phase.AWAKE,
        ended_at__gt=clock.now() - EARLIER,
    )
    ended = awake.order_by("-ended_at").values_list("started_at", "ended_at")[:SESSIONS]
    return [(end - start).total_seconds() for start, end in ended if end is not None], "earlier_intervals"


def actual_cost(
    *,
    actor: Actor,
    node_type: str,
    provider: str,
    tier: str = "",
    started_at: datetime | None = None,
    ended_at: datetime | None = None,
) -> Actual:
    """Add up the awake intervals of the nodes between two moments; without them, of the newest time that one was awake."""
    nodes = nodes_of(actor=actor, node_type=node_type, provider=provider, tier=tier)
    rows = Interval.objects.visible_to(actor).filter(
        resource_kind=RESOURCE, resource_id__in=[n.id for n in nodes], phase=Phase.AWAKE
    )
    end = min(ended_at or clock.now(), clock.now())
    newest = rows.filter(started_at__lt=end).order_by("-started_at").first()
    if newest is None:
        return Actual(None, 0.0, started_at, end)
    start = started_at or newest.started_at
    end = min(end, newest.ended_at) if started_at is None and newest.ended_at and not ended_at else end
    parts = []
    for row in rows.filter(started_at__lt=end).exclude(ended_at__lte=start).order_by("started_at"):
        part = ledger.overlap(row.started_at, row.ended_at, start, end)
        if part is not None:
            parts.append((row, *part))
    if not parts:
        return Actual(None, 0.0, start, end)
    known = all(row.price is not None for row, _, _ in parts)
    lines = [
        {
            "id": row.id,
            "resource": row.resource_label,
            "started_at": left,
            "ended_at": right,
            "open": row.ended_at is None,
            "hourly_rate": row.price,
            "cost": None if row.price is None else ledger.amount(row.price, left, right),
        }
        for row, left, right in parts
    ]
    seconds = sum((right - left).total_seconds() for _, left, right in parts)
    cost = sum((ledger.amount(row.price, left, right) for row, left, right in parts), Decimal(0)) if known else None
    return Actual(cost, seconds, start, end, lines)


def spend_by_node(*, actor: Actor, spent: Mapping[UUID, Decimal]) -> list[NodeSpend]:
    """The part of each cloud node that cost something, of what each resource spent."""
    actor.require("costs.view", "see costs")
    nodes = visible_nodes(actor, gone=True).filter(id__in=list(spent))
    rows = [
        NodeSpend(n.id, n.node_type.name, n.provider, n.gpu_tier, n.instance_name, spent[n.id])
        for n in nodes
        if spent[n.id]
    ]
    return sorted(rows, key=lambda r: (-r.spent, r.instance_name))
