"""Automatic off: looking at what awake nodes do, warning, and putting to sleep what has been idle long enough.

Every step follows from rows and the clock, so that a missed tick, two workers or a kill change nothing: a look is claimed
by a conditional UPDATE, a warning is written with its notice, an order has one key for each stretch of idleness.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

from django.conf import settings
from django.core.cache import cache
from django.db import transaction
from django.db.models import Q
from django.urls import reverse

from audit import services as audit
from cloudnodes import activity, gateway, runs, services
from cloudnodes.activity import IDLE, Look
from cloudnodes.automatic_models import NodeActivity, NodeRule
from cloudnodes.enums import Power, Scales
from cloudnodes.models import CloudNode, NodeType
from cloudnodes.providers import metrics
from cloudnodes.providers.load import TellsLoad
from cloudnodes.providers.metrics import Reading
from cloudnodes.services.observe import label_of, own_tag
from cloudnodes.services.orders import find_node
from core import clock, hooks
from core.actor import Actor
from core.errors import CurfewError, InvalidInput, NotFound
from core.live import publish
from core.providers import PermissionDenied, ProviderError
from core.sleepable import SleepState

log = logging.getLogger(__name__)
WATCHER = "idle_watcher"
LOOKERS = 8
MOST_MINUTES = 7 * 24 * 60
DEFAULT = "default"
# A budget may take a node for idle only after it has been so for a while.
SETTLED = timedelta(minutes=5)
# Clouds that tell how busy a whole machine is. It costs them money, so it is asked only where a rule needs it, and not at
# every look: the figures change every five minutes.
TELL_LOAD = ("aws", "azure")
LOAD_SECONDS = 150.0
# After an account refused, it is left in peace for so long.
REFUSED_SECONDS = 900.0
NIM_HEALTH = "/v1/health/"
NIM_METRICS = "/v1/metrics"


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule that holds for a node, and where it comes from: node, type, default, or none."""

    idle_minutes: int | None = None
    warn_minutes: int = 5
    auto_start: bool = True
    source: str = "none"


def rules_for(nodes: Collection[CloudNode]) -> dict[UUID, Rule]:
    """The rule of each node, in one query per call. The nodes must be of organizations that the caller may see."""
    rows = NodeRule.objects.all_orgs().filter(organization_id__in={n.organization_id for n in nodes})
    by = {(r.organization_id, r.target): r for r in rows}
    found = {}
    for node in nodes:
        for source, target in (
            ("node", f"node:{node.id}"),
            ("type", f"type:{node.node_type_id}"),
            ("default", DEFAULT),
        ):
            row = by.get((node.organization_id, target))
            if row is not None:
                found[node.id] = Rule(row.idle_minutes, row.warn_minutes, row.auto_start, source)
                break
        else:
            found[node.id] = Rule()
    return found


def set_rule(
    *,
    actor: Actor,
    idle_minutes: int | None,
    warn_minutes: int = 5,
    auto_start: bool = True,
    node_id: UUID | None = None,
    node_type_id: UUID | None = None,
) -> NodeRule:
    """Save the rule of a node, of a type, or (neither) the organization's default. InvalidInput per field, NotFound."""
    node, kind = _target(actor, node_id, node_type_id)
    actor.require("nodes.manage", "change when nodes are switched automatically")
    errors: dict[str, list[str]] = {}
    if idle_minutes is not None and not 1 <= idle_minutes <= MOST_MINUTES:
        errors["idle_minutes"] = [f"From 1 to {MOST_MINUTES} minutes, or nothing for never."]
    if not 0 <= warn_minutes <= 120:
        errors["warn_minutes"] = ["From 0 to 120 minutes."]
    if errors or actor.org_id is None:
        raise InvalidInput(errors=errors)
    target = f"node:{node.id}" if node else f"type:{kind.id}" if kind else DEFAULT
    facts = {"idle_minutes": idle_minutes, "warn_minutes": warn_minutes, "auto_start": auto_start}
    with transaction.atomic():
        before = NodeRule.objects.visible_to(actor).select_for_update().filter(target=target).first()
        changes = {n: [getattr(before, n, None), v] for n, v in facts.items() if getattr(before, n, None) != v}
        row, _ = NodeRule.objects.visible_to(actor).update_or_create(
            target=target,
            defaults={
                "organization_id": actor.org_id,
                "node": node,
                "node_type": kind,
                "saved_by": actor.label[:200],
                "updated_at": clock.now(),
                **facts,
            },
        )
        _record_rule(actor, node, kind, changes)
    return row


