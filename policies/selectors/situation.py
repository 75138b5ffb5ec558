"""What is known of a cluster now, as the estimates of a policy work on it; read once a report."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from threading import Lock
from typing import Any
from uuid import UUID

from clusters import packed
from clusters.analysis.spot_readiness import spot_readiness
from clusters.facts import cluster_facts
from clusters.histograms import Histograms
from clusters.inventory.placement import read
from clusters.models import Cluster, ClusterNode, UsageHistograms
from clusters.services import insights, reports
from clusters.services.money import Quote
from core import clock
from core.actor import Actor
from core.errors import NotFound
from policies import extensions
from policies.blueprint import Blueprint
from policies.catalogue import catalogue
from policies.document import Document, Exemptions
from policies.impact import Impact, Situation, add_up, impact_of
from policies.models import ClusterTemplate, NodeTemplate
from policies.placement.models import PlacementState
from policies.placement.reported import templated
from policies.rightsizing import facts as sizes
from policies.rightsizing.models import SizedWorkload

MOST = 5
_KEPT = 6
_held: OrderedDict[tuple[UUID, datetime | None, int], Situation] = OrderedDict()
_lock = Lock()


def situation_of(*, actor: Actor, cluster: Cluster) -> Situation:
    """The cluster's last report with prices and spot readiness. Kept in memory until it reports again."""
    key = (cluster.id, cluster.figured_at, cluster.price_seq)
    with _lock:
        if key in _held:
            _held.move_to_end(key)
            return _held[key]
    made = _read(actor, cluster)
    with _lock:
        _held[key] = made
        while len(_held) > _KEPT:
            _held.popitem(last=False)
    return made


def _read(actor: Actor, cluster: Cluster) -> Situation:
    tables: dict[str, dict[str, Any]] = reports.load(cluster)
    usage = tables.pop(reports.USAGE, {})
    nodes = ClusterNode.objects.visible_to(actor).filter(cluster=cluster, gone_at=None)
    prices = {n.name: Quote(n.hourly_price, n.price_source, n.price_date) for n in nodes}
    facts = cluster_facts(tables, usage, prices)
    spot = spot_readiness(facts, insights.spot_prices(cluster, facts, clock.now())) if facts.pods else None
    row = UsageHistograms.objects.visible_to(actor).filter(cluster=cluster).first()
    use = Histograms.load(packed.unpack(row.packed)) if row else Histograms()
    known = SizedWorkload.objects.visible_to(actor).filter(cluster=cluster).values_list("key", "killed")
    killed = sizes.merged(dict(known), sizes.kills(tables))
    placed = PlacementState.objects.visible_to(actor).filter(cluster=cluster).values_list("rules", flat=True).first()
    return Situation(
        cluster.name,
        facts,
        cluster.reported_at,
        spot,
        subjects=tuple(sizes.subjects(tables, use, Exemptions(), killed)),
        prices=sizes.prices_of(facts),
        workloads=tuple(templated(tables)),
        nodes=tuple((tables.get("nodes") or {}).values()),
        pools=tuple((tables.get("node_pools") or {}).values()),
        cloud=cluster.cloud,
        placed_by=read(dict(placed)) if placed else None,
    )


def estimate(*, actor: Actor, document: Document, cluster_ids: Sequence[UUID]) -> tuple[dict[str, Impact], list[str]]:
    """What a document would do to these clusters together, and the names of those that were looked at: at most five,
    the dearest first, and only those that have reported. Raises NotFound when one is not the actor's."""
    ids = list(dict.fromkeys(cluster_ids))
    rows = list(Cluster.objects.visible_to(actor).filter(id__in=ids).order_by("-hourly_cost", "name"))
    if len(rows) != len(ids):
        raise NotFound("There is no such cluster.")
    rows = [row for row in rows if row.reported_at is not None][:MOST]
    if not rows:
        return {}, []
    links = ClusterTemplate.objects.visible_to(actor).filter(cluster__in=rows).select_related("template")
    own = {link.cluster_id: link.template.blueprint() for link in links}
    bound = _bound(actor, document)
    source = extensions.schedules()
    follows = source.followed(actor, [row.id for row in rows]) if source else {}
    found = []
    for row in rows:
        known = situation_of(actor=actor, cluster=row)
        there = replace(known, template=own.get(row.id, bound), schedule=follows.get(row.id, ""), now=clock.now())
        found.append(impact_of(document, there, catalogue()))
    return add_up(found), [row.name for row in rows]


def _bound(actor: Actor, document: Document) -> Blueprint | None:
    """The template that the document names, or the default."""
    rows = NodeTemplate.objects.visible_to(actor)
    named = document.autoscaling.template
    row = rows.filter(id=named).first() if named else rows.filter(is_default=True).first()
    return row.blueprint() if row else None
