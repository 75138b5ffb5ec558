"""The placement rules alone: what they change, what they leave, that a second time changes nothing."""

from __future__ import annotations

import copy
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.cluster.webhook.review import LARGEST, judge
from agent.wire import placement
from agent.wire.placement import INSTANCE_TYPE, MARK, ZONE, BadRules, Rules, place, read, steps
from tests.fakes.kube_patch import json_patch

pytestmark = pytest.mark.unit
SPOT = (("karpenter.sh/capacity-type", "spot"),)
TWO = (*SPOT, ("eks.amazonaws.com/capacityType", "SPOT"))
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
TYPES = ("t3.medium", "t3.large")
FORCE = Rules(version=1, strategy="force", spot=SPOT)
PREFER = Rules(version=1, strategy="prefer", spot=SPOT)
BLOCK = Rules(version=1, block_burstable=True, burstable=TYPES)
SPREAD = Rules(version=1, spread=True)
ALL = Rules(version=1, strategy="force", spot=TWO, block_burstable=True, burstable=TYPES, spread=True)
OWNER = [{"kind": "ReplicaSet", "name": "web-5d", "controller": True, "uid": "u"}]


def pod(spec: dict[str, Any] | None = None, owners: Any = OWNER, **metadata: Any) -> dict[str, Any]:
    labels = metadata.pop("labels", {"app": "web", "pod-template-hash": "5d"})
    return {
        "metadata": {"labels": labels, "ownerReferences": owners, **metadata},
        "spec": {"containers": [{"name": "web", "image": "web:1"}], **(spec or {})},
    }


def after(rules: Rules, one: dict[str, Any], namespace: str = "shop", **how: Any) -> dict[str, Any]:
    return json_patch(one, steps(one, place(rules, namespace, one, **how)))


def required(one: dict[str, Any]) -> list[dict[str, Any]]:
    node = one["spec"]["affinity"]["nodeAffinity"]
    return list(node["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"])


def preferred(one: dict[str, Any]) -> list[dict[str, Any]]:
    return list(one["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"])


def test_force_spot_is_a_node_selector_where_one_label_marks_spot() -> None:
    assert steps(pod(), place(FORCE, "shop", pod())) == [
        {"op": "add", "path": "/spec/nodeSelector", "value": dict(SPOT)},
        {"op": "add", "path": "/metadata/annotations", "value": {MARK: "force-spot"}},
    ]
    mine = pod({"nodeSelector": {"disk": "ssd"}}, annotations={"a": "b"})
    assert steps(mine, place(FORCE, "shop", mine)) == [
        {"op": "add", "path": "/spec/nodeSelector/karpenter.sh~1capacity-type", "value": "spot"},
        {"op": "add", "path": "/metadata/annotations/curfew.dev~1placement", "value": "force-spot"},
    ]


def test_force_spot_is_any_of_several_labels_and_keeps_what_the_pod_requires() -> None:
    arm = {"key": "kubernetes.io/arch", "operator": "In", "values": ["arm64"]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [arm]}]}
    mine = pod({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}})
    found = required(after(Rules(version=1, strategy="force", spot=TWO), mine))
    assert [term["matchExpressions"] for term in found] == [
        [arm, {"key": key, "operator": "In", "values": [value]}] for key, value in TWO
    ]


def test_prefer_spot_is_a_wish_and_tolerates_spot_taints() -> None:
    rules = Rules(version=1, strategy="prefer", spot=SPOT, tolerations=(("spot", "true", "NoSchedule"),))
    found = after(rules, pod({"tolerations": [{"key": "x", "operator": "Exists"}]}))
    assert preferred(found) == [
        {"weight": 100, "preference": {"matchExpressions": [{"key": SPOT[0][0], "operator": "In", "values": ["spot"]}]}}
    ]
    assert found["spec"]["tolerations"] == [
        {"key": "x", "operator": "Exists"},
        {"key": "spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"},
    ]
    assert found["metadata"]["annotations"] == {MARK: "prefer-spot"}


def test_no_burstable_joins_every_term_that_the_pod_has() -> None:
    a, b = ({"matchExpressions": [{"key": k, "operator": "Exists"}]} for k in "ab")
    terms = {"nodeSelectorTerms": [a, b]}
    mine = pod({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}})
    wanted = {"key": INSTANCE_TYPE, "operator": "NotIn", "values": list(TYPES)}
    assert [t["matchExpressions"] for t in required(after(BLOCK, mine))] == [
        [*a["matchExpressions"], wanted],
        [*b["matchExpressions"], wanted],
    ]


def test_zones_are_spread_by_the_labels_of_all_versions() -> None:
    (one,) = after(SPREAD, pod())["spec"]["topologySpreadConstraints"]
    assert one == {
        "maxSkew": 1,
        "topologyKey": ZONE,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }
    bound = pod({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]})
    assert after(SPREAD, bound)["spec"]["topologySpreadConstraints"][0]["whenUnsatisfiable"] == "ScheduleAnyway"


