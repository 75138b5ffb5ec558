"""Reports of agents: read, applied to what is held, stored, all or nothing.

Reading, comparing and packing happen outside any transaction. Storing is one short transaction that begins with a
conditional UPDATE ("still where I read it"), so that two messages of one cluster, or a repeated one, cannot mix; the
loser reads anew.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F

from accounts.models import AgentToken
from clusters import pace, packed
from clusters.enums import Distribution, State, cloud_of
from clusters.figures import NodeFigures, node_figures
from clusters.inventory import ingest
from clusters.models import Cluster, ClusterNode, Records
from clusters.services import history
from clusters.services.heartbeats import (
    REPORTING,
    Answer,
    cluster_of,
    held_of,
    missing_words,
    note_unreadable,
    refuse_other,
)
from clusters.services.money import Quote, Quotes, note_price, sum_up
from clusters.services.moves import WATCHER, move
from core import clock
from core.actor import Actor
from core.live import publish
from core.tasks import send_on_commit

log = logging.getLogger(__name__)
TRIES = 4
USAGE = "usage"
HISTOGRAM_TABLES = ("pods", "workloads", "specs")
REFIGURE = "clusters.refigure_one"
DISTRIBUTIONS = set(Distribution.values)


@dataclass(slots=True)
class Prepared:
    """Everything that storing a message needs, worked out beforehand. `tables` holds packed collections (b"": none)."""

    verdict: ingest.Verdict
    tables: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    total: int = 0
    nodes: dict[str, NodeFigures] | None = None
    quotes: dict[str, Quote] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    histograms: tuple[int, bytes] | None = None
    samples: tuple[ingest.Sample, ...] = ()


def ingest_snapshot(*, token: AgentToken, body: bytes, gzip: bool = True, sent_at: float | None = None) -> Answer:
    """Take one message of a cluster's agent: status and body of the answer (see docs/agent-protocol.md).

    200 applied, also when it was applied before; 409 resync_required or superseded; 403 another cluster's token;
    400, 413, 415 unreadable. Nothing of a refused message is kept.
    """
    cluster = cluster_of(token)
    if cluster is None:
        return 404, {"code": "not_found", "detail": "The cluster of this token was disconnected."}
    now = clock.now()
    try:
        message = ingest.read(body, gzip=gzip)
    except ingest.BadMessage as bad:
        log.warning("cluster_report_refused", extra={"cluster_id": str(cluster.id), "code": bad.code})
        note_unreadable(cluster, bad)
        return ingest.refusal(bad)
    del body
    refused = refuse_other(cluster, message.cluster.uid)
    if refused:
        return refused
    skew = ingest.clock_skew(sent_at, now)
    for _ in range(TRIES):
        prepared = prepare(cluster, message, now, skew)
        if prepared is None:
            return 400, {"code": "malformed", "detail": "A record does not have the shape that its collection demands."}
        if store(cluster, message, prepared, now):
            verdict = prepared.verdict
            return verdict.status, {
                **verdict.body,
                **({"intervals": pace.intervals()} if verdict.status == 200 else {}),
            }
        again = cluster_of(token)
        if again is None:
            return 404, {"code": "not_found", "detail": "The cluster of this token was disconnected."}
        cluster = again
    return 503, {"code": "busy", "detail": "Several messages of this cluster arrive at once; send it again."}


def load(cluster: Cluster, collections: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
    """Collections of the cluster's last report; all of them without a choice."""
    rows = Records.objects.for_org(cluster.organization_id).filter(cluster_id=cluster.id)
    if collections is not None:
        rows = rows.filter(collection__in=list(collections))
    return {row.collection: packed.unpack(row.packed) for row in rows.iterator()}


def prepare(cluster: Cluster, message: ingest.Message, now: datetime, skew: timedelta = timedelta()) -> Prepared | None:
    """Judge a message against what is held and pack what it leaves. None when its records are unusable."""
    held = held_of(cluster)
    delta = message.kind == ingest.DELTA
    touched = {*message.changes.set, *message.changes.gone} if delta else set(message.records)
    state = ingest.State(load(cluster, touched) if delta else {}, int(cluster.digest_total))
    verdict = ingest.receive(held, state, message, now, pace.lost_after())
    prepared = Prepared(verdict, total=state.total)
    if not verdict.applied:
        return prepared
    try:
        if "nodes" in touched or not delta:
            prepared.nodes = node_figures(state.records.get("nodes") or {})
            book = Quotes(now)
            prepared.quotes = {
                name: book.of(node.record, cloud=cluster.cloud, region=cluster.region)
                for name, node in prepared.nodes.items()
            }
        if "pods" in touched:
            prepared.counts["pod_count"] = len(state.records.get("pods") or {})
        if "namespaces" in touched:
            prepared.counts["namespace_count"] = len(state.records.get("namespaces") or {})
    except (TypeError, ValueError, AttributeError) as bad:
        log.warning("cluster_records_unusable", extra={"cluster_id": str(cluster.id), "reason": str(bad)[:200]})
        return None
    for collection in sorted(touched):
        table = state.records.get(collection) or {}
        prepared.tables[collection] = (len(table), packed.pack(table) if table else b"")
    prepared.samples = ingest.corrected(verdict.samples, skew)
    if any(sample.pods for sample in prepared.samples):
        needed = [name for name in HISTOGRAM_TABLES if name not in state.records]
        tables = {**(load(cluster, needed) if needed and delta else {}), **state.records}
        prepared.histograms = history.fed_histograms(cluster, prepared.samples, tables, now)
    newest = max((s for s in verdict.samples if not s.past), key=lambda s: s.number, default=None)
    if newest is not None:
        prepared.tables[USAGE] = (len(newest.pods), packed.pack(usage_table(newest)))
    return prepared


