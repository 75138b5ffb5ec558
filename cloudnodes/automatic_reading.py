"""Reads for the page of automatic on and off, and of workflow runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Q

from cloudnodes import automatic, favourites, runs, selectors
from cloudnodes.activity import SILENT
from cloudnodes.automatic import Rule
from cloudnodes.automatic_models import NodeActivity, NodeRule, WorkflowRun
from cloudnodes.models import CloudNode, NodeType
from cloudnodes.selectors.preview import name_of
from core import clock
from core.actor import Actor


@dataclass(frozen=True, slots=True)
class Watched:
    """One node on the page: what is known of its work, which rule holds, when it falls asleep."""

    node: CloudNode
    name: str
    state: str
    verdict: str
    why: str
    idle_since: datetime | None
    stops_at: datetime | None
    keep_until: datetime | None
    kept_by: str
    rule: Rule
    tells: bool
    runs: int
    favourite: bool


@dataclass(slots=True)
class Overview:
    """Everything on the page."""

    nodes: list[Watched]
    default: Rule
    types: list[tuple[NodeType, Rule]]
    favourites: int
    favourites_off: int
    awake: int
    counting_down: int
    silent: int


def overview(*, actor: Actor, search: str = "") -> Overview:
    """Every node with its rule and activity, in a handful of queries however many there are."""
    nodes = selectors.list_nodes(actor=actor)
    text = search.strip().lower()
    shown = [n for n in nodes if text in f"{n.node_type.name} {n.instance_name} {n.provider}".lower()]
    marks, by_rule = favourites.ids_of(actor), automatic.rules_for(nodes)
    known = {a.node_id: a for a in NodeActivity.objects.visible_to(actor).filter(node__in=nodes)}
    busy = runs.under_way([n.id for n in nodes])
    rows = [_watched(n, known.get(n.id), by_rule[n.id], len(busy.get(n.id, ())), n.id in marks) for n in shown]
    own = {r.target: r for r in NodeRule.objects.visible_to(actor)}
    default = own.get(automatic.DEFAULT)
    types = {n.node_type_id: n.node_type for n in nodes}
    return Overview(
        nodes=sorted(rows, key=lambda r: (not r.favourite, r.stops_at is None, r.stops_at or clock.now(), r.name)),
        default=_rule(default, "default"),
        types=[(t, _rule(own.get(f"type:{t.id}"), "type")) for t in sorted(types.values(), key=lambda t: t.name)],
        favourites=len(marks),
        favourites_off=sum(n.id in marks and n.can_switch and not n.is_on for n in nodes),
        awake=sum(n.is_on for n in nodes),
        counting_down=sum(r.stops_at is not None for r in rows),
        silent=sum(r.node.is_on and not r.tells for r in rows),
    )


def _rule(row: NodeRule | None, source: str) -> Rule:
    return Rule(row.idle_minutes, row.warn_minutes, row.auto_start, source) if row else Rule()


def _watched(node: CloudNode, known: NodeActivity | None, rule: Rule, under_way: int, favourite: bool) -> Watched:
    now, up = clock.now(), node.is_on
    fresh = known if known is not None and up else None
    kept = known is not None and known.keep_until is not None and known.keep_until > now
    return Watched(
        node=node,
        name=name_of(node),
        state=node.observed_state,
        verdict=fresh.verdict if fresh else "",
        why=fresh.why if fresh else "",
        idle_since=fresh.idle_since if fresh else None,
        stops_at=fresh.stops_at if fresh and rule.idle_minutes else None,
        keep_until=known.keep_until if known and kept else None,
        kept_by=known.kept_by if known and kept else "",
        rule=rule,
        tells=node.provider == "docker" or bool(automatic.metrics_url(node)) or bool(fresh and fresh.why != SILENT),
        runs=under_way,
        favourite=favourite,
    )


def sleeping_times(actor: Actor, node_ids: list[UUID]) -> dict[UUID, datetime]:
    """When each of the nodes falls asleep for being idle, for the cells of the grid; in one query."""
    rows = NodeActivity.objects.visible_to(actor).filter(node_id__in=node_ids, stops_at__isnull=False)
    return {node_id: at for node_id, at in rows.values_list("node_id", "stops_at") if at is not None}


def list_runs(*, actor: Actor, search: str = "") -> Any:
    """Workflow runs of the organization, the newest first."""
    actor.require("nodes.view", "see workflow runs")
    rows = WorkflowRun.objects.visible_to(actor).order_by("-asked_at", "id")
    if search:
        rows = rows.filter(
            Q(workflow_id__icontains=search) | Q(node_label__icontains=search) | Q(person__icontains=search)
        )
    return rows


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run on the page; `cost` None: no price, or it has not begun."""

    run: WorkflowRun
    cost: Decimal | None
    seconds: float | None
    usage: dict[str, Any] | None


def run_lines(rows: list[WorkflowRun]) -> list[RunLine]:
    found = []
    for run in rows:
        cost = run.cost if run.ended_at else runs.actual(run).cost
        end = run.ended_at or clock.now()
        found.append(
            RunLine(run, cost, (end - run.started_at).total_seconds() if run.started_at else None, runs.usage_of(run))
        )
    return found