@pytest.mark.parametrize(
    ("spec", "rules"),
    [
        ({"nodeSelector": {"karpenter.sh/capacity-type": "on-demand"}}, FORCE),
        ({"nodeSelector": {"eks.amazonaws.com/capacityType": "ON_DEMAND"}}, PREFER),
        ({"nodeSelector": {INSTANCE_TYPE: "t3.medium"}}, BLOCK),
        ({"topologySpreadConstraints": [{"topologyKey": ZONE, "maxSkew": 2}]}, SPREAD),
        ({"nodeName": "n1"}, ALL),
        ({"priorityClassName": "system-node-critical"}, ALL),
    ],
)
def test_what_a_pod_chose_for_itself_stands(spec: dict[str, Any], rules: Rules) -> None:
    assert steps(pod(spec), place(rules, "shop", pod(spec))) == []


def test_hard_rules_are_wishes_for_bare_pods_and_for_those_let_off() -> None:
    for one, how in ((pod(owners=[]), {}), (pod(), {"soft": True})):
        placed = place(ALL, "shop", one, **how)
        assert not placed.hard
        assert {"prefer-spot", "avoid-burstable"} <= set(placed.done)
    assert place(ALL, "shop", pod()).hard


def test_without_any_spot_in_the_cluster_nothing_is_sent_there() -> None:
    assert place(Rules(version=1, strategy="force"), "shop", pod()) == placement.Placed()


@pytest.mark.parametrize(
    ("namespace", "labels", "owners", "words"),
    [
        ("kube-system", {"app": "x"}, OWNER, "cluster itself"),
        ("curfew", {"app": "x"}, OWNER, "own namespace"),
        ("calico-system", {"app": "x"}, OWNER, "network"),
        ("dns", {"k8s-app": "kube-dns"}, OWNER, "name service"),
        ("net", {"app.kubernetes.io/name": "cilium"}, OWNER, "network"),
        ("payments", {"app": "x"}, OWNER, "namespace payments is exempt"),
        ("shop", {"tier": "db"}, OWNER, "label tier=db"),
        ("shop", {"legacy": "anything"}, OWNER, "label legacy"),
        ("shop", {"curfew.dev/unmanaged": ""}, OWNER, "curfew.dev/unmanaged"),
        ("shop", {"app": "x"}, [{"kind": "DaemonSet", "name": "d", "controller": True}], "every node"),
    ],
)
def test_exemptions(namespace: str, labels: dict[str, str], owners: Any, words: str) -> None:
    rules = Rules(
        **{
            **{f: getattr(ALL, f) for f in ALL.__slots__},
            "own_namespace": "curfew",
            "exempt_namespaces": frozenset({"payments"}),
            "exempt_labels": (("tier", "db"), ("legacy", "")),
        }
    )
    placed = place(rules, namespace, pod(owners=owners, labels=labels))
    assert words in placed.exempt
    assert placed.fields == {}


def test_rules_travel_and_odd_ones_are_refused() -> None:
    assert read(ALL.wire()) == ALL
    for odd in (
        None,
        {},
        {**ALL.wire(), "format": 2},
        {**ALL.wire(), "version": True},
        {**ALL.wire(), "strategy": "sometimes"},
        {**ALL.wire(), "fallback_minutes": 0},
        {**ALL.wire(), "spot": [["a"]]},
        {**ALL.wire(), "burstable": [1]},
        {**ALL.wire(), "exempt_namespaces": "kube-system"},
    ):
        with pytest.raises(BadRules):
            read(odd)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4) | st.sampled_from(["In", ZONE, INSTANCE_TYPE]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "nodeAffinity",
                    "requiredDuringSchedulingIgnoredDuringExecution",
                    "preferredDuringSchedulingIgnoredDuringExecution",
                    "nodeSelectorTerms",
                    "matchExpressions",
                    "key",
                    "operator",
                    "values",
                    "preference",
                    "topologyKey",
                    "effect",
                    "value",
                ]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(
    spec=st.fixed_dictionaries({}, optional=dict.fromkeys([*placement.FIELDS, "volumes", "nodeName"], JUNK)),
    owners=st.sampled_from([OWNER, [], None, [{}], "x"]),
    soft=st.booleans(),
)
def test_any_shape_is_patched_once_and_a_second_time_changes_nothing(
    spec: dict[str, Any], owners: Any, soft: bool
) -> None:
    one = pod(spec, owners)
    before = copy.deepcopy(one)
    placed = place(ALL, "shop", one, soft=soft)
    made = json_patch(one, steps(one, placed))
    assert one == before, "the pod given is not touched"
    assert steps(made, place(ALL, "shop", made, soft=soft)) == []
    assert {k: v for k, v in made["spec"].items() if k not in placement.FIELDS} == {
        k: v for k, v in spec.items() if k not in placement.FIELDS
    } | {"containers": one["spec"]["containers"]}


def test_the_largest_body_full_of_terms_takes_little_processor_time() -> None:
    terms = [{"matchExpressions": [{"key": f"k{n}", "operator": "Exists"}]} for n in range(60_000)]
    spec = {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": terms}}}}
    request = {"uid": "u", "operation": "CREATE", "namespace": "shop", "kind": {"group": "", "kind": "Pod"}}
    body = json.dumps({"request": request | {"object": pod(spec)}}).encode()
    assert 0.8 * LARGEST < len(body) <= LARGEST
    began = time.thread_time()
    verdict = judge(body, ALL, lambda owner: False)
    assert time.thread_time() - began < 2.0, "a fifth of a second; a copy of every term would take ten times as long"
    assert "prefer-spot" in verdict.done, "more terms than a rule may multiply: it becomes a wish"