def usage_table(sample: ingest.Sample) -> dict[str, Any]:
    """A usage sample as it is stored: `nodes`: name -> [nanocores, bytes], `pods`: key -> container -> the same."""
    return {
        "at": sample.at.isoformat(),
        "nodes": {name: list(used) for name, used in sample.nodes.items()},
        "pods": {key: {name: list(used) for name, used in boxes.items()} for key, boxes in sample.pods.items()},
    }


def store(cluster: Cluster, message: ingest.Message, prepared: Prepared, now: datetime) -> bool:
    """Write what was prepared; False when another message came first and everything must be read anew."""
    verdict = prepared.verdict
    rows = Cluster.objects.for_org(cluster.organization_id).filter(
        id=cluster.id, session=cluster.session, sequence=cluster.sequence, digest=cluster.digest
    )
    if not verdict.applied:
        return _store_refusal(cluster, rows, verdict, now)
    actor = Actor.system(WATCHER, cluster.organization_id)
    with transaction.atomic():
        first = not cluster.reported_at
        if not rows.update(
            **_held_fields(verdict.held, prepared.total), **_facts(cluster, message, now), **prepared.counts
        ):
            return False
        _store_tables(cluster, message, prepared)
        if prepared.nodes is not None:
            _store_nodes(actor, cluster.id, cluster.organization_id, prepared, now)
        _come_alive(actor, cluster, message, now)
        samples = [sample for sample in prepared.samples if not sample.past]
        if samples:
            history.add_usage(cluster, samples, now)
        if prepared.histograms:
            history.store_histograms(cluster, prepared.histograms, now)
        if message.kind == ingest.DELTA and len(verdict.changes):
            history.count_changes(cluster, len(verdict.changes), now)
        publish(cluster.organization_id, "clusters", [cluster.id])
        if first or prepared.nodes is not None or samples:
            send_on_commit(REFIGURE, cluster_id=str(cluster.id))
    return True


def _store_refusal(cluster: Cluster, rows: Any, verdict: ingest.Verdict, now: datetime) -> bool:
    """A repeated message keeps the report alive; a differing digest empties what is held, so that only a full fits."""
    if verdict.held == held_of(cluster):
        return True
    held = verdict.held
    fields: dict[str, Any] = {"sequence": held.sequence, "digest": held.digest, "report_heard_at": held.heard_at}
    if verdict.status == 200:
        fields["heard_at"] = now
    return bool(rows.update(**fields))


def _held_fields(held: ingest.Held, total: int) -> dict[str, Any]:
    return {
        "session": held.session,
        "sequence": held.sequence,
        "digest": held.digest,
        "digest_total": str(total),
        "last_sample": held.sample,
        "former_sessions": list(held.former),
        "report_heard_at": held.heard_at,
    }


def _facts(cluster: Cluster, message: ingest.Message, now: datetime) -> dict[str, Any]:
    told = message.cluster
    facts: dict[str, Any] = {"heard_at": now, "reported_at": now, "dirty": True}
    if told.version:
        facts["version"] = told.version[:60]
    if told.distribution in DISTRIBUTIONS and told.distribution:
        facts["distribution"] = told.distribution
    if message.sources:
        facts["sources"] = {
            name[:80]: {"state": source.state[:20], "detail": source.detail[:300]}
            for name, source in message.sources.items()
        }
    version = message.agent.get("version")
    if isinstance(version, str) and version:
        facts["agent_version"] = version[:40]
    return facts


def _store_tables(cluster: Cluster, message: ingest.Message, prepared: Prepared) -> None:
    mine = Records.objects.for_org(cluster.organization_id).filter(cluster_id=cluster.id)
    if message.kind == ingest.FULL:
        kept = [*prepared.tables, USAGE]
        mine.exclude(collection__in=kept).delete()
    for collection, (count, blob) in prepared.tables.items():
        if not blob:
            mine.filter(collection=collection).delete()
        elif not mine.filter(collection=collection).update(count=count, packed=blob):
            Records.objects.for_org(cluster.organization_id).create(
                organization_id=cluster.organization_id,
                cluster_id=cluster.id,
                collection=collection[:40],
                count=count,
                packed=blob,
            )


