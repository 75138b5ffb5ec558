"""Recommendations held against figures worked out by VPA's documented rules, and every reason to hold one back."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusters.analysis.usage_days import LEVELS, Day, UsageDays, bucket_of, edge, sketch
from clusters.histograms import ContainerUse
from policies.enums import Profile
from policies.rightsizing import measured
from policies.rightsizing.advice import MIB, Box, Prices, Rules, Subject, Why, advise, jvm, recommend, vpa_bounds

NOW = datetime(2031, 6, 12, 9, tzinfo=UTC)
GIB = 1024**3
PRICES = Prices(cpu=0.02, memory=2.7e-9)  # $20 a core and $2.90 a GiB


def used(
    cores: list[float], memory: list[float] | None = None, *, step: float = 300.0, request: float = 1.0
) -> ContainerUse:
    """A container whose last sample is at NOW."""
    use = ContainerUse()
    for number, value in enumerate(cores):
        at = NOW - timedelta(seconds=step * (len(cores) - 1 - number))
        use.add(at, round(value * 1e9), round(memory[number]) if memory else 300 * MIB, request)
    return use


def days_of(cores: float = 0.2, days: int = 5, memory: float = 300 * MIB) -> ContainerUse:
    count = days * 288
    return used([cores] * count, [memory] * count)


def subject(*boxes: Box, **more: Any) -> Subject:
    return Subject(**{"namespace": "shop", "kind": "Deployment", "name": "web", "replicas": 3, "boxes": boxes, **more})


def vpa_by_hand(samples: list[tuple[float, float]], share: float, first: float, most: float) -> tuple[float, float]:
    """The two edges of the bucket that VPA's rule finds, from (value, age in days): written without the histogram."""
    edges = [0.0]
    while edges[-1] < most:
        edges.append(edges[-1] + first * 1.05 ** (len(edges) - 1))
    weighed = sorted((value, 2.0**-age) for value, age in samples)
    total, below = sum(w for _, w in weighed), 0.0
    for value, weight in weighed:
        below += weight
        if below >= share * total - 1e-12:
            index = next(i for i, start in enumerate(edges) if start > value)
            return edges[index - 1], edges[index]
    raise AssertionError("unreachable")


@pytest.mark.parametrize("seed", range(20))
def test_cpu_is_within_one_bucket_of_vpas_rule(seed: int) -> None:
    dice = random.Random(seed)
    values = [abs(dice.lognormvariate(-1.5, 0.8)) for _ in range(2000)]
    use = used(values)
    samples = [(v, (len(values) - 1 - i) * 300 / 86_400) for i, v in enumerate(values)]
    cpu, _ = recommend(use, Rules(Profile.VPA), now=NOW)
    low, high = vpa_by_hand(samples, 0.9, 0.01, 1000)
    assert cpu.wanted is not None
    assert 1.15 * low / 1.05 - 0.002 <= cpu.wanted / 1000 <= 1.15 * high * 1.05 + 0.002
    assert cpu.lower is not None
    assert cpu.upper is not None
    assert cpu.lower <= cpu.wanted <= cpu.upper


def test_vpas_confidence_is_as_documented() -> None:
    target, low, high = vpa_bounds((1.0, 1.0, 1.0), 0.5)
    assert (target, high) == pytest.approx((1.15, 1.15 * 3))
    assert vpa_bounds((1, 1, 1), 1.0)[2] == pytest.approx(2.3)
    assert vpa_bounds((1, 1, 1), 7.0)[2] == pytest.approx(1.15 * (1 + 1 / 7))
    assert vpa_bounds((1, 1, 1), 5 / 1440)[1] / 1.15 == pytest.approx(0.6, abs=0.01)
    assert vpa_bounds((1, 1, 1), 60 / 1440)[1] / 1.15 == pytest.approx(0.95, abs=0.01)
    assert low < target


def test_vpas_smallest_pod_is_divided_between_containers() -> None:
    cpu, memory = recommend(used([0.001] * 600, [1 * MIB] * 600), Rules(Profile.VPA), boxes=2, now=NOW)
    assert (cpu.wanted, memory.wanted) == (13, 125_000_000)


