"""What a cluster's nodes cost: each node's price at the time, and their sum in the ledger, one resource a cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from django.db import transaction

from clusters.enums import RESOURCE, State, cloud_of
from clusters.models import Cluster, ClusterNode
from clusters.sleeping.models import SleepSnapshot
from core import clock
from core.actor import Actor
from core.live import publish
from costs import selectors as prices
from costs import services as costs
from costs.enums import Phase

_BOOK_LIFECYCLE = {"spot": "spot", "on-demand": "on_demand", "reserved": "on_demand", "unknown": "on_demand"}
_NOTES = {"reserved": ", a reservation may make it cheaper", "unknown": ", taken for on-demand: the node does not say"}


@dataclass(frozen=True, slots=True)
class Quote:
    """Dollars an hour (None: nobody knows), where the figure comes from and of which day it is."""

    hourly: Decimal | None
    source: str
    day: date | None = None


UNKNOWN = Quote(None, "not in the price book")


class Quotes:
    """Prices of node types from the price book, each looked up once."""

    def __init__(self, at: datetime) -> None:
        self.at = at
        self._known: dict[tuple[str, str, str, str], Quote] = {}

    def of(self, record: Mapping[str, Any], *, cloud: str = "", region: str = "") -> Quote:
        """The price of a node record; the cluster's cloud and region stand in for what the node does not tell."""
        cloud = cloud_of(str(record.get("provider_id", ""))) or cloud
        place = str(record.get("region", "")) or region
        kind, lifecycle = str(record.get("instance_type", "")), str(record.get("lifecycle", "unknown"))
        key = (cloud, place, kind, lifecycle)
        if key not in self._known:
            self._known[key] = self._look_up(*key)
        return self._known[key]

    def _look_up(self, cloud: str, region: str, kind: str, lifecycle: str) -> Quote:
        if not (cloud and region and kind):
            return Quote(None, "its cloud, region or type is not known")
        row = prices.list_price(cloud, region, kind, _BOOK_LIFECYCLE.get(lifecycle, "on_demand"), self.at)
        if row is None or row.currency != "USD":
            return UNKNOWN
        note = _NOTES.get(lifecycle, "")
        return Quote(row.hourly, f"{row.source}, {row.as_of.isoformat()}{note}"[:200], row.as_of)


def sum_up(quotes: Mapping[str, Quote]) -> tuple[Decimal | None, int, str]:
    """The price of all nodes together (None: there are nodes but no price), how many have none, and the sources."""
    known = [quote for quote in quotes.values() if quote.hourly is not None]
    missing = len(quotes) - len(known)
    total = sum((quote.hourly for quote in known if quote.hourly is not None), Decimal(0))
    named = [source for source, _ in Counter(quote.source for quote in known).most_common(2)]
    words = "; ".join(named)
    if missing:
        words = f"{len(known)} of {len(quotes)} nodes have a price. {words}"
    return (None if quotes and not known else total), missing, words[:200]


def note_price(*, actor: Actor, cluster: Cluster, hourly: Decimal | None, source: str, at: datetime, seq: int) -> None:
    """From `at` on the cluster costs this much an hour. Must be called in the transaction that changes its nodes.

    The first price opens the cluster's interval; later ones cut it, so that the ledger's sum is price times time. While
    the cluster sleeps, or is about to, this is what it costs asleep, and awake it would cost what it did before.
    """
    before = SleepSnapshot.objects.for_org(cluster.organization_id).filter(
        cluster_id=cluster.id, restored_at=None, handed_over_at=None
    )
    awake = before.values_list("awake_hourly", "awake_source").first()
    facts: dict[str, Any] = {
        "actor": actor,
        "organization_id": cluster.organization_id,
        "resource_kind": RESOURCE,
        "resource_id": cluster.id,
        "resource_label": cluster.name,
    }
    if awake is None:
        costs.set_price(**facts, awake=hourly, asleep=Decimal(0), source=source, valid_from=at)
    else:
        costs.set_price(**facts, awake=awake[0], asleep=hourly, source=awake[1], valid_from=at)
    if seq == 0 and cluster.state != State.ASLEEP:
        costs.record_event(**facts, phase=Phase.AWAKE, at=at, key="0:awake", source="first report", team=cluster.team)


def note_phase(*, actor: Actor, cluster: Cluster, phase: Phase, at: datetime, seq: int, cause: str = "") -> None:
    """The cluster is awake, asleep or gone from `at` on."""
    costs.record_event(
        actor=actor,
        organization_id=cluster.organization_id,
        resource_kind=RESOURCE,
        resource_id=cluster.id,
        resource_label=cluster.name,
        phase=phase,
        at=at,
        key=f"{seq}:{phase.value}",
        source="curfew",
        cause=cause,
        team=cluster.team,
        person=actor.label if cause == "hand" else "",
    )


def reprice_all(*, actor: Actor) -> int:
    """Look up every living node's price again; clusters whose sum changed get it from now on. Returns how many."""
    changed = 0
    rows = Cluster.objects.visible_to(actor).filter(node_count__gt=0, reported_at__isnull=False)
    for cluster in rows.order_by("id").iterator(chunk_size=200):
        changed += _reprice(actor.within(cluster.organization_id), cluster)
    return changed


def _reprice(actor: Actor, cluster: Cluster) -> bool:
    at = clock.now()
    book = Quotes(at)
    nodes = ClusterNode.objects.for_org(cluster.organization_id)
    with transaction.atomic():
        locked = (
            Cluster.objects.for_org(cluster.organization_id)
            .select_for_update(of=("self",))
            .filter(id=cluster.id)
            .first()
        )
        if locked is None:
            return False
        alive = list(nodes.filter(cluster=locked, gone_at=None))
        quotes = {node.name: book.of(_as_record(node), cloud=locked.cloud, region=locked.region) for node in alive}
        different = [
            n for n in alive if (n.hourly_price, n.price_source) != (quotes[n.name].hourly, quotes[n.name].source)
        ]
        if not different:
            return False
        for node in different:
            quote = quotes[node.name]
            node.hourly_price, node.price_source, node.price_date = quote.hourly, quote.source, quote.day
        nodes.bulk_update(different, ["hourly_price", "price_source", "price_date"], batch_size=200)
        locked.hourly_cost, locked.unpriced_nodes, locked.price_source = sum_up(quotes)
        note_price(
            actor=actor,
            cluster=locked,
            hourly=locked.hourly_cost,
            source=locked.price_source,
            at=at,
            seq=locked.price_seq,
        )
        locked.price_seq += 1
        locked.dirty = True
        locked.save(update_fields=["hourly_cost", "unpriced_nodes", "price_source", "price_seq", "dirty"])
        publish(locked.organization_id, "clusters", [locked.id])
    return True


def _as_record(node: ClusterNode) -> dict[str, Any]:
    return {
        "provider_id": node.provider_id,
        "region": node.region,
        "instance_type": node.instance_type,
        "lifecycle": node.lifecycle,
    }