def _store_nodes(actor: Actor, cluster_id: Any, organization_id: Any, prepared: Prepared, now: datetime) -> None:
    """Bring node rows, capacity and price in line with the report."""
    assert prepared.nodes is not None
    cluster = Cluster.objects.for_org(organization_id).get(id=cluster_id)
    nodes, rows = prepared.nodes, ClusterNode.objects.for_org(organization_id)
    alive = {row.name: row for row in rows.filter(cluster=cluster, gone_at=None)}
    same = {name for name, row in alive.items() if name in nodes and row.uid == _uid(nodes[name])}
    gone = [row.id for name, row in alive.items() if name not in same]
    for start in range(0, len(gone), 500):
        rows.filter(id__in=gone[start : start + 500]).update(gone_at=now)
    changed = []
    for name in same:
        facts = node_facts(nodes[name], prepared.quotes[name])
        if any(getattr(alive[name], key) != value for key, value in facts.items()):
            for key, value in facts.items():
                setattr(alive[name], key, value)
            changed.append(alive[name])
    fresh = [
        ClusterNode(
            organization_id=organization_id,
            cluster=cluster,
            name=name[:253],
            uid=_uid(node),
            first_seen_at=now,
            **node_facts(node, prepared.quotes[name]),
        )
        for name, node in nodes.items()
        if name not in same
    ]
    if changed:
        rows.bulk_update(changed, list(node_facts(next(iter(nodes.values())), Quote(None, ""))), batch_size=100)
    rows.bulk_create(fresh, batch_size=200)
    _store_capacity(actor, cluster, nodes, prepared.quotes, now)


def _uid(node: NodeFigures) -> str:
    return str(node.record.get("uid", ""))[:80]


def node_facts(node: NodeFigures, quote: Quote) -> dict[str, Any]:
    """The columns of a node's row that its record and its price decide."""
    record = node.record
    made = record.get("created_at")
    return {
        "provider_id": str(record.get("provider_id", ""))[:300],
        "instance_type": str(record.get("instance_type", ""))[:60],
        "region": str(record.get("region", ""))[:60],
        "zone": str(record.get("zone", ""))[:60],
        "lifecycle": str(record.get("lifecycle", "unknown"))[:12],
        "group_kind": str(record.get("group_kind", ""))[:20],
        "group": str(record.get("group", ""))[:200],
        "ready": bool(record.get("ready")),
        "unschedulable": bool(record.get("unschedulable")),
        "cpu_milli": node.allocatable.cpu_milli,
        "memory_bytes": node.allocatable.memory_bytes,
        "gpus": node.allocatable.gpus,
        "pod_limit": node.pod_limit,
        "created_at": datetime.fromisoformat(made) if made else None,
        "hourly_price": quote.hourly,
        "price_source": quote.source,
        "price_date": quote.day,
    }


def _store_capacity(
    actor: Actor, cluster: Cluster, nodes: Mapping[str, NodeFigures], quotes: Mapping[str, Quote], now: datetime
) -> None:
    hourly, missing, source = sum_up(quotes)
    fields: dict[str, Any] = {
        "node_count": len(nodes),
        "cpu_milli": sum(n.allocatable.cpu_milli for n in nodes.values()),
        "memory_bytes": sum(n.allocatable.memory_bytes for n in nodes.values()),
        "gpus": sum(n.allocatable.gpus for n in nodes.values()),
        "zones": sorted({str(n.record.get("zone", "")) for n in nodes.values()} - {""}),
        "unpriced_nodes": missing,
        "price_source": source,
    }
    first = next(iter(nodes.values()), None)
    if first is not None:
        fields["cloud"] = cloud_of(str(first.record.get("provider_id", ""))) or cluster.cloud
        fields["region"] = str(first.record.get("region", ""))[:60] or cluster.region
    if cluster.price_seq == 0 or cluster.hourly_cost != hourly:
        note_price(actor=actor, cluster=cluster, hourly=hourly, source=source, at=now, seq=cluster.price_seq)
        fields["hourly_cost"] = hourly
        fields["price_seq"] = F("price_seq") + 1
    Cluster.objects.for_org(cluster.organization_id).filter(id=cluster.id).update(**fields)


def _come_alive(actor: Actor, cluster: Cluster, message: ingest.Message, now: datetime) -> None:
    nodes = message.sources.get("nodes")
    broken = nodes is not None and nodes.state in ("unauthorized", "forbidden", "error")
    if broken or cluster.state == State.ASLEEP:
        return
    cause = missing_words({name: (source.state, source.detail) for name, source in message.sources.items()})
    if cluster.state != State.LIVE:
        move(actor=actor, cluster=cluster, to=State.LIVE, at=now, cause=cause, allowed=REPORTING)


__all__ = ["ingest_snapshot", "load", "prepare", "store", "usage_table"]
