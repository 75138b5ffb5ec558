"""Stability, end of life, drift, CIS checks and trends."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clusters.analysis import cis
from clusters.analysis.cis import Binding, PodSecurity, Role, SecurityFacts, Verdict
from clusters.analysis.drift import Rule, TemplateRules, drift
from clusters.analysis.eol import BUILT_IN, Release, Support, SupportTable, minor_version
from clusters.analysis.facts import ARCH, Lifecycle, Taint
from clusters.analysis.stability import (
    BAND_MONTHLY,
    SpotObservation,
    StabilityFacts,
    beta_cdf,
    beta_quantile,
    curve,
    level_of,
    spot_risk,
    stability,
)
from clusters.analysis.trend import Direction, extremes, sparkline, week_over_week
from tests.clusters.analysis.fleets import make_node
from tests.clusters.analysis.real_data import rows

pytestmark = pytest.mark.unit
NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
CALM = StabilityFacts(
    nodes=20,
    nodes_under_pressure=0,
    pods=200,
    restarts=0,
    spot=(SpotObservation("m5.large", 2, 0),),
    api_latency_p99=0.1,
)


# Stability ---------------------------------------------------------------------------------------------------------


def test_a_calm_cluster_scores_near_100_and_shows_its_parts():
    result = stability(CALM)
    assert result.index == pytest.approx(100, abs=1)
    assert (result.level, result.missing) == ("green", ())
    assert {part.name: part.weight for part in result.components} == pytest.approx(
        {"pressure": 0.3, "restarts": 0.3, "spot": 0.2, "latency": 0.2}
    )


@pytest.mark.parametrize(
    ("changes", "component", "score"),
    [
        ({"nodes_under_pressure": 1}, "pressure", 80),
        ({"nodes_under_pressure": 5}, "pressure", 0),
        ({"restarts": 10}, "restarts", 80),
        ({"restarts": 10, "oom_kills": 10}, "restarts", 80 * 35 / 45),
        ({"restarts": 10, "days": 2.0}, "restarts", 90),
        ({"api_latency_p99": 1.0}, "latency", 80),
        ({"api_latency_p99": 5.5}, "latency", 40),
        ({"spot": ()}, "spot", 100),
    ],
)
def test_the_marks(changes, component, score):
    parts = {part.name: part.score for part in stability(replace(CALM, **changes)).components}
    assert parts[component] == pytest.approx(score)


def test_missing_components_are_named_and_their_weight_is_shared():
    result = stability(replace(CALM, spot=None, api_latency_p99=None))
    assert result.missing == ("spot", "latency")
    assert {part.name: part.weight for part in result.components} == {"pressure": 0.5, "restarts": 0.5}
    nothing = stability(StabilityFacts(nodes=3))
    assert (nothing.index, nothing.level) == (None, "unknown")


@given(st.floats(0, 2))
def test_the_curve_never_rises(value):
    assert 0 <= curve(value + 0.01, 0.1, 0.5, 1.5) <= curve(value, 0.1, 0.5, 1.5) <= 100


@pytest.mark.parametrize(("index", "level"), [(80, "green"), (79.9, "orange"), (60, "orange"), (59, "red")])
def test_levels(index, level):
    assert level_of(index) == level


@given(st.integers(1, 40), st.integers(1, 400), st.floats(0.0001, 0.9999))
def test_the_beta_distribution_agrees_with_binomial_tails(a, b, x):
    """For whole numbers: the chance of at least `a` successes in `a + b - 1` trials."""
    n = a + b - 1
    tail = math.fsum(math.comb(n, k) * x**k * (1 - x) ** (n - k) for k in range(a, n + 1))
    assert beta_cdf(x, a, b) == pytest.approx(tail, abs=1e-9)


@given(st.floats(0.0001, 0.9999))
def test_the_beta_distribution_of_halves_is_the_arcsine_law(x):
    assert beta_cdf(x, 0.5, 0.5) == pytest.approx(2 / math.pi * math.asin(math.sqrt(x)), abs=1e-9)


@given(st.floats(0.01, 0.99), st.floats(0.5, 50), st.floats(0.5, 5000))
def test_quantiles_invert_the_distribution(share, a, b):
    assert beta_cdf(beta_quantile(share, a, b), a, b) == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize("band", range(5))
def test_without_observations_the_band_decides(band):
    risk = spot_risk(SpotObservation("m5.large", 3, band))
    assert risk.monthly == pytest.approx(BAND_MONTHLY[band])
    assert risk.low < risk.monthly < risk.high


def test_observations_move_the_estimate_by_their_amount():
    prior = spot_risk(SpotObservation("x", 1, 4)).monthly
    quiet = spot_risk(SpotObservation("x", 1, 4, node_hours=12 * 730)).monthly
    assert quiet == pytest.approx(1 - (1 - prior) ** 0.5, rel=0.01)  # as much data as prior: half the hourly rate
    stormy = spot_risk(SpotObservation("x", 1, 0, node_hours=730, interruptions=20))
    assert stormy.monthly > 0.7
    unknown = spot_risk(SpotObservation("x", 1, None))
    assert (unknown.prior, unknown.high - unknown.low > 0.3) == ("no band known", True)
    with pytest.raises(ValueError, match="no band 7"):
        spot_risk(SpotObservation("x", 1, 7))


def test_real_interruptions_are_learned():
    """GCP preemptions of 2019: from the first half of the VMs, the second half's rate is inside the interval."""
    lives = [float(row["lifetime_seconds"]) / 3600 for row in rows("spot_availability/dev/gcp_preemptions_2019.csv.gz")]
    first, second = lives[: len(lives) // 2], lives[len(lives) // 2 :]
    alpha_hours, later_hours = sum(first), sum(second)
    risk = spot_risk(SpotObservation("n1", 1, 4, alpha_hours, len(first)))
    hourly = 1 - (1 - risk.monthly) ** (1 / 730)
    assert risk.monthly > 0.99
    assert hourly == pytest.approx(len(second) / later_hours, rel=0.9)


# End of life -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "today", "support", "extra", "label"),
    [
        ("v1.31.14-eks-64", date(2026, 8, 22), Support.EXTENDED, Decimal("365.00"),
         "Kubernetes 1.31 is in extended support until 2026-11-26, +$365 a month"),
        ("1.34", date(2026, 8, 22), Support.SUPPORTED, 0, "Kubernetes 1.34 is supported until 2026-12-02"),
        ("1.34", date(2026, 11, 2), Support.ENDING_SOON, 0, "Kubernetes 1.34: support ends on 2026-12-02, in 30 days"),
        ("1.34", date(2026, 12, 2), Support.ENDING_SOON, 0, "Kubernetes 1.34: support ends on 2026-12-02, in 0 days"),
        ("1.34", date(2026, 12, 3), Support.EXTENDED, Decimal("365.00"),
         "Kubernetes 1.34 is in extended support until 2027-12-02, +$365 a month"),
        ("1.29+", date(2026, 8, 22), Support.ENDED, 0, "Kubernetes 1.29: support has ended on 2026-03-23"),
        ("1.99", date(2026, 8, 22), Support.UNKNOWN, None, "No support dates known for 1.99"),
        ("", date(2026, 8, 22), Support.UNKNOWN, None, "No support dates known for this version"),
    ],
)  # fmt: skip
def test_badges_of_eks(version, today, support, extra, label):
    badge = BUILT_IN.badge("eks", version, today)
    assert (badge.support, badge.monthly_extra, badge.label) == (support, extra, label)


