"""Recommendations for a cluster, worked out from its last report and kept, so that no page and no sweep works them out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from django.db import transaction

from clusters import packed
from clusters.facts import cluster_facts
from clusters.histograms import Histograms
from clusters.models import Cluster, ClusterNode, UsageHistograms
from clusters.services import reports
from clusters.services.money import Quote
from core import clock
from core.actor import Actor
from core.live import publish
from policies.document import Document, Exemptions, RightsizingRules
from policies.enums import Mode, Rightsizing
from policies.rightsizing import facts
from policies.rightsizing.advice import Advice, BoxAdvice, Hold, Rules, Size, advise
from policies.rightsizing.models import SizedWorkload, SizeReport
from policies.selectors import applied_to

EVERY = timedelta(minutes=15)
MOST_DUE = 20
MOST_ROWS = 5000
TABLES = ("nodes", "pods", "workloads", "specs", "autoscalers", "budgets", reports.USAGE)
ACTOR = "rightsizer"


@dataclass(frozen=True, slots=True)
class Ruling:
    """What rightsizing may do to a cluster, and by which rules. Without a policy it recommends by the defaults."""

    mode: Rightsizing
    rules: RightsizingRules
    exemptions: Exemptions
    policy: str = ""


def ruling_of(cluster: Cluster) -> Ruling:
    """The rules that hold for a cluster now."""
    found = applied_to(actor=Actor.system(ACTOR, cluster.organization_id), cluster_id=cluster.id)
    if found is None:
        document = Document()
        return Ruling(Rightsizing.RECOMMEND, document.rightsizing, document.exemptions)
    rules = found.document.rightsizing
    mode = rules.mode
    if found.mode is Mode.OFF:
        mode = Rightsizing.OFF
    elif found.mode is Mode.RECOMMEND and mode is Rightsizing.APPLY:
        mode = Rightsizing.RECOMMEND
    return Ruling(mode, rules, found.document.exemptions, found.policy_name)


def workload_id(cluster_id: UUID, key: str) -> UUID:
    """The id of a workload's recommendation."""
    return uuid5(cluster_id, f"size:{key}")


def due() -> list[UUID]:
    """Clusters whose recommendations are older than their last usage by a quarter of an hour."""
    reports_at = dict(SizeReport.objects.all_orgs().values_list("cluster_id", "at"))
    wanted = UsageHistograms.objects.all_orgs().filter(cluster__reported_at__isnull=False)
    oldest = datetime.min.replace(tzinfo=clock.now().tzinfo)
    ages = [
        (reports_at.get(cluster_id, oldest), cluster_id) for cluster_id in wanted.values_list("cluster_id", flat=True)
    ]
    late = clock.now() - EVERY
    return [cluster_id for at, cluster_id in sorted(ages, key=lambda one: (one[0], str(one[1]))) if at < late][
        :MOST_DUE
    ]


def refresh(*, cluster_id: UUID) -> bool:
    """Work out a cluster's recommendations. False when it has no usage yet, or its policy switches rightsizing off."""
    cluster = Cluster.objects.all_orgs().filter(id=cluster_id, reported_at__isnull=False).first()
    if cluster is None:
        return False
    org_id, now = cluster.organization_id, clock.now()
    ruling = ruling_of(cluster)
    if ruling.mode is Rightsizing.OFF:
        SizeReport.objects.for_org(org_id).filter(cluster=cluster).delete()
        return False
    row = UsageHistograms.objects.for_org(org_id).filter(cluster=cluster).first()
    use = Histograms.load(packed.unpack(row.packed)) if row else Histograms()
    tables = reports.load(cluster, TABLES)
    usage = tables.pop(reports.USAGE, {})
    nodes = ClusterNode.objects.for_org(org_id).filter(cluster=cluster, gone_at=None)
    quotes = {node.name: Quote(node.hourly_price, node.price_source, node.price_date) for node in nodes}
    prices = facts.prices_of(cluster_facts({**tables, "pods": {}}, usage, quotes))
    killed = _remember(cluster, facts.kills(tables))
    rules = Rules(ruling.rules.profile, ruling.rules.headroom_percent, float(ruling.rules.minimum_monthly))
    found = [advise(one, rules, prices, now) for one in facts.subjects(tables, use, ruling.exemptions, killed)]
    _store(cluster, ruling, found, prices.source, now)
    return True


def _remember(cluster: Cluster, seen: facts.Killed) -> dict[str, dict[str, dict[str, Any]]]:
    """Containers that were killed for lack of memory, those that earlier reports told of too."""
    rows = SizedWorkload.objects.for_org(cluster.organization_id)
    known = {key: killed for key, killed in rows.filter(cluster=cluster).values_list("key", "killed") if killed}
    found = facts.merged(known, seen)
    for key, killed in found.items():
        if killed != known.get(key):
            values = {"killed": killed, "organization_id": cluster.organization_id}
            fresh = {"id": workload_id(cluster.id, key), **values}
            rows.update_or_create(cluster=cluster, key=key, defaults=values, create_defaults=fresh)
    return found


def _store(cluster: Cluster, ruling: Ruling, found: list[Advice], prices: str, now: datetime) -> None:
    ordered = sorted(found, key=lambda a: (not a.changes, -abs(a.potential or 0.0), a.key))
    counted = [a for a in found if a.hold is None]
    sums = [a.saves for a in counted if a.saves is not None]
    whole = [a.potential for a in counted if a.potential is not None]
    defaults = {
        "organization_id": cluster.organization_id,
        "at": now,
        "profile": str(ruling.rules.profile),
        "headroom": ruling.rules.headroom_percent,
        "rows": [row_of(cluster.id, a) for a in ordered[:MOST_ROWS]],
        "workloads": len(found),
        "changes": sum(a.changes for a in found),
        "saves": round(sum(sums), 4) if sums else None,
        "potential": round(sum(p for p in whole if p > 0), 4) if whole else None,
        "prices": prices,
    }
    with transaction.atomic():
        SizeReport.objects.for_org(cluster.organization_id).update_or_create(cluster=cluster, defaults=defaults)
        publish(cluster.organization_id, "policies", [cluster.id])


def row_of(cluster_id: UUID, advice: Advice) -> dict[str, Any]:
    """A recommendation as it is stored and as the API gives it."""
    namespace, kind, name = advice.key.split("/", 2)
    return {
        "id": str(workload_id(cluster_id, advice.key)),
        "key": advice.key,
        "namespace": namespace,
        "kind": kind,
        "name": name,
        "replicas": advice.replicas,
        "changes": advice.changes,
        "up": advice.up,
        "down": advice.down,
        "urgent": any(box.urgent for box in advice.boxes),
        "saves": None if advice.saves is None else round(advice.saves, 4),
        "potential": None if advice.potential is None else round(advice.potential, 4),
        "hold": _hold(advice.hold),
        "boxes": [_box(box) for box in advice.boxes],
    }


def _box(box: BoxAdvice) -> dict[str, Any]:
    return {
        "name": box.name,
        "cpu": _size(box.cpu),
        "memory": _size(box.memory),
        "urgent": box.urgent,
        "notes": list(box.notes),
    }


def _size(size: Size) -> dict[str, Any]:
    return {
        "old": size.old,
        "wanted": size.wanted,
        "to": size.to,
        "lower": size.lower,
        "upper": size.upper,
        "basis": size.basis,
        "hold": _hold(size.hold),
    }


def _hold(hold: Hold | None) -> Mapping[str, str] | None:
    return None if hold is None else {"why": str(hold.why), "words": hold.words}
