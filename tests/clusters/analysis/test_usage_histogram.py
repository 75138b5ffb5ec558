"""Usage histograms against a straightforward second implementation, the VPA's own figures, and real traces."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusters.analysis.usage_histogram import (
    CPU_BUCKETS,
    MEMORY_BUCKETS,
    Buckets,
    UsageHistogram,
    cpu_weight,
)
from tests.clusters.analysis.real_data import rows

pytestmark = pytest.mark.unit
START = datetime(2026, 1, 5, tzinfo=UTC)
SAMPLES = st.lists(
    st.tuples(st.floats(0, 2000), st.floats(0.1, 50), st.integers(-14 * 86_400, 300 * 86_400)), min_size=1, max_size=40
)


class Plain:
    """Keeps every sample; edges by repeated addition, decay by the definition, no reference that moves."""

    def __init__(self, first: float, top: float) -> None:
        self.edges, width = [0.0], first
        while self.edges[-1] < top:
            self.edges.append(self.edges[-1] + width)
            width *= 1.05
        self.samples: list[tuple[float, float, float]] = []

    def add(self, value: float, weight: float, at: datetime) -> None:
        self.samples.append((value, weight, at.timestamp()))

    def percentile(self, share: float) -> float:
        newest = max(at for _, _, at in self.samples)
        weights = [0.0] * len(self.edges)
        for value, weight, at in self.samples:
            bucket = max(i for i, edge in enumerate(self.edges) if edge <= value)
            weights[bucket] += weight * 2 ** ((at - newest) / 86_400)
        below = 0.0
        for bucket, weight in enumerate(weights):
            below += weight
            if weight > 0 and below >= share * sum(weights) * (1 - 1e-12):
                return self.edges[min(bucket + 1, len(self.edges) - 1)]
        raise AssertionError


def test_the_buckets_are_those_of_the_vpa():
    for buckets, first in ((CPU_BUCKETS, 0.01), (MEMORY_BUCKETS, 1e7)):
        assert buckets.count == 176
        assert buckets.start(1) == pytest.approx(first)
        assert buckets.start(2) == pytest.approx(first * 2.05)
        assert buckets.find(0) == 0
        assert buckets.find(first * 1.0001) == 1
        assert buckets.find(1e30) == 175
        for bucket in range(1, 176):
            assert buckets.find(buckets.start(bucket) * (1 + 1e-9)) == bucket
            assert buckets.find(buckets.start(bucket) * (1 - 1e-9)) == bucket - 1
    with pytest.raises(IndexError):
        CPU_BUCKETS.start(176)


def test_a_simple_distribution():
    """Equal weights in four buckets of an easy scheme: upper edges, and the last bucket's lower one."""
    buckets = Buckets(10.0, 1.0, 2.0)  # edges 0, 1, 3, 7, 15
    histogram = UsageHistogram(buckets)
    for value in (0.5, 2, 5, 100):
        histogram.add(value, 1, START)
    assert [histogram.percentile(share) for share in (0, 0.25, 0.26, 0.5, 0.75, 1)] == [
        1,
        1,
        3,
        3,
        7,
        buckets.start(buckets.count - 1),
    ]


@settings(max_examples=120, deadline=None)
@given(SAMPLES, st.sampled_from((0.0, 0.5, 0.9, 0.95, 1.0)))
def test_percentiles_equal_the_plain_ones(samples, share):
    """Where the weights span more than the VPA's epsilon the lightest buckets may be dropped; such cases are skipped."""
    newest = max(at for _, _, at in samples)
    samples = [(value, weight, max(at, newest - 6 * 86_400)) for value, weight, at in samples]
    histogram, plain = UsageHistogram(CPU_BUCKETS), Plain(0.01, 1000)
    for value, weight, at in samples:
        histogram.add(value, weight, START + timedelta(seconds=at))
        plain.add(value, weight, START + timedelta(seconds=at))
    got, expected = histogram.percentile(share), plain.percentile(share)
    ratio = math.log((got + 0.2) / (expected + 0.2)) / math.log(1.05)
    assert abs(ratio) <= 1.000001, "more than one bucket away"
    if share in {0.0, 1.0} and all(value < 1000 for value, _, _ in samples):
        assert got == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(SAMPLES, SAMPLES)
def test_merging_is_adding_the_samples(left, right):
    one, two, both = (UsageHistogram(CPU_BUCKETS) for _ in range(3))
    for target, samples in ((one, left), (two, right), (both, left), (both, right)):
        for value, weight, at in samples:
            target.add(value, weight, START + timedelta(seconds=at))
    before = two.to_json()
    one.merge(two)
    assert two.to_json() == before
    for share in (0.1, 0.5, 0.9, 0.99):
        assert one.percentile(share) == pytest.approx(both.percentile(share), rel=0.0501, abs=0.011)