def test_a_surcharge_that_is_not_recorded_is_not_shown():
    badge = BUILT_IN.badge("aks", "1.32", date(2026, 8, 22))
    assert (badge.support, badge.monthly_extra) == (Support.EXTENDED, None)
    assert "$" not in badge.label


def test_the_upgrade_is_the_newest_version_released_by_then():
    assert BUILT_IN.badge("eks", "1.31", date(2026, 8, 22)).upgrade_to == "1.36"
    assert BUILT_IN.badge("eks", "1.31", date(2026, 5, 1)).upgrade_to == "1.35"
    assert BUILT_IN.badge("eks", "1.36", date(2026, 8, 22)).upgrade_to is None


def test_rows_with_true_and_false_instead_of_dates():
    table = SupportTable.from_rows(
        [
            {"product": "kubernetes", "cycle": "1.5", "eol": "True"},
            {"product": "kubernetes", "cycle": "1.50", "eol": "False"},
            {"product": "redis", "cycle": "7", "eol": "2020-01-01"},
        ],
        as_of=date(2026, 1, 1),
    )
    assert table.badge("kubernetes", "1.5", date(2026, 1, 1)).support is Support.ENDED
    assert table.badge("kubernetes", "1.50", date(2026, 1, 1)).label == "Kubernetes 1.50 is supported"
    assert table.newest("kubernetes", date(2026, 1, 1)) == "1.50"
    assert table.release("redis", "7") is None


