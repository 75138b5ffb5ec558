"""What a plan says about nodes that it cannot make leave. Pure."""

from __future__ import annotations

import pytest

from clusters.sleeping.plan import plan
from clusters.sleeping.world import Scope, World

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("label", "provider", "why", "note"),
    [
        ("kubernetes.azure.com/agentpool", "azure:///vm/1", "the AKS agent pool spare", "1 node of the AKS agent pool"),
        ("cloud.google.com/gke-nodepool", "gce://p/z/vm", "the GKE node pool spare", "1 node of the GKE node pool"),
        ("team", "aws:///eu-west-1a/i-1", "no Auto Scaling group or EKS node group", "connect the cloud account"),
        ("team", "", "does not know what keeps", "connect the cloud account"),
    ],
)
def test_nodes_that_nobody_makes_leave_are_named_with_the_reason(
    label: str, provider: str, why: str, note: str
) -> None:
    machine = {
        "kind": "Node",
        "metadata": {"name": "n1", "labels": {label: "spare"}},
        "spec": {"providerID": provider},
    }
    found = plan(World({"Node": [machine]}), Scope())
    assert [why in kept.reason.words for kept in found.kept if kept.what.endswith("n1")] == [True]
    assert note in found.notes[0]
