"""A template placed and given back: exactly as it was, whatever the rules were in between and whoever changed it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusters.inventory.placement import FIELDS, MARK, Rules
from policies.placement.templates import MANAGER, RESTORE, Memory, judge
from tests.fakes.kube import FakeKube
from tests.fakes.kube_patch import apply, merge_patch, own

pytestmark = pytest.mark.unit
SPOT = (("karpenter.sh/capacity-type", "spot"),)
FORCE = Rules(version=1, strategy="force", spot=SPOT, tolerations=(("spot", "true", "NoSchedule"),))
ALL = Rules(version=1, strategy="force", spot=SPOT, block_burstable=True, burstable=("t3.large",), spread=True)
CHOICES = (
    Rules(),
    FORCE,
    ALL,
    Rules(version=1, strategy="prefer", spot=(*SPOT, ("b", "c"))),
    Rules(version=1, spread=True),
    Rules(version=1, block_burstable=True, burstable=("t3.large",)),
    Rules(version=1, strategy="force", spot=SPOT, exempt_namespaces=frozenset({"shop"})),
)


def workload(spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a"}], **(spec or {})}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "resourceVersion": "7", **metadata},
        "spec": {"replicas": 2, "template": template},
    }


def step(rules: Rules, obj: dict[str, Any], known: Memory | None = None, **how: Any) -> dict[str, Any]:
    """What the API server holds after a sync."""
    wanted = judge(rules, obj, "Deployment", known=known, **how)
    if not wanted.body:
        return obj
    assert wanted.body["metadata"]["resourceVersion"] == obj["metadata"]["resourceVersion"]
    if wanted.merged:
        made = merge_patch(obj, wanted.body)
        own(obj, made, "curfew")
    else:
        made = apply(obj, wanted.body, MANAGER, force=True)
    assert not judge(rules, made, "Deployment", **how).body, "a second look changes nothing"
    return made


def plain(obj: dict[str, Any]) -> dict[str, Any]:
    made = copy.deepcopy(obj)
    made["metadata"].pop("managedFields", None)
    return made


def test_placed_with_its_memory_in_the_same_request_and_given_back() -> None:
    before = workload({"nodeSelector": {"disk": "ssd"}})
    body = judge(FORCE, before, "Deployment").body
    assert body["spec"]["template"]["spec"]["nodeSelector"] == {"disk": "ssd", **dict(SPOT)}
    assert json.loads(body["metadata"]["annotations"][RESTORE])["saved"] == {"nodeSelector": {"disk": "ssd"}}
    assert json.loads(body["metadata"]["annotations"][RESTORE])["unset"] == ["tolerations"]
    placed = step(FORCE, before)
    assert placed["spec"]["template"]["metadata"]["annotations"] == {MARK: "force-spot"}
    assert plain(step(Rules(), placed)) == before


def test_a_stripped_annotation_is_no_loss_the_database_remembers() -> None:
    before = workload({"nodeSelector": {"disk": "ssd"}})
    wanted = judge(FORCE, before, "Deployment")
    placed = step(FORCE, before)
    del placed["metadata"]["annotations"]
    restored = step(Rules(), placed, Memory.read(wanted.memory.values()) if wanted.memory else None)
    assert plain(restored) == before


def test_what_somebody_else_put_in_meanwhile_stays() -> None:
    placed = step(FORCE, workload({"nodeSelector": {"disk": "ssd"}}))
    placed["spec"]["template"]["spec"]["nodeSelector"]["gpu"] = "yes"
    placed["spec"]["template"]["spec"]["tolerations"].append({"key": "mine", "operator": "Exists"})
    wanted = judge(Rules(), placed, "Deployment")
    assert set(wanted.kept) == {"nodeSelector", "tolerations"}
    spec = step(Rules(), placed)["spec"]["template"]["spec"]
    assert spec["nodeSelector"] == {"disk": "ssd", "gpu": "yes"}
    assert spec["tolerations"] == [{"key": "mine", "operator": "Exists"}]


def test_a_change_taken_back_is_noticed() -> None:
    before = workload()
    wanted = judge(FORCE, before, "Deployment")
    assert judge(FORCE, before, "Deployment", known=wanted.memory).reverted
    assert not judge(FORCE, step(FORCE, before), "Deployment", known=wanted.memory).reverted


def test_its_own_labels_exempt_a_workload() -> None:
    rules = Rules(version=1, strategy="force", spot=SPOT, exempt_labels=(("tier", "db"),))
    assert judge(rules, workload(labels={"tier": "db"}), "Deployment").placed.exempt
    placed = step(rules, workload())
    assert "nodeSelector" in placed["spec"]["template"]["spec"]
    placed["metadata"]["labels"] = {"tier": "db"}
    assert "nodeSelector" not in step(rules, placed)["spec"]["template"]["spec"], "exempt later: given back"


SPECS = st.fixed_dictionaries(
    {},
    optional={
        "nodeSelector": st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), max_size=2),
        "tolerations": st.lists(st.sampled_from([{"key": "k", "operator": "Exists"}, {"operator": "Exists"}]), max_size=2),
        "affinity": st.sampled_from(
            [
                {},
                {"podAffinity": {}},
                {"nodeAffinity": {}},
                {
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {
                            "nodeSelectorTerms": [
                                {"matchExpressions": [{"key": "a", "operator": "Exists"}]},
                                {"matchExpressions": [{"key": "b", "operator": "In", "values": ["c"]}]},
                            ]
                        }
                    }
                },
            ]
        ),
        "topologySpreadConstraints": st.sampled_from(
            [[], [{"topologyKey": "kubernetes.io/hostname", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}]]
        ),
    },
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    spec=SPECS,
    rules=st.lists(st.tuples(st.sampled_from(CHOICES), st.booleans()), min_size=1, max_size=5),
    notes=st.sampled_from([None, {"team": "shop"}]),
)
def test_any_rules_in_any_order_leave_no_trace(
    spec: dict[str, Any], rules: list[tuple[Rules, bool]], notes: Any
) -> None:
    before = workload(spec, **({"annotations": dict(notes)} if notes else {}))
    now = copy.deepcopy(before)
    own({"metadata": {}}, now, "helm")  # whoever made it
    for one, soft in rules:
        now = step(one, now, soft=soft)
    after = plain(step(Rules(), now))
    assert {k: v for k, v in after["spec"]["template"]["spec"].items() if k in FIELDS} == spec
    assert after == before


def test_the_fake_api_server_agrees() -> None:
    """Server-side apply as the fake API server does it, over its store."""
    with FakeKube() as kube:
        obj = workload({"nodeSelector": {"disk": "ssd"}})
        del obj["metadata"]["resourceVersion"]
        stored = kube.create(obj)
        made = step(ALL, stored)
        owners = {entry["manager"] for entry in made["metadata"]["managedFields"]}
        assert MANAGER in owners