def remove_rule(*, actor: Actor, node_id: UUID | None = None, node_type_id: UUID | None = None) -> bool:
    """Take a rule away, so that the next wider one holds. False when there was none."""
    node, kind = _target(actor, node_id, node_type_id)
    actor.require("nodes.manage", "change when nodes are switched automatically")
    target = f"node:{node.id}" if node else f"type:{kind.id}" if kind else DEFAULT
    with transaction.atomic():
        row = NodeRule.objects.visible_to(actor).select_for_update().filter(target=target).first()
        if row is None:
            return False
        changes = {"idle_minutes": [row.idle_minutes, None]}
        row.delete()
        _record_rule(actor, node, kind, changes)
    return True


def _target(actor: Actor, node_id: UUID | None, type_id: UUID | None) -> tuple[CloudNode | None, NodeType | None]:
    if node_id is not None:
        return find_node(actor=actor, node_id=node_id), None
    if type_id is None:
        return None, None
    kind = NodeType.objects.visible_to(actor).filter(id=type_id).first()
    if kind is None:
        raise NotFound("There is no such node type.")
    return None, kind


def _record_rule(actor: Actor, node: CloudNode | None, kind: NodeType | None, changes: dict[str, Any]) -> None:
    label = label_of(node) if node else f"every {kind.name}" if kind else "every node"
    audit.record(
        actor=actor,
        verb="node.rule_changed",
        target_kind="node_rule",
        target_id=str(node.id if node else kind.id if kind else ""),
        target_label=label,
        changes=changes,
    )
    publish(str(actor.org_id), "nodes", [node.id] if node else [])


def keep_awake(*, actor: Actor, node_id: UUID, minutes: int = 60) -> NodeActivity:
    """Nobody puts the node to sleep for being idle before `minutes` have passed. NotFound, Forbidden, InvalidInput."""
    node = find_node(actor=actor, node_id=node_id)
    actor.require("nodes.operate", "keep cloud nodes awake")
    if not 1 <= minutes <= 24 * 60:
        raise InvalidInput(errors={"minutes": ["From 1 to 1440 minutes."]})
    until = clock.now() + timedelta(minutes=minutes)
    with transaction.atomic():
        row = activity_row(node)
        row.keep_until, row.kept_by, row.warned_at = until, actor.label[:200], None
        row.stops_at = _plan(row, rules_for([node])[node.id]).stop_at
        row.save(update_fields=["keep_until", "kept_by", "warned_at", "stops_at"])
        audit.record(
            actor=actor,
            verb="node.kept_awake",
            target=node,
            target_label=label_of(node),
            detail=f"for {minutes} min",
            organization_id=node.organization_id,
        )
        publish(node.organization_id, "nodes", [node.id])
    return row


def touch(node: CloudNode) -> None:
    """Somebody asked for the node now: its idleness begins anew."""
    row = activity_row(node)
    now = clock.now()
    row.touched_at, row.warned_at, row.stops_at = now, None, None
    if row.idle_since is not None:
        row.idle_since = now
    row.save(update_fields=["touched_at", "warned_at", "stops_at", "idle_since"])


def activity_row(node: CloudNode) -> NodeActivity:
    """The node's row, made when there is none; locked inside a transaction."""
    rows = NodeActivity.objects.for_org(node.organization_id)
    rows.get_or_create(node=node, defaults={"organization_id": node.organization_id, "next_at": clock.now()})
    locked: NodeActivity = rows.select_for_update().get(node=node) if _in_transaction() else rows.get(node=node)
    return locked


def _in_transaction() -> bool:
    return transaction.get_connection().in_atomic_block


def metrics_url(node: CloudNode) -> str:
    """Where the node's metrics are: its tags `metrics-path` and `metrics-port`, or NIM's own place when its health is
    asked the NIM way; "" when nothing says so.
    """
    base = node.health_endpoint if node.health_endpoint.startswith("http") else node.endpoint
    parts = urlsplit(base if "://" in base else f"http://{base}")
    if not base or not parts.hostname:
        return ""
    path = own_tag(node.tags, "metrics-path")
    if not path and NIM_HEALTH in node.health_endpoint:
        path = NIM_METRICS
    if not path:
        return ""
    port = own_tag(node.tags, "metrics-port")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    chosen = port if port.isdecimal() else parts.port
    scheme = parts.scheme if parts.scheme in ("http", "https") else "http"
    return urlunsplit((scheme, f"{host}:{chosen}" if chosen else host, "/" + path.lstrip("/"), "", ""))