def test_merging_different_kinds_is_refused():
    with pytest.raises(ValueError, match="same buckets"):
        UsageHistogram(CPU_BUCKETS).merge(UsageHistogram(MEMORY_BUCKETS))


def test_a_day_halves_the_weight():
    histogram = UsageHistogram(CPU_BUCKETS)
    histogram.add(1, 2, START)
    histogram.add(5, 1, START + timedelta(days=1))
    assert histogram.percentile(0.5) == pytest.approx(CPU_BUCKETS.start(CPU_BUCKETS.find(1) + 1))
    assert histogram.percentile(0.51) == pytest.approx(CPU_BUCKETS.start(CPU_BUCKETS.find(5) + 1))


def test_years_of_samples_neither_overflow_nor_remember():
    histogram = UsageHistogram(CPU_BUCKETS)
    for day in range(0, 3000, 3):
        histogram.add(500 if day < 2900 else 1, 1, START + timedelta(days=day))
    assert histogram.percentile(1.0) < 2
    assert math.isfinite(histogram.total_weight)


def test_subtracting_a_peak_takes_it_back():
    histogram = UsageHistogram(MEMORY_BUCKETS)
    histogram.add(1e8, 1, START)
    histogram.add(9e8, 1, START)
    histogram.subtract(1e8, 1, START)
    assert histogram.percentile(0.0) == histogram.percentile(1.0) > 9e8
    histogram.subtract(9e8, 1, START)
    assert histogram.empty
    assert histogram.percentile(0.9) == 0.0


@settings(max_examples=60, deadline=None)
@given(SAMPLES)
def test_a_checkpoint_survives_json(samples):
    histogram = UsageHistogram(CPU_BUCKETS)
    for value, weight, at in samples:
        histogram.add(value, weight, START + timedelta(seconds=at))
    saved = json.loads(json.dumps(histogram.to_json()))
    loaded = UsageHistogram.from_json(saved, CPU_BUCKETS)
    assert max(saved["weights"].values()) == 10_000
    assert loaded.total_weight == pytest.approx(histogram.total_weight)
    least, most = histogram.percentile(0.49), histogram.percentile(0.51)  # weights are rounded: at a tie either side
    assert least * 0.9499 - 0.011 <= loaded.percentile(0.5) <= most * 1.0501 + 0.011
    later = START + timedelta(days=400)
    loaded.add(3, 1, later)
    assert (
        loaded.percentile(1.0) == pytest.approx(CPU_BUCKETS.start(CPU_BUCKETS.find(3) + 1))
        or saved["reference"] > later.isoformat()
    )


@pytest.mark.parametrize(
    "value",
    [None, {}, {"weights": {}, "total": -1, "reference": None}, {"weights": {"999": 1}, "total": 1, "reference": None},
     {"weights": {"1": "x"}, "total": 1, "reference": None}, {"weights": {}, "total": float("nan"), "reference": None}],
)  # fmt: skip
def test_bad_checkpoints_are_refused(value):
    with pytest.raises(ValueError, match="checkpoint"):
        UsageHistogram.from_json(value, CPU_BUCKETS)


def test_an_empty_checkpoint_loads():
    loaded = UsageHistogram.from_json(UsageHistogram(CPU_BUCKETS).to_json(), CPU_BUCKETS)
    assert loaded.empty


@pytest.mark.parametrize("sample", [(-1, 1), (1, -1), (math.nan, 1), (1, math.inf)])
def test_bad_samples_are_refused(sample):
    with pytest.raises(ValueError, match="finite"):
        UsageHistogram(CPU_BUCKETS).add(*sample, START)


def test_cpu_samples_weigh_what_is_requested():
    assert [cpu_weight(cores) for cores in (0, 0.05, 2)] == [0.1, 0.1, 2]


def test_a_real_container():
    """Eight days of one container, minute by minute: the last days decide, and both implementations agree."""
    histogram, plain = UsageHistogram(CPU_BUCKETS), Plain(0.01, 1000)
    for row in rows("alibaba_containers_1min/dev/c_12104.csv.gz"):
        at = datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC)
        histogram.add(float(row["cpu_cores_used"]), 1.0, at)
        plain.add(float(row["cpu_cores_used"]), 1.0, at)
    assert len(plain.samples) > 10_000
    for share in (0.5, 0.9, 0.95):
        assert histogram.percentile(share) == pytest.approx(plain.percentile(share))
    restored = UsageHistogram.from_json(histogram.to_json(), CPU_BUCKETS)
    assert restored.percentile(0.9) == histogram.percentile(0.9)


def test_the_upstream_checkpoint_rounds_to_the_heaviest():
    histogram = UsageHistogram(CPU_BUCKETS)
    histogram.add(1, 1.0, START)
    histogram.add(2, 1e-3, START)
    histogram.add(3, 0.5, START)
    assert sorted(histogram.to_json()["weights"].values()) == [10, 5000, 10_000]
