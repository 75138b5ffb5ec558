"""What the analysis says of a report, kept beside the figures, so that no page works it out: grade, spot, stability, CIS.

Everything is potential: nothing here changes a cluster.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q

from clusters import extensions
from clusters.analysis import cis
from clusters.analysis.drift import drift
from clusters.analysis.efficiency import Efficiency
from clusters.analysis.facts import ClusterFacts, Lifecycle
from clusters.analysis.packing import PackingPlan, StuckPod, plan_packing
from clusters.analysis.spot_readiness import SpotPrice, SpotReadiness, spot_readiness
from clusters.analysis.stability import StabilityFacts, stability
from clusters.enums import Span, State
from clusters.facts import cluster_facts
from clusters.models import Cluster, ClusterNode, Sample, Summary
from clusters.services import interruptions, reports
from clusters.services.money import Quote
from core import clock
from core.live import publish
from costs import selectors as prices

DAY = timedelta(days=1)
MOST_WORKLOADS = 100
MOST_DRIFT = 200
PACK_EVERY = timedelta(hours=6)
PACK_EFFORT = 1_500_000
MOST_PACKED = 3
PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure")
Tables = Mapping[str, Mapping[str, Mapping[str, Any]]]


def plain(value: Any) -> Any:
    """Dataclasses, sets, money and times as JSON has them."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    return value.total_seconds() if isinstance(value, timedelta) else value


def insights(cluster: Cluster, tables: Tables, facts: ClusterFacts, grade: Efficiency, now: datetime) -> dict[str, Any]:
    """Everything that follows from one report; `cis.failed` is what the registry's shield counts."""
    report = cis.check(security_facts(tables))
    return {
        "efficiency": {**plain(grade), "formula": grade.formula},
        "spot": _spot(ready := spot_readiness(facts, spot_prices(cluster, facts, now))),
        "spot_groups": spot_by_group(tables, facts, ready),
        "drift": _drift(cluster, facts),
        "stability": plain(stability(stability_facts(cluster, tables, facts, now))),
        "cis": {
            "version": report.version,
            "passed": report.count(cis.Verdict.PASS),
            "failed": report.count(cis.Verdict.FAIL),
            "manual": report.count(cis.Verdict.MANUAL),
            "checks": plain(report.checks),
        },
    }


def sums(told: Mapping[str, Any]) -> dict[str, Any]:
    """What the dashboard adds up over clusters, as columns of the summary."""
    groups, savings = told["spot_groups"].values(), told["spot"]["monthly_savings"]
    return {
        "stability": told["stability"]["index"],
        "spot_pods": sum(group["pods"] for group in groups),
        "spot_ready_pods": sum(group["ready"] for group in groups),
        "spot_savings": None if savings is None else Decimal(savings),
    }


def _drift(cluster: Cluster, facts: ClusterFacts) -> dict[str, Any] | None:
    """The nodes judged by the cluster's template; None without one."""
    rules = extensions.template_rules(cluster)
    if rules is None:
        return None
    found = drift(facts.nodes, rules)
    return {
        "template": found.template,
        "nodes": found.nodes,
        "drifted_nodes": len(found.drifted_nodes),
        "drifted": plain(found.drifted[:MOST_DRIFT]),
        "unknown": [{"node": node, "rule": rule.value} for node, rule in found.unknown[:MOST_DRIFT]],
    }


def _spot(found: SpotReadiness) -> dict[str, Any]:
    """Every no comes with its reasons in words; the dearest workloads come first."""
    ordered = sorted(found.workloads, key=lambda w: (-(w.hourly_cost or 0), w.workload))
    workloads = [{**plain(one), "words": [reason.words for reason in one.reasons]} for one in ordered[:MOST_WORKLOADS]]
    return {**plain(found), "workloads": workloads, "count": len(ordered)}


def spot_by_group(tables: Tables, facts: ClusterFacts, found: SpotReadiness) -> dict[str, dict[str, int]]:
    """Of each node group: how many pods it holds, daemons left out, and how many of them are ready for spot."""
    groups = {name: str(node.get("group", "")) for name, node in (tables.get("nodes") or {}).items()}
    good = {one.workload for one in found.workloads if one.ready}
    counted: dict[str, dict[str, int]] = defaultdict(lambda: {"pods": 0, "ready": 0})
    for pod in facts.pods:
        if pod.node and not pod.daemonset and not pod.mirror:
            row = counted[groups.get(pod.node, "")]
            row["pods"] += 1
            row["ready"] += pod.workload in good
    return dict(counted)


def spot_prices(cluster: Cluster, facts: ClusterFacts, now: datetime) -> list[SpotPrice]:
    """What the cluster's types cost as spot, from the price book."""
    found = []
    for kind in sorted({node.instance_type for node in facts.nodes} - {""}):
        row = prices.list_price(cluster.cloud, cluster.region, kind, "spot", now)
        if row is not None and row.currency == "USD":
            found.append(SpotPrice(kind, row.hourly, price_date=row.as_of, source=row.source))
    return found


