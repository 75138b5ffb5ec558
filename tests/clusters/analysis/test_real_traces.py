"""The analysis on clusters that somebody really ran."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from clusters.analysis.activity import ActivitySample, activity
from clusters.analysis.allocation import NodeSpan, PodSpan, Share, allocate
from clusters.analysis.facts import MIB, ClusterFacts, Lifecycle, Node, Pod, Resources
from clusters.analysis.packing import NodeOffer, plan_packing, verify
from clusters.analysis.waste import CapacitySample, waste
from tests.clusters.analysis.real_data import rows

pytestmark = pytest.mark.unit
START = datetime(2026, 1, 5, tzinfo=UTC)
CPU_HOUR, GIB_HOUR, GPU_HOUR = Decimal("0.0383"), Decimal("0.00383"), Decimal(1)


def openb() -> ClusterFacts:
    """The nodes of a real GPU cluster, and its running pods placed first fit; pods with shares of a GPU left out."""
    nodes, free = [], {}
    for row in rows("alibaba_gpu_cluster_2023/dev/nodes.csv.gz"):
        size = Resources(int(row["cpu_milli"]), int(row["memory_mib"]) * MIB, int(row["gpu"]))
        price = CPU_HOUR * size.cpu_milli / 1000 + GIB_HOUR * size.memory_bytes / 1024**3 + GPU_HOUR * size.gpus
        labels = {"model": row["model"]} if row["model"] else {}
        name = row["model"] or f"cpu-{row['cpu_milli']}"
        nodes.append(
            Node(
                row["sn"],
                size,
                256,
                f"{name}.{size.gpus}",
                Lifecycle.ON_DEMAND,
                hourly_price=price.quantize(Decimal("0.0001")),
                labels=labels,
            )
        )
        free[row["sn"]] = size
    pods = []
    for row in rows("alibaba_gpu_cluster_2023/dev/pods_default.csv.gz"):
        whole = row["gpu_milli"] in {"0", "1000"}
        if row["pod_phase"] != "Running" or not whole or row["gpu_spec"]:
            continue
        need = Resources(int(row["cpu_milli"]), int(row["memory_mib"]) * MIB, int(row["num_gpu"]))
        host = next((name for name, room in free.items() if need.at_most(room)), None)
        if host:
            free[host] -= need
            pods.append(Pod(row["name"], "openb", f"openb/Job/{row['name']}", host, need, owner="Job"))
    return ClusterFacts(tuple(nodes), tuple(pods))


def test_a_real_gpu_cluster_is_repacked():
    facts = openb()
    assert len(facts.nodes) == 776
    assert len(facts.pods) > 1000
    plan = plan_packing(facts, effort=400_000)
    assert verify(facts, plan) == []
    assert plan.cost_after < plan.cost_now
    used = sum(pod.requests.cpu_milli for pod in facts.pods)
    room = sum(planned.node.allocatable.cpu_milli for planned in plan.nodes)
    assert used <= room


def test_a_real_gpu_clusters_bill_adds_up():
    facts = openb()
    end = START + timedelta(days=31)
    spans = [NodeSpan(n.name, START, end, n.hourly_price, n.allocatable, n.allocatable) for n in facts.nodes]
    pods = [
        PodSpan(p.node, p.namespace, p.workload, START + timedelta(hours=i % 50), end, p.requests)
        for i, p in enumerate(facts.pods)
    ]
    bill = allocate(spans, pods)
    assert sum(bill.units_of(share) for share in Share) == bill.units
    expected = sum(n.hourly_price for n in facts.nodes) * 31 * 24
    assert sum(bill.total(share) for share in Share) == pytest.approx(expected, abs=Decimal("1e-6"))
    assert min(line.units for line in bill.lines) > 0


def test_karpenters_node_sizes_make_offers():
    """All 1,363 types of Karpenter's table with a price: a pod that just fits the smallest m5 ends on it."""
    prices = {
        row["instance_type"]: row["usd_per_hour"] for row in rows("aws_catalog/dev/ondemand_us-east-1_latest.csv.gz")
    }
    offers = []
    for row in rows("aws_catalog/ref/karpenter_node_allocatable.csv.gz"):
        if row["instance_type"] in prices and row["arch"] == "amd64":
            cpu, memory = (
                int(row["allocatable_cpu"].removesuffix("m")),
                int(row["allocatable_memory"].removesuffix("Mi")),
            )
            offers.append(
                NodeOffer(
                    row["instance_type"],
                    Resources(cpu, memory * MIB),
                    Decimal(prices[row["instance_type"]]),
                    int(row["allocatable_pods"]),
                )
            )
    assert len(offers) > 900
    big = Node("a", Resources(64_000, 256 * 1024**3), 110, "x", Lifecycle.ON_DEMAND, hourly_price=Decimal(10))
    facts = ClusterFacts((big,), (Pod("p", node="a", requests=Resources(1930, 6903 * MIB)),))
    plan = plan_packing(facts, offers, effort=50_000)
    fitting = [
        offer
        for offer in offers
        if offer.allocatable.cpu_milli >= 1930 and offer.allocatable.memory_bytes >= 6903 * MIB
    ]
    assert plan.cost_after == min(offer.hourly_price for offer in fitting)


def test_real_machines_show_their_waste():
    """Eight days of Alibaba machines: usage against capacity, with the gaps that the trace has."""
    by_time: dict[int, list[float]] = defaultdict(list)
    for row in rows("alibaba_machines_2018/dev/machine_usage_5min.csv.gz"):
        by_time[int(row["t_seconds"])].append(float(row["cpu_pct_mean"]))
    samples = [
        CapacitySample(START + timedelta(seconds=t), Resources(len(v) * 96_000, 1), Resources(len(v) * 60_000, 0),
                       Resources(int(sum(v) * 960), 0), Decimal(len(v)))
        for t, v in by_time.items()
    ]  # fmt: skip
    result = waste(samples)
    assert result.unrequested_cpu == pytest.approx(0.375)
    assert 0.3 < result.unused_cpu < 0.9
    assert result.monthly_savings is not None


def test_virtual_machines_without_day_and_night_are_left_awake_or_found_idle():
    """Materna's business VMs: 32 of the 50 are under 2 % CPU nearly always; nights are not quieter than days."""
    hours: dict[str, list[ActivitySample]] = defaultdict(list)
    for row in rows("materna_2016/dev/usage_5min.csv.gz"):
        at = datetime.fromisoformat(row["timestamp_local"]).replace(tzinfo=UTC)
        hours[row["vm"]].append(ActivitySample(at, cpu=float(row["cpu_pct"]) / 100))
    found = {vm: activity(samples, UTC) for vm, samples in hours.items()}
    assert len(found) == 25
    idle = [vm for vm, result in found.items() if result.blue_hours >= 140]
    busy = [vm for vm, result in found.items() if result.blue_hours == 0]
    for vm in idle:
        assert sorted(s.cpu for s in hours[vm])[len(hours[vm]) * 9 // 10] < 0.2
    assert len(idle) >= 5
    assert len(busy) >= 2
