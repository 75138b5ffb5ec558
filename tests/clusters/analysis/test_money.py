"""Run rate, composition, allocation, efficiency, waste: sums that must be right to the last digit."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusters.analysis import efficiency as grading
from clusters.analysis import run_rate as rates
from clusters.analysis.allocation import (
    NodeSpan,
    PodSpan,
    Share,
    allocate,
    apportion,
    held_by,
    split_at_days,
    to_dollars,
)
from clusters.analysis.composition import composition, family_of
from clusters.analysis.facts import GIB, ClusterFacts, Lifecycle, Pod, Resources
from clusters.analysis.waste import CapacitySample, waste, wasted_now
from clusters.analysis.weights import shares
from tests.clusters.analysis.fleets import make_fleet, make_node
from tests.clusters.analysis.real_data import rows

pytestmark = pytest.mark.unit
START = datetime(2026, 3, 1, tzinfo=UTC)


# Run rate and composition ------------------------------------------------------------------------------------------


def test_run_rate_adds_what_is_priced_and_names_what_is_not():
    nodes = [make_node("a"), make_node("b", price_date=date(2025, 1, 1)), make_node("c", hourly_price=None)]
    rate = rates.run_rate(nodes)
    assert rate == rates.RunRate(
        Decimal("0.768"), Decimal("560.640"), 2, (rates.Unpriced("c", "m6i.2xlarge"),), date(2025, 1, 1)
    )
    assert not rate.complete


@pytest.mark.parametrize(("nodes", "monthly"), [([], Decimal(0)), ([make_node("a", hourly_price=None)], None)])
def test_a_run_rate_is_not_invented(nodes, monthly):
    assert rates.run_rate(nodes).monthly == monthly
    assert rates.combine([rates.run_rate(nodes)]).monthly == monthly


def test_combined_run_rates_are_the_rate_of_all_nodes():
    one, two = list(make_fleet(5, 1).nodes), list(make_fleet(7, 2).nodes)
    two[0] = replace(two[0], hourly_price=None)
    assert rates.combine([rates.run_rate(one), rates.run_rate(two)]) == rates.run_rate([*one, *two])


@given(st.integers(0, 40), st.integers(0, 999))
def test_slices_add_up_at_every_level(count, seed):
    nodes = make_fleet(count, seed, fill=0).nodes
    whole = composition(nodes)

    def check(part):
        if part.children:
            assert sum(child.nodes for child in part.children) == part.nodes
            assert sum(child.hourly for child in part.children) == part.hourly
        for child in part.children:
            check(child)

    check(whole)
    assert whole.hourly == sum(node.hourly_price for node in nodes)
    assert {part.key: part.nodes for part in whole.children} == Counter(str(node.lifecycle) for node in nodes)


def test_an_unpriced_slice_has_no_cost():
    whole = composition([make_node("a"), make_node("s", lifecycle=Lifecycle.SPOT, hourly_price=None)])
    assert [(part.key, part.hourly, part.unpriced) for part in whole.children] == [
        ("on-demand", Decimal("0.384"), 0),
        ("spot", None, 1),
    ]


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("m5.large", "m5"),
        ("u-6tb1.112xlarge", "u-6tb1"),
        ("c7gn.metal", "c7gn"),
        ("n2-standard-4", "n2"),
        ("Standard_D4s_v5", "Dsv5"),
        ("Standard_NC24ads_A100_v4", "NCads_A100v4"),
        ("Standard_E64-32s_v3", "Esv3"),
        ("", "unknown"),
    ],
)
def test_families(name, family):
    assert family_of(name) == family


def test_families_of_every_real_type():
    for row in rows("aws_catalog/ref/ec2_instance_types.csv.gz"):
        assert family_of(row["instance_type"]) == row["family"]


def test_the_price_split_explains_real_prices():
    """Half of the general AWS types cost within 20 % of what the weights say, as the module states."""
    prices = {
        r["instance_type"]: float(r["usd_per_hour"]) for r in rows("aws_catalog/dev/ondemand_us-east-1_latest.csv.gz")
    }
    errors = []
    for row in rows("aws_catalog/ref/ec2_instance_types.csv.gz"):
        name = row["instance_type"]
        plain = row["family"][0] in "cmr" and row["family"][1].isdigit()
        if plain and name in prices and row["gpu_count"] == "0" and not float(row["local_disk_gb"] or 0):
            worth = float(row["vcpu"]) * 0.0383 + float(row["memory_mib"]) / 1024 * 0.00383
            errors.append(abs(worth / prices[name] - 1))
    assert len(errors) > 600
    assert sorted(errors)[len(errors) // 2] < 0.2


# Allocation --------------------------------------------------------------------------------------------------------

AMOUNTS = st.builds(Resources, st.integers(0, 6000), st.integers(0, 24 * GIB), st.integers(0, 2))


@st.composite
def a_bill(draw):
    """Some nodes and pods over a few hours, at odd prices and seconds."""
    spans, pods = [], []
    for n in range(draw(st.integers(1, 3))):
        at = START + timedelta(seconds=draw(st.integers(0, 5000)))
        capacity = Resources(draw(st.integers(1, 8)) * 1000, draw(st.integers(1, 32)) * GIB, draw(st.integers(0, 2)))
        allocatable = Resources(
            capacity.cpu_milli - draw(st.integers(0, 200)), capacity.memory_bytes - 10**8, capacity.gpus
        )
        for _ in range(draw(st.integers(1, 3))):
            end = at + timedelta(seconds=draw(st.integers(0, 9000)))
            price = Decimal(draw(st.integers(0, 10**7))) / 10**6
            spans.append(NodeSpan(f"n{n}", at, end, price, capacity, allocatable))
            at = end + timedelta(seconds=draw(st.sampled_from((0, 0, 77))))
        for p in range(draw(st.integers(0, 5))):
            begin = START + timedelta(seconds=draw(st.integers(-1000, 20_000)))
            length = timedelta(seconds=draw(st.integers(0, 20_000)))
            pods.append(
                PodSpan(f"n{n}", f"team-{p % 2}", f"app-{p}", begin, begin + length, draw(AMOUNTS), draw(st.booleans()))
            )
    return spans, pods


@settings(max_examples=150, deadline=None)
@given(a_bill())
def test_the_parts_are_the_bill(bill):
    spans, pods = bill
    result = allocate(spans, pods)
    exact = sum(
        (Fraction(span.hourly_price) * int((span.end - span.start).total_seconds()) / 3600 for span in spans),
        Fraction(0),
    )
    assert Fraction(result.units, 3600 * 10**12) == exact
    assert sum(line.units for line in result.lines) == result.units
    assert all(line.units > 0 for line in result.lines)
    assert sum(map(result.total, Share)) == pytest.approx(
        Decimal(exact.numerator) / exact.denominator, abs=Decimal("1e-6")
    )


@settings(max_examples=40, deadline=None)
@given(a_bill())
def test_allocation_equals_a_second_by_second_count(bill):
    """The independent count walks over the time in steps of one minute on data whose edges are whole minutes."""

    def whole(moment):
        return START + timedelta(minutes=round((moment - START).total_seconds() / 60))

    spans = [replace(span, start=whole(span.start), end=whole(span.end)) for span in bill[0]]
    pods = [replace(pod, start=whole(pod.start), end=whole(pod.end)) for pod in bill[1]]
    expected: Counter[tuple[str, str]] = Counter()
    for span in spans:
        at = span.start
        while at < span.end:
            here = [pod for pod in pods if pod.node == span.node and pod.start <= at < pod.end]
            _count_minute(span, here, expected)
            at += timedelta(minutes=1)
    got: Counter[tuple[str, str]] = Counter()
    for line in allocate(spans, pods).lines:
        got[(str(line.share), line.workload)] += float(line.dollars)
    for key in {*expected, *got}:
        assert got[key] == pytest.approx(expected[key], abs=1e-6), key


def _count_minute(span, pods, expected):
    money = float(span.hourly_price) / 60
    parts = [float(part) for part in shares(span.capacity)]
    for r, field in enumerate(("cpu_milli", "memory_bytes", "gpus")):
        total, room = getattr(span.capacity, field), getattr(span.allocatable, field)
        if not total:
            continue
        each = money * parts[r] / total
        held = [getattr(pod.held, field) for pod in pods]
        squeeze = room / sum(held) if sum(held) > room else 1.0
        expected[("overhead", "")] += each * (total - room)
        expected[("idle", "")] += each * max(0, room - sum(held))
        for pod, amount in zip(pods, held, strict=True):
            expected[("overhead" if pod.overhead else "workload", pod.workload)] += each * amount * squeeze


@pytest.mark.parametrize(
    ("zone", "month", "lengths"),
    [
        ("Europe/Berlin", date(2026, 3, 1), {23: 1, 24: 30}),
        ("Europe/Berlin", date(2026, 10, 1), {25: 1, 24: 30}),
        ("America/New_York", date(2026, 11, 1), {25: 1, 24: 29}),
        ("America/Santiago", date(2026, 9, 1), {23: 1, 24: 29}),  # the clock skips midnight itself
        ("Australia/Lord_Howe", date(2026, 4, 1), {24.5: 1, 24: 29}),
    ],
)
def test_days_are_the_month_where_clocks_change(zone, month, lengths):
    local = ZoneInfo(zone)
    first = datetime(month.year, month.month, 1, tzinfo=local)
    last = datetime(month.year, month.month + 1, 1, tzinfo=local)
    node = make_node("a")
    span = NodeSpan("a", first, last, Decimal("0.384"), node.allocatable, node.allocatable)
    pod = PodSpan("a", "x", "y", first, last, Resources(1234, GIB))
    days = split_at_days([span], local)
    hours = Counter(sum((s.end - s.start).total_seconds() for s in parts) / 3600 for parts in days.values())
    assert hours == lengths
    daily = [allocate(parts, [pod]) for parts in days.values()]
    assert sum(day.units for day in daily) == allocate([span], [pod]).units
    for share in Share:
        assert sum(day.units_of(share) for day in daily) == pytest.approx(
            allocate([span], [pod]).units_of(share), abs=100
        )


def test_who_pays_for_what():
    span = NodeSpan(
        "a", START, START + timedelta(hours=1), Decimal("0.08"), Resources(4000, 40 * GIB), Resources(3000, 30 * GIB)
    )
    pods = [
        PodSpan("a", "web", "web/Deployment/x", START, START + timedelta(hours=1), Resources(1000, 10 * GIB)),
        PodSpan("a", "kube-system", "cni", START, START + timedelta(hours=1), Resources(0, 10 * GIB), overhead=True),
    ]
    result = allocate([span], pods)  # 4 vCPU and 40 GiB weigh the same: 0.04 each
    assert result.by_namespace() == {
        "": Decimal("0.050000000"),
        "web": Decimal("0.020000000"),
        "kube-system": Decimal("0.010000000"),
    }
    assert [str(result.total(share)) for share in Share] == ["0.020000000", "0.030000000", "0.030000000"]
    assert result.by_node() == {"a": Decimal("0.080000000")}
    assert result.by_workload()["web/Deployment/x"] == Decimal("0.02")


def test_bad_bills_are_refused():
    node = make_node("a").allocatable
    span = NodeSpan("a", START, START + timedelta(hours=1), Decimal("0.1"), node, node)
    with pytest.raises(ValueError, match="overlap"):
        allocate([span, replace(span, end=START + timedelta(hours=2))], [])
    with pytest.raises(ValueError, match="12 decimals"):
        allocate([replace(span, hourly_price=Decimal("0.0000000000001"))], [])
    with pytest.raises(ValueError, match="time zone"):
        allocate([replace(span, start=START.replace(tzinfo=None))], [])


@given(st.integers(0, 10**15), st.lists(st.integers(0, 10**9), min_size=1).filter(any))
def test_apportion_loses_nothing_and_is_fair(total, weights):
    parts = apportion(total, weights)
    assert sum(parts) == total
    assert all(
        abs(Fraction(part) - Fraction(total * weight, sum(weights))) < 1
        for part, weight in zip(parts, weights, strict=True)
    )


def test_small_helpers():
    assert held_by(Resources(5, 10), None) == Resources(5, 10)
    assert held_by(Resources(5, 10), Resources(7, 3)) == Resources(7, 10)
    assert to_dollars(3600 * 10**12) == 1


# Efficiency --------------------------------------------------------------------------------------------------------


def busy(node: str, requests: Resources, usage: Resources | None, name: str = "p") -> Pod:
    return Pod(name, node=node, requests=requests, usage=usage)


def test_the_formula_shows_the_sum():
    node = replace(make_node("a"), allocatable=Resources(10_000, 100 * GIB), hourly_price=Decimal(1))
    pod = busy("a", Resources(8000, 50 * GIB), Resources(2000, 40 * GIB))
    grade = grading.efficiency(ClusterFacts((node,), (pod,)))
    assert (grade.cpu.allocation, grade.cpu.fit, grade.cpu.weight) == (0.8, 0.25, 0.5)
    assert (grade.memory.allocation, grade.memory.fit) == (0.5, 0.8)
    assert grade.score == pytest.approx(100 * (0.5 * 0.525 + 0.5 * 0.65))
    assert grade.grade == "D"
    assert grade.formula == (
        "CPU: 8.0 of 10.0 cores requested (80% by cost), 2.0 used (fit 25%); (80 + 25) / 2 = 52\n"
        "Memory: 50.0 of 100.0 GiB requested (50% by cost), 40.0 used (fit 80%); (50 + 80) / 2 = 65\n"
        "Score = 0.50 × 52 + 0.50 × 65 = 59, grade D"
    )


def test_an_expensive_node_counts_for_more():
    cheap = replace(make_node("cheap"), hourly_price=Decimal("0.1"))
    dear = replace(make_node("dear"), hourly_price=Decimal("0.9"))
    full = Resources(cheap.allocatable.cpu_milli, cheap.allocatable.memory_bytes)
    grade = grading.efficiency(ClusterFacts((cheap, dear), (busy("dear", full, full),)))
    assert grade.cpu.allocation == pytest.approx(0.9)
    assert grade.grade == "A"


@pytest.mark.parametrize(
    ("facts", "missing"),
    [
        (ClusterFacts(), "there are no nodes"),
        (ClusterFacts((make_node("a"),)), "no pod states what it requests"),
        (ClusterFacts((make_node("a"),), (busy("a", Resources(100, GIB), None),)), "usage is known for 0%"),
    ],
)
def test_no_data_is_no_bad_grade(facts, missing):
    grade = grading.efficiency(facts)
    assert (grade.grade, grade.score) == ("no data", None)
    assert grade.missing.startswith(missing)
    assert grade.formula.startswith("No grade: ")


def test_coverage_decides_between_a_grade_and_none():
    pods = [busy("a", Resources(100, 0), Resources(50, 0) if i < 8 else None, f"p{i}") for i in range(10)]
    assert grading.efficiency(ClusterFacts((make_node("a"),), tuple(pods))).score is not None
    assert grading.efficiency(ClusterFacts((make_node("a"),), tuple(pods[1:]))).score is None


@given(st.integers(1, 12), st.integers(0, 999), st.integers(0, 300))
@settings(max_examples=30, deadline=None)
def test_scores_lie_between_0_and_100_and_fall_with_usage(nodes, seed, percent):
    facts = make_fleet(nodes, seed)

    def used(share):
        pods = [
            replace(p, usage=Resources(p.requests.cpu_milli * share // 100, p.requests.memory_bytes * share // 100))
            for p in facts.pods
        ]
        return grading.efficiency(replace(facts, pods=tuple(pods)))

    more, less = used(percent), used(percent // 2)
    assert 0 <= less.score <= more.score <= 100
    assert more.grade == grading.grade_of(more.score)


@pytest.mark.parametrize(
    ("score", "letter"), [(100, "A"), (90, "A"), (89.9, "B"), (60, "C"), (45, "D"), (30, "E"), (29.9, "F"), (0, "F")]
)
def test_letters(score, letter):
    assert grading.grade_of(score) == letter


def test_a_fleets_grade_is_weighted_by_cost():
    node = make_node("a")
    full = Resources(node.allocatable.cpu_milli, node.allocatable.memory_bytes)
    good = grading.efficiency(ClusterFacts((replace(node, hourly_price=Decimal(3)),), (busy("a", full, full),)))
    idle = grading.efficiency(
        ClusterFacts((replace(node, hourly_price=Decimal(1)),), (busy("a", full, Resources(0, 1)),))
    )
    blind = grading.efficiency(ClusterFacts((node,), ()))
    fleet = grading.combine([good, idle, blind])
    assert fleet.score == pytest.approx((3 * 100 + 50) / 4)
    assert fleet.grade == "B"
    assert grading.combine([blind]).grade == "no data"


def test_unpriced_nodes_are_left_out_and_named():
    facts = make_fleet(4, 1)
    pods = tuple(replace(pod, usage=pod.requests) for pod in facts.pods)
    nodes = (replace(facts.nodes[0], hourly_price=None), *facts.nodes[1:])
    assert grading.efficiency(ClusterFacts(nodes, pods)).unpriced == (facts.nodes[0].name,)
    unpriced = tuple(replace(node, hourly_price=None) for node in facts.nodes)
    assert grading.efficiency(ClusterFacts(unpriced, pods)).score is not None


# Waste -------------------------------------------------------------------------------------------------------------


def sample(minutes: int, requested: int, used: int | None = None, cost: str | None = "1") -> CapacitySample:
    return CapacitySample(
        START + timedelta(minutes=minutes),
        Resources(10_000, 100 * GIB),
        Resources(requested, GIB),
        None if used is None else Resources(used, GIB),
        None if cost is None else Decimal(cost),
    )


def test_waste_is_what_the_fuller_resource_leaves():
    assert wasted_now(Resources(100, 100), Resources(30, 80)) == pytest.approx(0.2)
    assert wasted_now(Resources(100, 100), Resources(130, 80)) == 0


def test_waste_over_time_weighs_by_time_and_cost():
    result = waste([sample(5, 9000, 100), sample(0, 5000, 4000), sample(10, 0)])
    assert result.wasted_share == pytest.approx((0.5 + 0.1) / 2)
    assert result.monthly_savings == Decimal("219.0")
    assert result.unused_cpu == pytest.approx((0.6 + 0.99) / 2)
    assert result.covered == timedelta(minutes=10)
    assert [point.requested for point in result.cpu] == [5.0, 9.0, 0.0]
    assert [point.used for point in result.cpu] == [4.0, 0.1, None]


def test_a_gap_breaks_the_lines_and_counts_for_nothing():
    samples = [sample(minutes, 5000) for minutes in (0, 5, 10, 15, 600, 605)]
    result = waste(samples)
    assert result.covered == timedelta(minutes=20)
    assert [point.capacity for point in result.cpu] == [10.0] * 4 + [None] + [10.0] * 2


def test_waste_without_data_or_prices():
    empty = waste([])
    assert (empty.wasted_share, empty.monthly_savings, empty.cpu) == (None, None, ())
    unpriced = waste([sample(0, 5000, cost=None), sample(5, 5000, cost=None)])
    assert (unpriced.wasted_share, unpriced.monthly_savings) == (0.5, None)
    assert unpriced.unused_cpu is None