def watched() -> list[CloudNode]:
    """Nodes that are awake and can tell something of their work."""
    rows = CloudNode.objects.all_orgs().filter(
        gone_at=None, managed=True, scaling=Scales.MANUAL, provider_state=Power.RUNNING, missing_since=None
    )
    nodes = list(rows.select_related("account", "node_type"))
    clouds = rules_for([n for n in nodes if n.provider in TELL_LOAD and not metrics_url(n)])
    return [n for n in nodes if n.provider == "docker" or metrics_url(n) or _has_rule(clouds.get(n.id))]


def _has_rule(rule: Rule | None) -> bool:
    return rule is not None and bool(rule.idle_minutes)


def watch() -> int:
    """One tick: look at every node that is due, judge it, and do what its rule says. Returns how many were looked at."""
    runs.close_stranded()
    nodes = _claim(watched())
    if not nodes:
        return 0
    under_way = runs.under_way([n.id for n in nodes])
    looks = _look_at(nodes)
    rules = rules_for(nodes)
    for node in nodes:
        look = Look(clock.now(), looks.get(node.id), len(under_way.get(node.id, ())))
        if record_look(node=node, look=look, rule=rules[node.id]):
            follow_rule(node=node, rule=rules[node.id])
    return len(nodes)


def _claim(nodes: Iterable[CloudNode]) -> list[CloudNode]:
    now = clock.now()
    chosen = []
    known = dict(NodeActivity.objects.all_orgs().filter(node__in=nodes).values_list("node_id", "next_at"))
    for node in nodes:
        if node.id not in known:
            activity_row(node)
        elif known[node.id] > now:
            continue
        due = NodeActivity.objects.all_orgs().filter(node=node, next_at__lte=now)
        if due.update(next_at=now + timedelta(seconds=activity.SAMPLE_SECONDS)):
            chosen.append(node)
    return chosen


def _look_at(nodes: list[CloudNode]) -> dict[UUID, Reading | None]:
    """Ask the nodes, several at once, outside any transaction; the threads use no database."""
    rows = NodeActivity.objects.all_orgs().filter(node__in=nodes)
    told = {node_id: Reading.from_json(reading) for node_id, reading in rows.values_list("node_id", "reading")}
    asks = {n.id: _ask_of(n, told.get(n.id)) for n in nodes}
    with ThreadPoolExecutor(max_workers=LOOKERS, thread_name_prefix="node-activity") as pool:
        return dict(zip(asks, pool.map(lambda ask: ask(), asks.values()), strict=True))


def _ask_of(node: CloudNode, before: Reading | None) -> Callable[[], Reading | None]:
    url = metrics_url(node)
    if url:
        return lambda: metrics.read(url)
    now = clock.now()
    if before is not None and before.asked is not None and 0 <= now.timestamp() - before.asked < LOAD_SECONDS:
        return lambda: before
    quiet = _quiet_key(node)
    if cache.get(quiet):
        return lambda: None
    try:
        provider: Any = gateway.provider_of(node)
    except ProviderError:
        return lambda: None
    if isinstance(provider, TellsLoad):
        return lambda: _machine(provider, node, now, quiet)
    return lambda: _container(provider, node.provider_id)


def _quiet_key(node: CloudNode) -> str:
    return f"cloudnodes.load.{node.id}"


def _machine(provider: TellsLoad, node: CloudNode, now: datetime, quiet: str) -> Reading | None:
    """How busy the whole machine is; None, and no question for a while, when its cloud does not tell."""
    try:
        load = provider.load(node.provider_id, instance_type=node.instance_type, now=now)
    except PermissionDenied:
        cache.set(quiet, 1, REFUSED_SECONDS)
        return None
    except ProviderError:
        load = None
    if load is None:
        cache.set(quiet, 1, LOAD_SECONDS)
        return None
    return Reading(host_percent=load.cpu_percent, host_network=load.network, asked=now.timestamp())


def _container(provider: Any, provider_id: str) -> Reading | None:
    ask = getattr(provider, "cpu_seconds", None)
    try:
        used = ask(provider_id) if ask else None
    except ProviderError:
        return None
    return None if used is None else Reading(cpu_seconds=used)