def test_the_built_in_table_is_what_the_source_says():
    real = SupportTable.from_rows(rows("eol_dates/ref/release_cycles.csv.gz"), as_of=date(2026, 8, 22))
    assert len(BUILT_IN._releases) == 30
    for (provider, version), release in BUILT_IN._releases.items():
        found = real.release(provider, version)
        assert isinstance(found, Release)
        assert (found.released, found.ends, found.extended_ends) == (
            release.released,
            release.ends,
            release.extended_ends,
        )


@pytest.mark.parametrize(("raw", "minor"), [("v1.31.2", "1.31"), ("1.31+", "1.31"), (" 1.9 ", "1.9"), ("latest", None)])
def test_minor_versions(raw, minor):
    assert minor_version(raw) == minor


# Drift -------------------------------------------------------------------------------------------------------------

TEMPLATE = TemplateRules(
    "general",
    families=frozenset({"m6i", "c6i"}),
    excluded_sizes=frozenset({"8xlarge"}),
    architectures=frozenset({"amd64"}),
    lifecycles=frozenset({Lifecycle.ON_DEMAND}),
    zones=frozenset({"us-east-1a"}),
    maximum_price=Decimal("1.0"),
    labels=(("pool", "general"),),
)


@pytest.mark.parametrize(
    ("changes", "rules"),
    [
        ({}, []),
        ({"instance_type": "r6i.large"}, [Rule.FAMILY]),
        ({"instance_type": "m6i.8xlarge", "hourly_price": Decimal("1.536")}, [Rule.SIZE, Rule.PRICE]),
        ({"labels": {ARCH: "arm64", "pool": "general"}}, [Rule.ARCHITECTURE]),
        ({"lifecycle": Lifecycle.SPOT}, [Rule.LIFECYCLE]),
        ({"zone": "us-east-1b"}, [Rule.ZONE]),
        ({"labels": {ARCH: "amd64", "pool": "other"}}, [Rule.LABEL]),
    ],
)
def test_each_rule_of_a_template(changes, rules):
    report = drift([replace(make_node("a", created_at=NOW), **changes)], TEMPLATE)
    assert [found.rule for found in report.drifted] == rules
    assert all(found.since == NOW for found in report.drifted)
    assert report.drifted_nodes == (("a",) if rules else ())


def test_what_is_not_known_is_no_drift():
    node = replace(
        make_node("a"),
        instance_type="",
        hourly_price=None,
        zone="",
        lifecycle=Lifecycle.UNKNOWN,
        labels={"pool": "general"},
    )
    report = drift([node], TEMPLATE)
    assert report.drifted == ()
    assert {rule for _, rule in report.unknown} == {
        Rule.FAMILY,
        Rule.SIZE,
        Rule.ARCHITECTURE,
        Rule.LIFECYCLE,
        Rule.ZONE,
        Rule.PRICE,
    }


def test_types_and_taints_of_a_template():
    rules = TemplateRules(
        "t", types=frozenset({"m6i.large"}), excluded_types=frozenset({"m6i.2xlarge"}), taints=(Taint("x"),)
    )
    assert [found.rule for found in drift([make_node("a")], rules).drifted] == [Rule.TYPE, Rule.TYPE, Rule.TAINT]
    assert drift([make_node("a", "m6i.large", taints=(Taint("x"),))], rules).drifted == ()


