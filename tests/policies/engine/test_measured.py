"""Short forms of bench/policies_consolidation.py: bound, ranking, published scenario, real requests, no ladder."""

from __future__ import annotations

import pytest

from bench.policies_consolidation import (
    ALL,
    SEEDS,
    best_savings,
    carried_out,
    ladder_run,
    settings,
    until_quiet,
    within,
)
from bench.policies_karpenter import Karpenter
from bench.policies_scenarios import govuk, karpenter_scenario, machine_offers
from clusters.analysis.packing import offers_for
from policies.engine.consolidation import consolidate
from policies.engine.launching import Option, choose_launches
from policies.engine.replay import replay
from policies.engine.settings import Provisioning
from policies.engine.template import Template
from policies.enums import Purchasing
from tests.clusters.analysis.fleets import PRICES, TYPES, make_fleet
from tests.policies.engine.make import NOW, facts_of

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def published():
    if not machine_offers():
        pytest.skip("no shared data; set CURFEW_SHARED_DATA to the folder that holds it")
    return karpenter_scenario(300)


def test_savings_stay_below_the_bound_and_not_far_below():
    facts = make_fleet(40, 1, rules=False)
    offers = offers_for(facts.nodes, TYPES, PRICES)
    most = best_savings(facts, offers, set())
    saved, _, lost = until_quiet(facts, offers, settings(threshold=ALL))
    assert 0.75 * most < saved[-1] <= most
    assert lost == 0


def test_with_a_quarter_of_the_disruption_as_much_is_saved_as_by_karpenters_ranking():
    facts = make_fleet(40, 1)
    offers = offers_for(facts.nodes, TYPES, PRICES)
    peer = Karpenter(facts, list(offers), balanced=True, share=0.25)
    peer.run()
    assert peer.curve[-1][1] > 0
    assert within(facts, offers, ALL, 0.25) >= peer.curve[-1][1]


def test_karpenters_published_scenario_leaves_no_pod_without_a_place(published):
    facts, offers = published
    plan = consolidate(facts, settings(), NOW, offers=offers)
    assert plan.savings_hourly > 0
    assert carried_out(facts, plan, offers).unschedulable == []
    for seed in SEEDS:
        assert replay(facts, plan.actions, seed, look_again=True).unschedulable == []


def test_real_requests_get_nodes(published):
    _, offers = published
    options = [Option(offer, -(-offer.allocatable.cpu_milli // 1000)) for offer in offers]
    pods = govuk()
    found = choose_launches(facts_of([], pods), options, Provisioning(), Template(purchasing=Purchasing.ON_DEMAND), NOW)
    assert not found.refusals
    assert sum(len(launch.pods) for launch in found.launches) == len(pods)


def test_wobbling_prices_make_no_ladder():
    quiet, loose = ladder_run(8, gates=True, nodes=14), ladder_run(8, gates=False, nodes=14)
    assert quiet["most_replacements_of_a_pod"] <= 4
    assert loose["most_replacements_of_a_pod"] > quiet["most_replacements_of_a_pod"]
    assert quiet["unschedulable"] == loose["unschedulable"] == 0
