"""Nodes for pods that wait: the cheapest or the safest within the template, and on-demand when spot is not to be had."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusters.analysis.facts import (
    ARCH,
    CAPACITY_TYPE,
    GIB,
    HOSTNAME,
    INSTANCE_TYPE,
    ZONE,
    Lifecycle,
    PodTerm,
    Requirement,
    Resources,
    Selector,
    Taint,
)
from clusters.analysis.packing import NodeOffer
from policies.engine.launching import Launches, Option, Refused, after_error, choose_launches
from policies.engine.odds import BANDS, Odds
from policies.engine.scheduler import Scheduler
from policies.engine.settings import Provisioning
from policies.engine.template import Template
from policies.enums import Purchasing, Strategy
from tests.clusters.analysis.fleets import ZONES
from tests.policies.engine.make import NOW, a_pod, facts_of, make_node

pytestmark = pytest.mark.unit
CHEAP = Provisioning(Strategy.LOWEST_PRICE)
DEEP = Provisioning(Strategy.CAPACITY_OPTIMIZED)
ANY = Template(purchasing=Purchasing.HYBRID)
SPOT, ON_DEMAND = Lifecycle.SPOT, Lifecycle.ON_DEMAND


def option(kind: str, price: str, vcpus: int = 4, lifecycle: Lifecycle = ON_DEMAND, **fields: object) -> Option:
    zone = str(fields.pop("zone", ZONES[0]))
    memory = int(fields.pop("memory_gib", vcpus * 4))
    odds = fields.pop("odds", None)
    labels = {INSTANCE_TYPE: kind, ARCH: str(fields.pop("arch", "amd64")), ZONE: zone, CAPACITY_TYPE: str(lifecycle)}
    offer = NodeOffer(
        kind, Resources(vcpus * 1000 - 80, memory * GIB), Decimal(price), 58, zone, lifecycle, labels, **fields
    )
    return Option(offer, vcpus, odds)


def choose(pods, options, settings_=CHEAP, template=ANY, nodes=(), **more) -> Launches:
    return choose_launches(facts_of(list(nodes), list(pods)), options, settings_, template, NOW, **more)


def types(found: Launches) -> list[str]:
    return [launch.option.offer.instance_type for launch in found.launches]


# Which one -----------------------------------------------------------------------------------------------------------


def test_lowest_price_takes_the_cheapest_per_vcpu_that_fits():
    options = [option("m5.xlarge", "0.192"), option("c5.xlarge", "0.17", memory_gib=8), option("m6g.xlarge", "0.154")]
    assert types(choose([a_pod("web-0", None, 3500, 4)], options)) == ["m6g.xlarge"]
    assert types(choose([a_pod("web-0", None, 3500, 12)], options[:2])) == ["m5.xlarge"]


def test_a_large_node_for_a_small_pod_does_not_win_by_its_price_per_vcpu():
    options = [option("m5.24xlarge", "0.96", 96), option("m5.large", "0.096", 2)]
    assert types(choose([a_pod("web-0", None, 1500)], options)) == ["m5.large"]
    many = [a_pod(f"web{i}-0", None, 1500) for i in range(50)]
    assert types(choose(many, options)) == ["m5.24xlarge"]


def test_capacity_optimized_takes_the_deepest_pool_that_is_little_dearer():
    shallow = option("a.xlarge", "0.10", lifecycle=SPOT, odds=Odds.published(">20%", 3))
    deep = option("b.xlarge", "0.105", lifecycle=SPOT, odds=Odds.published("<5%", 9))
    dear = option("c.xlarge", "0.15", lifecycle=SPOT, odds=Odds.published("<5%", 10))
    pods = [a_pod("web-0", None, 3000)]
    assert types(choose(pods, [shallow, deep, dear], DEEP)) == ["b.xlarge"]
    assert types(choose(pods, [shallow, deep, dear], CHEAP)) == ["a.xlarge"]
    (launch,) = choose(pods, [shallow, deep, dear], DEEP).launches
    assert [other.offer.instance_type for other in launch.alternatives] == ["a.xlarge", "c.xlarge"]
    assert types(choose(pods, [shallow, deep, dear], replace(DEEP, premium=Decimal(1)))) == ["c.xlarge"]


def test_what_happened_to_our_own_machines_outweighs_the_published_band():
    published = Odds.published("<5%")
    assert published.interruption == pytest.approx(BANDS["<5%"])
    bitten = published.observed(30, 40)
    assert bitten.interruption == pytest.approx((0.5 + 30) / (20 + 40))
    assert bitten.spread < 0.07 < bitten.interruption
    assert bitten.depth < published.depth
    assert Odds.published("no such band").interruption == pytest.approx(0.15)


@settings(deadline=None)
@given(st.integers(0, 50), st.floats(0, 500), st.sampled_from([*BANDS]), st.one_of(st.none(), st.integers(-3, 20)))
def test_odds_are_probabilities_and_more_interruptions_never_deepen_a_pool(taken, months, band, score):
    before = Odds.published(band, score)
    after = before.observed(taken, months)
    assert 0 <= after.interruption <= 1
    assert 0 <= after.depth <= 1
    assert after.observed(1, 1).depth <= after.depth


# What is honoured ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (Template(frozenset({"c5"})), "family m5 is not ticked"),
        (Template(excluded_sizes=frozenset({"xlarge"})), "size xlarge is excluded"),
        (Template(architectures=frozenset({"arm64"})), "architecture amd64 is not ticked"),
        (Template(zones=frozenset({"us-east-1f"})), "zone us-east-1a is not chosen"),
        (Template(purchasing=Purchasing.SPOT), "only spot is allowed"),
    ],
)
def test_nothing_outside_the_template_is_bought_and_the_reason_is_said(template, words):
    found = choose([a_pod("web-0", None)], [option("m5.xlarge", "0.192")], template=template)
    assert not found.launches
    assert found.refusals["default/web-0"].detail == f"m5.xlarge: {words}"


def test_a_pod_that_fits_nowhere_says_what_it_needs():
    found = choose([a_pod("web-0", None, 64_000)], [option("m5.xlarge", "0.192")])
    assert found.refusals["default/web-0"].words == "no allowed node would hold it (64000m CPU, 1024 MiB)"


def test_room_that_is_there_is_used_first():
    found = choose([a_pod("web-0", None)], [option("m5.xlarge", "0.192")], nodes=[make_node("a")])
    assert not found.launches
    assert found.placeable == ("default/web-0",)


def test_zones_taints_and_anti_affinity_are_honoured():
    options = [
        option("m5.xlarge", "0.10", taints=(Taint("gpu"),)),
        option("m5.xlarge", "0.12", zone=ZONES[1]),
        option("m5.xlarge", "0.14"),
    ]
    zonal = a_pod("db-0", None, zones=frozenset({ZONES[0]}))
    (launch,) = choose([zonal], options).launches
    assert launch.option.offer.hourly_price == Decimal("0.14")
    apart = (PodTerm(Selector.of(app="web"), HOSTNAME),)
    pods = [a_pod(f"web-{i}", None, 500, pod_anti_affinity=apart) for i in range(3)]
    assert len(choose(pods, options[1:]).launches) == 3


def test_a_new_node_has_room_for_its_daemonsets():
    nodes = [make_node("a", "m6i.large", unschedulable=True)]
    daemon = a_pod("logs-a", "a", 900, daemonset=True, owner="DaemonSet", workload="default/DaemonSet/logs")
    options = [option("m5.large", "0.09", 2), option("m5.xlarge", "0.19")]
    assert types(choose([daemon, a_pod("web-0", None, 1500)], options, nodes=nodes)) == ["m5.xlarge"]


def test_hybrid_gives_data_on_demand_and_the_rest_spot():
    options = [option("m5.xlarge", "0.19"), option("m5.xlarge", "0.06", lifecycle=SPOT)]
    pods = [a_pod("db-0", None, owner="StatefulSet"), a_pod("web-0", None)]
    found = choose(pods, options)
    assert {launch.pods: launch.option.offer.lifecycle for launch in found.launches} == {
        ("default/db-0",): ON_DEMAND,
        ("default/web-0",): SPOT,
    }


def test_a_hold_buys_nothing():
    found = choose([a_pod("web-0", None)], [option("m5.xlarge", "0.192")], hold="hibernating")
    assert not found.launches
    assert str(found.refusals["default/web-0"].reason) == "held"


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(50, 9000), st.sampled_from((0.5, 1, 4, 16)), st.booleans()), min_size=1, max_size=25
    ),
    st.sampled_from([*Strategy]),
)
def test_every_pod_is_on_one_launch_that_really_holds_it_or_has_a_reason(sizes, strategy):
    apart = (PodTerm(Selector.of(app="web"), HOSTNAME),)
    pods = [
        a_pod(f"web-{i}", None, cpu, memory, pod_anti_affinity=apart if alone else ())
        for i, (cpu, memory, alone) in enumerate(sizes)
    ]
    options = [option("m5.xlarge", "0.19"), option("m5.2xlarge", "0.38", 8), option("r5.xlarge", "0.25", memory_gib=32)]
    found = choose(pods, options, Provisioning(strategy))
    launched = [key for launch in found.launches for key in launch.pods]
    assert sorted([*launched, *found.refusals]) == sorted(pod.key for pod in pods)
    cluster, by_key = Scheduler(facts_of([], [])), {pod.key: pod for pod in pods}
    for index, launch in enumerate(found.launches):
        name = f"n{index}"
        cluster.add_with_daemons(launch.option.offer.as_node(name))
        for key in launch.pods:
            assert cluster.takes(by_key[key], name)
            cluster.bind(by_key[key], name)


def test_a_whole_catalogue_is_chosen_from_in_the_time_of_a_reaction():
    """Within 2 s (5 s on a machine with other work): 6,000 offerings, 100 pods."""
    options = [
        option(f"f{i}.{size}", str(size * 0.05 * (1 + i / 500)), size, lifecycle, zone=zone)
        for i in range(167)
        for size in (2, 4, 8, 16, 32, 64)
        for lifecycle in (SPOT, ON_DEMAND)
        for zone in ZONES
    ]
    pods = [a_pod(f"web{i}-0", None, 300 + 37 * i % 2000) for i in range(100)]
    began = time.process_time()
    found = choose(pods, options, DEEP)
    assert not found.refusals
    assert time.process_time() - began < 5


# When the cloud refuses ----------------------------------------------------------------------------------------------


def test_without_spot_capacity_on_demand_is_bought_at_once():
    spot, on_demand = option("m5.xlarge", "0.06", lifecycle=SPOT), option("m5.xlarge", "0.19")
    pods, template = [a_pod("web-0", None)], Template(purchasing=Purchasing.SPOT)
    (first,) = choose(pods, [spot, on_demand], template=template).launches
    assert first.option is spot
    again = after_error("InsufficientInstanceCapacity", spot, CHEAP, NOW)
    assert again.fallen_back
    (second,) = choose(
        pods, [spot, on_demand], template=template, no_capacity=again.no_capacity, fallen_back=again.fallen_back
    ).launches
    assert second.option is on_demand
    assert "spot was not to be had" in second.because


def test_without_fallback_the_next_spot_pool_is_tried_and_then_it_waits():
    one, two = option("a.xlarge", "0.06", lifecycle=SPOT), option("b.xlarge", "0.07", lifecycle=SPOT)
    chosen = replace(CHEAP, fall_back=False)
    pods, template = [a_pod("web-0", None)], Template(purchasing=Purchasing.SPOT)
    again = after_error("InsufficientInstanceCapacity", one, chosen, NOW)
    assert not again.fallen_back
    assert types(choose(pods, [one, two], chosen, template, no_capacity=again.no_capacity)) == ["b.xlarge"]
    again = after_error("InsufficientInstanceCapacity", two, chosen, NOW, no_capacity=again.no_capacity)
    found = choose(pods, [one, two], chosen, template, no_capacity=again.no_capacity)
    assert str(found.refusals["default/web-0"].reason) == "no_capacity"
    later = after_error("Throttling", two, chosen, NOW + timedelta(minutes=5), no_capacity=again.no_capacity)
    assert later.wait
    assert not later.no_capacity


def test_a_pod_for_spot_only_waits_for_spot():
    spot_only = a_pod("ci-0", None, node_selector=Selector((Requirement(CAPACITY_TYPE, "In", ("spot",)),)))
    spot, on_demand = option("m5.xlarge", "0.06", lifecycle=SPOT), option("m5.xlarge", "0.19")
    again = after_error("InsufficientInstanceCapacity", spot, CHEAP, NOW)
    found = choose([spot_only], [spot, on_demand], no_capacity=again.no_capacity, fallen_back=True)
    assert not found.launches
    assert str(found.refusals["default/ci-0"].reason) == "takes_spot_only"


def test_a_spot_quota_closes_all_of_spot_and_other_errors_are_said():
    spots = [option(f"{kind}.xlarge", "0.06", lifecycle=SPOT) for kind in "abc"]
    again = after_error("MaxSpotInstanceCountExceeded", spots[0], CHEAP, NOW, options=spots)
    assert again.kind is Refused.SPOT_QUOTA
    assert set(again.no_capacity) == {spot.key for spot in spots}
    assert (
        after_error("UnauthorizedOperation", spots[0], CHEAP, NOW).give_up == "the cloud answered UnauthorizedOperation"
    )