# CIS ---------------------------------------------------------------------------------------------------------------

SAFE = PodSecurity("shop", "web", may_be_root=False, drops_net_raw=True, secret_in_environment=False, seccomp=True,
                   service_account="web", mounts_token=False)  # fmt: skip
GOOD = SecurityFacts(
    pods=(SAFE,), bindings=(), roles=(), namespaces=("shop", "kube-system"),
    namespaces_with_policies=frozenset({"shop"}), enforced_pod_security=frozenset({"shop"}),
)  # fmt: skip


def verdicts(facts: SecurityFacts) -> dict[str, Verdict]:
    return {check.id: check.verdict for check in cis.check(facts).checks}


def test_a_good_cluster_passes_all_that_can_be_judged():
    report = cis.check(GOOD)
    assert report.count(Verdict.FAIL) == 0
    assert report.count(Verdict.PASS) == 21
    assert {check.id for check in report.checks if check.verdict is Verdict.MANUAL} == {
        number for number, _, _ in cis._MANUAL
    }
    assert report.compliant is True
    assert [check.id for check in report.checks] == sorted(
        (check.id for check in report.checks), key=lambda number: [int(part) for part in number.split(".")]
    )


def test_nothing_collected_means_nothing_passed():
    report = cis.check(SecurityFacts())
    assert report.count(Verdict.MANUAL) == len(report.checks)
    assert report.compliant is None


@pytest.mark.parametrize(
    ("number", "changes"),
    [
        ("5.2.2", {"privileged": True}),
        ("5.2.3", {"host_pid": True}),
        ("5.2.4", {"host_ipc": True}),
        ("5.2.5", {"host_network": True}),
        ("5.2.6", {"privilege_escalation": True}),
        ("5.2.7", {"may_be_root": True}),
        ("5.2.8", {"drops_net_raw": False}),
        ("5.2.9", {"added_capabilities": ("SYS_ADMIN",)}),
        ("5.2.12", {"host_path": True}),
        ("5.2.13", {"host_ports": True}),
        ("5.4.1", {"secret_in_environment": True}),
        ("5.7.2", {"seccomp": False}),
        ("5.7.4", {"namespace": "default"}),
        ("5.1.5", {"service_account": "default", "mounts_token": True}),
    ],
)
def test_each_pod_check_fails_with_its_evidence(number, changes):
    bad = replace(SAFE, name="bad", **changes)
    facts = replace(GOOD, pods=(SAFE, bad))
    found = next(check for check in cis.check(facts).checks if check.id == number)
    assert (found.verdict, found.evidence) == (Verdict.FAIL, (f"{bad.namespace}/bad",))
    assert cis.check(facts).compliant is False
    system = replace(GOOD, pods=(SAFE, replace(bad, namespace="kube-system")))
    assert verdicts(system)[number] is Verdict.PASS or number == "5.7.4"


@pytest.mark.parametrize(
    ("number", "field"),
    [("5.2.7", "may_be_root"), ("5.2.8", "drops_net_raw"), ("5.7.2", "seccomp"), ("5.4.1", "secret_in_environment")],
)
def test_what_was_not_collected_is_manual(number, field):
    assert verdicts(replace(GOOD, pods=(replace(SAFE, **{field: None}),)))[number] is Verdict.MANUAL


def test_tokens_are_for_a_person_to_judge():
    assert verdicts(replace(GOOD, pods=(replace(SAFE, mounts_token=True),)))["5.1.6"] is Verdict.MANUAL


