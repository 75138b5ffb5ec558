"""Rules that a cluster can keep: composed from what its nodes say."""

from __future__ import annotations

from typing import Any

import pytest

from policies.document import Exemptions, Placement
from policies.enums import SpotPreference
from policies.placement.compose import compose, is_burstable, markers

pytestmark = pytest.mark.unit
KARPENTER = {"karpenter.sh/capacity-type": "spot"}
EKS = {"eks.amazonaws.com/capacityType": "SPOT"}
ALL = Placement(SpotPreference.FORCE, block_burstable=True, spread_zones=True)


def node(
    labels: dict[str, str] | None = None, *, type_: str = "m5.large", zone: str = "a", taints: Any = ()
) -> dict[str, Any]:
    return {
        "labels": labels or {},
        "lifecycle": "spot" if labels else "on-demand",
        "instance_type": type_,
        "zone": zone,
        "taints": taints,
    }


def test_the_fewest_labels_that_find_every_spot_node() -> None:
    both = {**KARPENTER, "lifecycle": "spot"}
    assert markers([node(both), node({**EKS, "lifecycle": "spot"})]) == [("lifecycle", "spot")]
    assert markers([node(KARPENTER), node(EKS)]) == [*EKS.items(), *KARPENTER.items()]
    assert markers([node({"cloud.google.com/gke-spot": "true"})]) == [("cloud.google.com/gke-spot", "true")]
    pool = {"requirements": [{"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot", "on-demand"]}]}
    assert markers([node()], [pool]) == list(KARPENTER.items())
    assert markers([node()], [{"requirements": [{**pool["requirements"][0], "values": ["on-demand"]}]}]) == []


def test_what_nothing_could_meet_is_left_out_and_said() -> None:
    found = compose(ALL, Exemptions(), [node(type_="t3.large"), node(type_="t3a.medium")], cloud="aws")
    assert found.rules.idle
    assert len(found.notes) == 3
    assert compose(ALL, Exemptions(), []).rules.idle, "of a cluster that has not reported nothing is known"


def test_spot_nodes_that_no_label_names_are_said_to_be_there() -> None:
    nameless = {**node(), "lifecycle": "spot"}
    (note,) = compose(Placement(spot=SpotPreference.FORCE), Exemptions(), [nameless]).notes
    assert note.startswith("Its spot nodes carry no label that says so")


def test_a_whole_set_of_rules() -> None:
    spot_taint = {"key": "spotInstance", "value": "true", "effect": "NoSchedule"}
    own = {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}
    real = {"key": "spot", "value": "true", "effect": "NoSchedule"}
    nodes = [node(EKS, zone="a", taints=[spot_taint, own, real]), node(zone="b", type_="t9z.large")]
    found = compose(ALL, Exemptions(("pay",), (("tier", "db"),)), nodes, cloud="aws", fallback_minutes=7)
    rules = found.rules
    assert found.notes == ()
    assert (rules.strategy, rules.spread, rules.fallback_minutes) == ("force", True, 7)
    assert rules.tolerations == (("spot", "true", "NoSchedule"),), "a taint that means something else is not tolerated"
    assert {"t3.large", "t4g.nano", "t9z.large"} <= set(rules.burstable)
    assert (rules.exempt_namespaces, rules.exempt_labels) == ({"pay"}, (("tier", "db"),))


def test_nodes_that_come_and_go_change_no_rule() -> None:
    nodes = [node(EKS, zone="a"), node(zone="b", type_="t9z.large")]
    first = compose(ALL, Exemptions(), nodes, cloud="aws").rules
    assert compose(ALL, Exemptions(), [node(zone="b")], cloud="aws", known=first).rules == first
    other = compose(ALL, Exemptions(), [node(KARPENTER), node(zone="b")], cloud="aws", known=first).rules
    assert other.spot == tuple(KARPENTER.items()), "another kind of spot node is another rule"


@pytest.mark.parametrize(
    ("name", "burstable"),
    [("t3.large", True), ("t4g.micro", True), ("trn1.2xlarge", False), ("m5.large", False), ("e2-medium", True),
     ("e2-standard-4", False), ("Standard_B2ms", True), ("Standard_D4s_v5", False), ("", False)],
)  # fmt: skip
def test_burstable_by_name(name: str, burstable: bool) -> None:
    assert is_burstable(name) is burstable