def record_look(*, node: CloudNode, look: Look, rule: Rule) -> bool:
    """Commit what a look found; False when a later one was committed before."""
    with transaction.atomic():
        row = activity_row(node)
        if row.sampled_at is not None and look.at < row.sampled_at:
            return False
        shown = (row.verdict, row.stops_at)
        before = Reading.from_json(row.reading) if row.reading else None
        found = activity.judge(
            look,
            before=before,
            before_at=row.sampled_at,
            idle_since=row.idle_since,
            began=node.ready_at or node.started_at,
            touched_at=row.touched_at,
        )
        if found.idle_since is None or row.idle_since is None or found.idle_since > row.idle_since:
            row.warned_at = None
        row.verdict, row.why, row.idle_since = found.verdict, found.why[:200], found.idle_since
        row.sampled_at, row.reading = look.at, look.reading.to_json() if look.reading else {}
        row.stops_at = _plan(row, rule).stop_at
        row.save()
        if look.reading:
            runs.note_usage(node_id=node.id, reading=look.reading, at=look.at)
        if shown != (row.verdict, row.stops_at):
            publish(node.organization_id, "nodes", [node.id])
    return True


def _plan(row: NodeActivity, rule: Rule) -> activity.Plan:
    return activity.plan(
        idle_since=row.idle_since if row.verdict == IDLE else None,
        idle_minutes=rule.idle_minutes,
        warn_minutes=rule.warn_minutes,
        keep_until=row.keep_until,
        warned_at=row.warned_at,
    )


def follow_rule(*, node: CloudNode, rule: Rule) -> str:
    """Warn or put to sleep, when it is time; "warned", "stopped" or "". Safe to repeat at any moment."""
    now = clock.now()
    with transaction.atomic():
        row = activity_row(node)
        plan = _plan(row, rule)
        if plan.stop_at is None or plan.warn_at is None or now < plan.warn_at or not _certain(row, now):
            return ""
        if row.warned_at is None:
            _warn(node, row, rule, now)
            if rule.warn_minutes:
                return "warned"
            plan = _plan(row, rule)
        if now < (plan.stop_at or now):
            return ""
    return "stopped" if _stop(node, row) else ""


def _certain(row: NodeActivity, now: datetime) -> bool:
    return row.verdict == IDLE and row.sampled_at is not None and now - row.sampled_at <= activity.FRESH


def _warn(node: CloudNode, row: NodeActivity, rule: Rule, now: datetime) -> None:
    row.warned_at = now
    row.stops_at = _plan(row, rule).stop_at
    row.save(update_fields=["warned_at", "stops_at"])
    at = f"{row.stops_at:%H:%M} UTC" if row.stops_at else "once"
    hooks.notice.emit(
        event="node.idle_warning",
        subject=f"{label_of(node)} falls asleep at {at}: idle since {row.idle_since:%H:%M} UTC",
        body=f"{row.why}. Keep it awake on its page if you still need it.",
        url=f"{settings.CURFEW_BASE_URL}{reverse('cloudnodes:detail', args=[node.id])}",
        dedupe_key=f"idle:{node.id}:{row.idle_since}:{now.isoformat()}",
        organization_id=node.organization_id,
    )
    publish(node.organization_id, "nodes", [node.id])


def _stop(node: CloudNode, row: NodeActivity) -> bool:
    """Order the sleep: one key for each stretch of idleness, so that it is ordered once."""
    if node.observed_state != SleepState.AWAKE or row.idle_since is None:
        return False
    minutes = int((clock.now() - row.idle_since).total_seconds() // 60)
    try:
        services.request_stop(
            actor=Actor.system(WATCHER, node.organization_id),
            node_id=node.id,
            reason=f"Idle for {minutes} min: {row.why}",
            idempotency_key=f"idle:{node.id.hex}:{int(row.idle_since.timestamp())}",
            cause="idle",
        )
    except CurfewError as refused:  # something else is under way: the next look decides anew
        log.info("idle_stop_refused", extra={"node": str(node.id), "code": refused.code})
        return False
    return True


def idle_nodes(node_ids: Collection[UUID]) -> dict[UUID, datetime]:
    """Since when each node is known to be idle; busy, unknown, kept and freshly used ones are left out."""
    now = clock.now()
    rows = NodeActivity.objects.all_orgs().filter(
        Q(keep_until=None) | Q(keep_until__lte=now),
        node_id__in=list(node_ids),
        verdict=IDLE,
        sampled_at__gt=now - activity.FRESH,
        idle_since__lte=now - SETTLED,
    )
    busy = runs.under_way(node_ids)
    return {r.node_id: r.idle_since for r in rows if r.idle_since is not None and not busy.get(r.node_id)}
