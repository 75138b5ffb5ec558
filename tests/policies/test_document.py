"""The document of a policy: what is accepted, what is refused and how that is said."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from policies.document import Budget, Document, Exemptions, InvalidDocument
from policies.enums import Level, Reason

pytestmark = pytest.mark.unit


def test_an_empty_document_has_the_defaults_of_the_specification() -> None:
    document = Document.from_json({})
    assert document == Document()
    assert not document.autoscaling.enabled
    assert document.autoscaling.on_demand_fallback
    assert document.consolidation.level is Level.BALANCED
    assert document.consolidation.threshold_percent == 50
    assert document.rightsizing.headroom_percent == 20
    assert document.rightsizing.minimum_monthly == Decimal(10)
    assert not document.placement.active


def test_what_is_written_reads_the_same() -> None:
    data = {
        "autoscaling": {
            "enabled": True,
            "strategy": "lowest_price",
            "template": "0f8fad5b-d9cb-469f-a165-70867728950e",
        },
        "consolidation": {
            "enabled": True,
            "level": "aggressive",
            "method": "replace_and_move",
            "zone": "Europe/Berlin",
            "budgets": [
                {"nodes": "0", "schedule": "0 9 * * 1-5", "minutes": 480, "reasons": ["underutilized"]},
                {"nodes": 3},
            ],
        },
        "rightsizing": {"mode": "apply", "profile": "vpa", "minimum_monthly": "12.50"},
        "placement": {"spot": "prefer", "spread_zones": True},
        "exemptions": {"namespaces": ["billing"], "labels": [{"key": "karpenter.sh/do-not-evict", "value": "true"}]},
    }
    document = Document.from_json(data)
    assert Document.from_json(document.to_json()) == document
    assert document.consolidation.budgets == (
        Budget("0", "0 9 * * 1-5", 480, (Reason.UNDERUTILIZED,)),
        Budget("3"),
    )
    assert document.rightsizing.minimum_monthly == Decimal("12.5")


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (None, "document"),
        ({"autoscalling": {}}, "document.autoscalling"),
        ({"autoscaling": []}, "autoscaling"),
        ({"autoscaling": {"enabled": "yes"}}, "autoscaling.enabled"),
        ({"autoscaling": {"template": "General"}}, "autoscaling.template"),
        ({"consolidation": {"level": "reckless"}}, "consolidation.level"),
        ({"consolidation": {"level": ["balanced"]}}, "consolidation.level"),
        ({"consolidation": {"zone": "Berlin"}}, "consolidation.zone"),
        ({"consolidation": {"zone": "../etc/passwd"}}, "consolidation.zone"),
        ({"consolidation": {"stabilization_minutes": 1.5}}, "consolidation.stabilization_minutes"),
        ({"consolidation": {"stabilization_minutes": True}}, "consolidation.stabilization_minutes"),
        ({"consolidation": {"max_new_nodes": 2}}, "consolidation.max_new_nodes"),
        ({"consolidation": {"budgets": [{"nodes": "101%"}]}}, "consolidation.budgets.0.nodes"),
        ({"consolidation": {"budgets": [{"nodes": "1", "schedule": "0 9 * *", "minutes": 5}]}},
         "consolidation.budgets.0.schedule"),
        ({"consolidation": {"budgets": [{"nodes": "1", "schedule": "0 9 * * *"}]}}, "consolidation.budgets.0.minutes"),
        ({"consolidation": {"budgets": [{"nodes": "1", "minutes": 5}]}}, "consolidation.budgets.0.schedule"),
        ({"consolidation": {"budgets": [{"nodes": "1", "reasons": ["boredom"]}]}}, "consolidation.budgets.0.reasons"),
        ({"rightsizing": {"headroom_percent": 9}}, "rightsizing.headroom_percent"),
        ({"rightsizing": {"headroom_percent": 51}}, "rightsizing.headroom_percent"),
        ({"rightsizing": {"minimum_monthly": "NaN"}}, "rightsizing.minimum_monthly"),
        ({"rightsizing": {"minimum_monthly": -1}}, "rightsizing.minimum_monthly"),
        ({"exemptions": {"namespaces": ["No Such"]}}, "exemptions.namespaces"),
        ({"exemptions": {"labels": [{"key": "a b", "value": ""}]}}, "exemptions.labels"),
        ({"exemptions": {"labels": [{"key": "a", "value": "x" * 64}]}}, "exemptions.labels"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(data: Any, path: str) -> None:
    with pytest.raises(InvalidDocument) as refused:
        Document.from_json(data)
    assert list(refused.value.errors) == [path]


def test_the_network_and_dns_are_exempt_whatever_the_document_says() -> None:
    none = Exemptions()
    assert none.reason("kube-system")
    assert none.reason("networking", name="cilium")
    assert not none.reason("shop", {"app": "web"}, "web")
    some = Exemptions(("billing",), (("tier", ""), ("env", "critical")))
    assert some.reason("billing") == "namespace billing is exempt"
    assert some.reason("shop", {"tier": "db"}) == "label tier=db is exempt"
    assert not some.reason("shop", {"env": "dev"})
    # What the placement webhook leaves alone by itself, no other card touches either.
    assert none.reason("shop", {"curfew.dev/unmanaged": "true"}) == "it carries the label curfew.dev/unmanaged"
    assert not none.reason("shop", {"curfew.dev/unmanaged": "false"})
    assert none.reason("cert-manager")
    assert none.reason("addons", {"app.kubernetes.io/name": "karpenter"})
