"""What the placement card says while it is edited: the rules themselves, on each workload's template. Pure."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from clusters.analysis.facts import ClusterFacts
from clusters.analysis.spot_readiness import Readiness, SpotReadiness
from policies.document import Document
from policies.impact import Impact, Situation, placement
from policies.placement.reported import templated

SPOT = {"karpenter.sh/capacity-type": "spot"}
TABLES: dict[str, dict[str, Any]] = {
    "specs": {
        "plain": {"labels": {"app": "web"}},
        "chosen": {"labels": {"app": "batch"}, "node_selector": SPOT},
        "stateful": {"labels": {"app": "db"}, "claims": ["data"]},
    },
    "workloads": {
        f"{kind}/{space}/{name}": {"kind": kind, "namespace": space, "name": name, "template": spec}
        for kind, space, name, spec in (
            ("Deployment", "shop", "web", "plain"),
            ("Deployment", "shop", "batch", "chosen"),
            ("StatefulSet", "shop", "db", "stateful"),
            ("Deployment", "pay", "ledger", "plain"),
            ("Deployment", "kube-system", "coredns", "plain"),
            ("DaemonSet", "shop", "logs", "plain"),
        )
    },
    "nodes": {
        name: {"name": name, "zone": f"eu-west-1{name}", "lifecycle": kind, "instance_type": size, "labels": labels}
        for name, kind, size, labels in (
            ("a", "on-demand", "t3.large", {}),
            ("b", "spot", "m5.large", SPOT),
        )
    },
}


def ready(key: str, saves: str | None) -> Readiness:
    saved = Decimal(saves) if saves else None
    return Readiness(key, key.split("/")[1], saves is not None, (), 2, 0, Decimal(1), saved)


SPOTTED = SpotReadiness(
    0.5,
    "cost",
    (ready("shop/Deployment/web", "40"), ready("pay/Deployment/ledger", "25"), ready("shop/StatefulSet/db", None)),
    Decimal(65),
    (),
    (),
    None,
)
HERE = Situation(
    "lark",
    ClusterFacts(),
    None,
    SPOTTED,
    workloads=tuple(templated(TABLES)),
    nodes=tuple(TABLES["nodes"].values()),
)


def said(situation: Situation = HERE, exempt: list[str] | None = None, **card: Any) -> Impact:
    document = Document.from_json({"placement": card, "exemptions": {"namespaces": exempt or []}})
    return placement(document, situation)


def test_what_would_move_is_counted_and_only_what_is_ready_saves() -> None:
    found = said(spot="force")
    assert found.words == "3 of 4 workloads would run on spot only", "batch chose spot itself; the system is left alone"
    assert found.monthly == Decimal(65)
    assert found.notes == ("not ready for spot, so nothing is counted: 1 of these",)
    assert said(spot="prefer").words == "3 of 4 workloads would prefer spot"


def test_what_is_exempt_moves_nothing_and_saves_nothing() -> None:
    found = said(spot="force", exempt=["pay"])
    assert (found.words, found.monthly) == ("2 of 3 workloads would run on spot only", Decimal(40))


def test_a_rule_that_cannot_be_kept_says_why_and_saves_nothing() -> None:
    here = replace(HERE, nodes=(TABLES["nodes"]["a"],))
    found = said(here, spot="force", block_burstable=True, spread_zones=True)
    assert found.words == "Nothing: no rule of it can be kept here"
    assert found.monthly == 0
    assert [note.split(":")[0] for note in found.notes] == [
        "No node of this cluster is spot and no Karpenter pool may launch spot",
        "Every node of this cluster is burstable",
        "Its nodes are in one zone",
    ]


def test_burstable_machines_and_zones() -> None:
    found = said(block_burstable=True, spread_zones=True)
    assert found.words.startswith("4 would be kept off burstable machines")
    assert "4 would be spread over zones" in found.words
    assert found.monthly == 0


def test_unknown_prices_are_not_zero() -> None:
    unknown = replace(SPOTTED, workloads=(ready("shop/StatefulSet/db", None),), unknown_prices=("m5.large in a",))
    assert said(replace(HERE, spot=unknown), spot="force").monthly is None