def stability_facts(cluster: Cluster, tables: Tables, facts: ClusterFacts, now: datetime) -> StabilityFacts:
    """What the last report, the last day's looks and the last 90 days' interruptions observed."""
    nodes = (tables.get("nodes") or {}).values()
    troubled = sum(not node.get("ready") or bool(under_pressure(node)) for node in nodes)
    restarts, kills = _exits(tables, now - DAY)
    spot = [node.instance_type for node in facts.nodes if node.lifecycle is Lifecycle.SPOT]
    looks = Sample.objects.for_org(cluster.organization_id).filter(
        cluster=cluster, span=Span.FIVE_MINUTES, at__gte=now - DAY, api_ms__isnull=False
    )
    paces = sorted(pace for pace in looks.values_list("api_ms", flat=True) if pace is not None)
    return StabilityFacts(
        nodes=len(nodes),
        nodes_under_pressure=troubled if nodes else None,
        pods=len(facts.pods),
        restarts=restarts,
        oom_kills=kills,
        spot=interruptions.observations(cluster, spot, now),
        api_latency_p99=paces[min(len(paces) - 1, int(len(paces) * 0.99))] / 1000 if paces else None,
    )


def under_pressure(node: Mapping[str, Any]) -> list[str]:
    """The kinds of pressure that a node reports now."""
    conditions = node.get("conditions") or ()
    return [c["type"] for c in conditions if c.get("type") in PRESSURES and c.get("status") == "True"]


def _exits(tables: Tables, after: datetime) -> tuple[int, int]:
    """Containers that ended and were started again since a moment, and how many of them for lack of memory."""
    restarts = kills = 0
    for pod in (tables.get("pods") or {}).values():
        for state in pod.get("states") or ():
            ended = state.get("exited_at")
            if state.get("restarts") and ended and datetime.fromisoformat(ended) > after:
                restarts += 1
                kills += state.get("exit_reason") == "OOMKilled"
    return restarts, kills


def security_facts(tables: Tables) -> cis.SecurityFacts:
    """What a report tells of security. Roles, bindings and network policies are not collected: those checks stay
    MANUAL."""
    specs = tables.get("specs") or {}
    spaces = tables.get("namespaces") or {}
    label = "pod-security.kubernetes.io/enforce"
    enforced = frozenset(name for name, space in spaces.items() if (space.get("labels") or {}).get(label))
    pods = (tables.get("pods") or {}).values()
    return cis.SecurityFacts(
        pods=tuple(_pod_security(pod, specs.get(str(pod.get("spec"))) or {}) for pod in pods),
        namespaces=tuple(sorted(spaces)),
        enforced_pod_security=enforced,
    )


def _pod_security(pod: Mapping[str, Any], spec: Mapping[str, Any]) -> cis.PodSecurity:
    told = set(spec.get("security") or ())
    return cis.PodSecurity(
        namespace=str(pod.get("namespace", "")),
        name=str(pod.get("name", "")),
        privileged="privileged" in told,
        host_pid="host pid" in told,
        host_ipc="host ipc" in told,
        host_network="host network" in told,
        host_path="hostPath" in (spec.get("volume_kinds") or ()),
        host_ports=bool(spec.get("host_ports")),
        privilege_escalation="may escalate" in told,
        may_be_root=bool(told & {"runs as root", "may run as root"}),
        added_capabilities=tuple(sorted(t.removeprefix("adds ") for t in told if t.startswith("adds "))),
        seccomp="no seccomp profile" not in told,
        service_account=str(spec.get("service_account") or "default"),
        mounts_token="service account token" in told,
    )


def packing_due() -> list[UUID]:
    """Live clusters whose perfect re-packing was not worked out for six hours."""
    stale = Q(packed_at=None) | Q(packed_at__lt=clock.now() - PACK_EVERY)
    rows = Summary.objects.all_orgs().filter(stale, cluster__state=State.LIVE, cluster__hourly_cost__gt=0)
    return list(rows.order_by(F("packed_at").asc(nulls_first=True)).values_list("cluster_id", flat=True)[:MOST_PACKED])


def plan(*, cluster_id: UUID) -> bool:
    """Work out the cheapest set of nodes that may hold a cluster's pods; takes seconds. False when it has no report."""
    cluster = Cluster.objects.all_orgs().filter(id=cluster_id, reported_at__isnull=False).first()
    if cluster is None:
        return False
    tables = reports.load(cluster)
    usage = tables.pop(reports.USAGE, {})
    nodes = ClusterNode.objects.for_org(cluster.organization_id).filter(cluster=cluster, gone_at=None)
    quotes = {node.name: Quote(node.hourly_price, node.price_source, node.price_date) for node in nodes}
    found = plan_packing(cluster_facts(tables, usage, quotes), effort=PACK_EFFORT)
    with transaction.atomic():
        Summary.objects.for_org(cluster.organization_id).filter(cluster=cluster).update(
            packing=_packing(found),
            packing_savings=found.savings_monthly,
            packing_nodes=len(found.kept) + len(found.removed),
            packing_nodes_after=len(found.nodes),
            packed_at=clock.now(),
        )
        publish(cluster.organization_id, "clusters", [cluster.id])
    return True


def _packing(found: PackingPlan) -> dict[str, Any]:
    """The plan in figures; who goes where is worked out again when somebody acts on it."""
    return {
        "nodes_now": len(found.kept) + len(found.removed),
        "nodes_planned": len(found.nodes),
        "hourly_now": plain(found.cost_now),
        "hourly_planned": plain(found.cost_after),
        "monthly_savings": plain(found.savings_monthly),
        "moves": found.moves,
        "unpriced": len(found.unpriced),
        "stuck": [
            {"reason": reason.value, "words": StuckPod("", "", reason).words, "pods": count}
            for reason, count in found.stuck_by_reason().items()
        ],
    }