def test_the_default_profile_is_p95_and_the_highest_daily_peak_with_headroom() -> None:
    cores = [0.1] * 1300 + [0.5] * 140  # 0.5 for 9.7 % of the time
    memory = [100 * MIB] * 1439 + [100 * MIB]
    cpu, mem = recommend(used(cores, memory), Rules(headroom=20), now=NOW)
    assert cpu.wanted == pytest.approx(600, rel=0.025)
    assert mem.wanted == 120 * MIB  # "if a pod uses 100 MB at its peak and the buffer is 20 %: 120 MB"
    wide, _ = recommend(used(cores, memory), Rules(headroom=50), now=NOW)
    assert wide.wanted == pytest.approx(750, rel=0.025)


def test_what_is_too_large_shrinks_and_the_dollars_are_those_of_all_replicas() -> None:
    found = advise(subject(Box("app", cpu=4000, memory=4 * GIB, use=days_of())), Rules(), PRICES, NOW)
    box = found.boxes[0]
    assert box.cpu.down
    assert box.memory.to == 360 * MIB
    saved = 3 * ((4000 - (box.cpu.to or 0)) * 0.02 + (4 * GIB - 360 * MIB) * 2.7e-9)
    assert found.saves == pytest.approx(saved)
    assert found.changes
    assert not found.up


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ("exempt", Why.EXEMPT),
        ("daemonset", Why.KIND),
        ("young", Why.YOUNG),
        ("unused", Why.NO_USAGE),
        ("close", Why.CLOSE),
        ("hpa", Why.HPA),
        ("little", Why.SAVES_LITTLE),
        ("unpriced", Why.SAVES_LITTLE),
    ],
)
def test_every_hold_has_its_reason(case: str, why: Why) -> None:
    use = days_of()
    facts: dict[str, Any] = {}
    cpu, rules, prices = 4000, Rules(), PRICES
    if case == "exempt":
        facts["exempt"] = "namespace shop is exempt"
    if case == "daemonset":
        facts["kind"] = "DaemonSet"
    if case == "young":
        use = used([0.2] * 200)
    if case == "hpa":
        facts["scales_on"] = ("cpu",)
    if case == "close":
        cpu = 250
    if case == "little":
        rules = Rules(minimum_monthly=1000)
    if case == "unpriced":
        prices = Prices()
    box = Box("app", cpu=cpu, memory=360 * MIB, use=None if case == "unused" else use)
    found = advise(subject(box, **facts), rules, prices, NOW)
    hold = found.hold or found.boxes[0].cpu.hold
    assert hold is not None
    assert hold.why is why
    assert hold.words
    assert not found.changes
    assert found.boxes[0].cpu.to == cpu
    if case == "exempt":
        assert (found.saves, found.potential) == (0.0, 0.0)


def test_an_autoscaler_on_cpu_leaves_memory_free() -> None:
    box = Box("app", cpu=4000, memory=16 * GIB, use=days_of())
    found = advise(subject(box, scales_on=("cpu",)), Rules(), PRICES, NOW)
    assert found.boxes[0].cpu.hold is not None
    assert found.boxes[0].memory.down


def test_too_small_grows_whatever_it_costs() -> None:
    found = advise(subject(Box("app", cpu=50, memory=64 * MIB, use=days_of())), Rules(minimum_monthly=500), PRICES, NOW)
    assert found.up
    assert found.saves is not None
    assert found.saves < 0


def test_a_killed_container_gets_more_even_when_it_is_young() -> None:
    box = Box("app", cpu=200, memory=512 * MIB, use=used([0.2] * 20), killed_at=NOW, killed_with=512 * MIB)
    found = advise(subject(box), Rules(), PRICES, NOW)
    assert found.boxes[0].memory.to == math.ceil(512 * 1.2) * MIB  # more than 100 MiB on top
    assert found.boxes[0].urgent
    small = Box("app", cpu=200, memory=64 * MIB, use=None, killed_at=NOW, killed_with=64 * MIB)
    assert advise(subject(small), Rules(), PRICES, NOW).boxes[0].memory.to == 164 * MIB
    old = Box("app", cpu=200, memory=64 * MIB, killed_at=NOW - timedelta(days=15), killed_with=64 * MIB)
    assert not advise(subject(old), Rules(), PRICES, NOW).changes