def test_access_checks():
    admin = Binding("ops", "cluster-admin", ("User/bob",))
    built_in = Binding("cluster-admin", "cluster-admin", ("Group/system:masters",))
    wild = Role("all", ((("*",), ("*",)),), "shop")
    reader = Role("reader", ((("get",), ("secrets",)),))
    everyone = Binding("open", "reader", ("Group/system:authenticated",))
    assert verdicts(replace(GOOD, bindings=(built_in,)))["5.1.1"] is Verdict.PASS
    assert verdicts(replace(GOOD, bindings=(admin, built_in)))["5.1.1"] is Verdict.FAIL
    assert verdicts(replace(GOOD, roles=(wild,)))["5.1.3"] is Verdict.FAIL
    assert verdicts(replace(GOOD, roles=(replace(wild, name="system:x"),)))["5.1.3"] is Verdict.PASS
    assert verdicts(replace(GOOD, roles=(reader,)))["5.1.2"] is Verdict.MANUAL
    assert verdicts(replace(GOOD, roles=(reader,), bindings=(everyone,)))["5.1.2"] is Verdict.FAIL
    assert verdicts(replace(GOOD, roles=(reader,), bindings=(everyone,)))["5.1.4"] is Verdict.PASS


def test_namespaces_without_policies():
    facts = replace(GOOD, namespaces=("shop", "lab", "kube-system"))
    found = {check.id: check for check in cis.check(facts).checks}
    assert (found["5.3.2"].verdict, found["5.3.2"].evidence) == (Verdict.FAIL, ("lab",))
    assert found["5.2.1"].verdict is Verdict.MANUAL


def test_long_evidence_is_cut_and_counted():
    pods = tuple(replace(SAFE, name=f"p{i:02d}", privileged=True) for i in range(25))
    found = next(check for check in cis.check(replace(GOOD, pods=pods)).checks if check.id == "5.2.2")
    assert (len(found.evidence), found.more) == (20, 5)


# Trends ------------------------------------------------------------------------------------------------------------


def series(this_week: float, last_week: float, hours: int = 336):
    return [(NOW - timedelta(hours=n + 0.5), this_week if n < 168 else last_week) for n in range(hours)]


@pytest.mark.parametrize(
    ("this_week", "last_week", "direction", "change"),
    [
        (110, 100, Direction.UP, 0.1),
        (90, 100, Direction.DOWN, -0.1),
        (101, 100, Direction.FLAT, 0.01),
        (5, 0, Direction.UP, None),
        (0, 0, Direction.FLAT, None),
    ],
)
def test_arrows(this_week, last_week, direction, change):
    trend = week_over_week(series(this_week, last_week), NOW)
    assert trend.direction is direction
    assert trend.change == (None if change is None else pytest.approx(change))


def test_half_a_week_is_needed():
    assert week_over_week(series(5, 5, 168 + 83), NOW).direction is Direction.UNKNOWN
    assert week_over_week(series(5, 5, 168 + 84), NOW).direction is Direction.FLAT
    assert week_over_week([], NOW).direction is Direction.UNKNOWN


def test_a_burst_of_samples_does_not_outweigh_quiet_hours():
    burst = [(NOW - timedelta(seconds=n), 1000.0) for n in range(1, 3000)]
    trend = week_over_week([*series(100, 100), *burst], NOW)
    assert trend.change < 0.06


@settings(max_examples=200)
@example([(125, 0.0)], 24)  # on the border of a step that is no whole number of microseconds
@given(st.lists(st.tuples(st.integers(-100, 1200), st.floats(0, 100))), st.integers(1, 30))
def test_sparklines_equal_a_plain_count(points, count):
    data = [(NOW + timedelta(seconds=s), value) for s, value in points]
    line = sparkline(data, NOW, NOW + timedelta(seconds=1000), count)
    for index in range(count):
        inside = [v for s, v in points if 0 <= s < 1000 and index * 1000 <= s * count < (index + 1) * 1000]
        assert line[index] == (pytest.approx(sum(inside) / len(inside)) if inside else None)


def test_sparkline_limits():
    assert sparkline([(NOW, None)], NOW, NOW + timedelta(1), 2) == (None, None)
    with pytest.raises(ValueError, match="point"):
        sparkline([], NOW, NOW, 3)
    assert extremes([None, 3.0, 1.0]) == (1.0, 3.0)
    assert extremes([None]) is None