def test_java_keeps_its_memory_and_says_so() -> None:
    assert jvm("docker.io/library/eclipse-temurin:21-jre")
    assert jvm("registry/shop/orders-java")
    assert not jvm("registry/shop/javelin:2")
    box = Box("app", image="openjdk:21", cpu=4000, memory=16 * GIB, use=days_of())
    found = advise(subject(box), Rules(), PRICES, NOW).boxes[0]
    assert found.memory.hold is not None
    assert found.memory.hold.why is Why.JVM
    assert found.cpu.down
    assert found.notes


# days


@given(st.lists(st.floats(0.0001, 64), min_size=1, max_size=400))
def test_a_days_sketch_never_says_less_than_the_samples(values: list[float]) -> None:
    days = UsageDays()
    for value in values:
        days.add(1, value, None)
    day = days.days()[0]
    ordered = sorted(values)
    for level, bucket in zip(LEVELS, day.buckets, strict=True):
        true = ordered[max(0, math.ceil(level * len(ordered) - 1e-9) - 1)]
        assert true <= edge(bucket) * (1 + 1e-9)
        assert edge(bucket) <= max(true * 1.02, 1e-4) * (1 + 1e-9)


def test_days_survive_being_stored() -> None:
    days = UsageDays()
    for day in range(20):
        for cores in (0.1, 0.2, 0.4):
            days.add(day, cores, 100.0 * day)
    again = UsageDays.load(json.loads(json.dumps(days.dump())))
    assert again.days() == days.days()
    assert len(again.days()) == 16
    with pytest.raises(ValueError, match="not a container's days"):
        UsageDays.load([1])


def test_days_that_were_stored_by_fewer_shares_are_read() -> None:
    day = UsageDays.load([[[3, 288, 0.0, *range(12)]], 4, [], 0.0]).days()[0]
    assert day.buckets == (0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 11)


def flat(cores: float, days: int, first: int = 0) -> list[Day]:
    return [sketch(first + n, {bucket_of(cores): 288}, 0.0) for n in range(days)]


def test_measured_needs_three_days_and_never_exceeds_what_was_used() -> None:
    assert measured.choose(flat(1.0, 2), 1.0) is None
    found = measured.choose(flat(1.0, 10), 1.0)
    assert found is not None
    assert found.cores == pytest.approx(1.0, rel=0.021), "VPA's rule asks for 1.15"


def test_measured_lets_a_small_container_have_its_peak_and_a_large_one_pay_for_its_own() -> None:
    def spiky(low: float, high: float) -> list[Day]:
        return [sketch(n, {bucket_of(low): 280, bucket_of(high): 8}, 0.0) for n in range(14)]

    small, large = measured.choose(spiky(0.005, 0.02), 0.005), measured.choose(spiky(2.0, 8.0), 2.0)
    assert small is not None
    assert large is not None
    assert small.cores == pytest.approx(0.02, rel=0.021)
    assert large.cores < 4.5
    careful = measured.choose(spiky(2.0, 8.0), 2.0, headroom=100)
    assert careful is not None
    assert careful.cores > 7


def test_measured_does_not_believe_a_quiet_week_blindly() -> None:
    days = [*flat(8.0, 7), *flat(0.05, 7, first=7)]
    usual, daring = measured.choose(days, 0.05), measured.choose(days, 0.05, headroom=10)
    assert usual is not None
    assert daring is not None
    assert usual.cores == pytest.approx(2.0, rel=0.021)
    assert daring.cores == pytest.approx(4.0, rel=0.021)
    assert "lately" in usual.words


def test_measured_asks_for_what_was_used_lately_but_not_for_more_than_was_ever_needed() -> None:
    days = [*flat(0.5, 11), *flat(2.0, 3, first=11)]
    found = measured.choose(days, 2.0, headroom=15)
    assert found is not None
    assert found.cores == pytest.approx(2.0, rel=0.021)


@pytest.mark.parametrize("headroom", range(10, 51))
def test_more_headroom_never_asks_for_less(headroom: int) -> None:
    dice = random.Random(7)
    days = [sketch(n, Counter(bucket_of(dice.lognormvariate(-1, 0.9)) for _ in range(288)), 0.0) for n in range(14)]
    less, more = (measured.choose(days, 0.9, headroom=h) for h in (headroom, headroom + 1))
    assert less is not None
    assert more is not None
    assert less.cores <= more.cores
