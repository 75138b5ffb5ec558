"""Batches of calls: what a signed order can make an agent do, and everything that it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agent.cluster.calls import Call, NotAllowed, check, perform, read_calls
from agent.cluster.kube import Access, Kube
from agent.transport import Endpoint
from clusters.sleeping.kinds import KINDS
from tests.agent.test_orders import kube as kube
from tests.agent.test_orders import order, orders
from tests.fakes import kube_objects as make
from tests.fakes.kube import FakeKube

pytestmark = pytest.mark.integration
V = {"metadata": {"resourceVersion": "1"}}


def change(body: dict[str, Any], **more: str) -> Call:
    given = {"method": "PATCH", "group": "apps", "version": "v1", "plural": "deployments"}
    body = {**body, "metadata": {**V["metadata"], **body.get("metadata", {})}}
    return Call(**{**given, "namespace": "shop", "name": "web", **more}, body=body)


TEMPLATE = {"spec": {"template": {"spec": {"containers": [{"name": "x", "image": "evil"}]}}}}
REFUSED = {
    "an image": change(TEMPLATE),
    "a service account": change({"spec": {"template": {"spec": {"serviceAccountName": "admin"}}}}),
    "an empty template": change({"spec": {"template": {}}}),
    "the whole spec": change({"spec": None}),
    "a label": change({"metadata": {"labels": {"a": "b"}}}),
    "an owner": change({"metadata": {"ownerReferences": []}}),
    "a finalizer": change({"metadata": {"finalizers": []}}),
    "a foreign annotation": change({"metadata": {"annotations": {"sidecar.istio.io/inject": "true"}}}),
    "a template's annotation": change({"spec": {"template": {"metadata": {"annotations": {"x": "y"}}}}}),
    "its own namespace": change({"spec": {"replicas": 0}}, namespace="curfew"),
    "the system's": change({"spec": {"replicas": 0}}, namespace="kube-system", name="coredns"),
    "a manager of others": change({"spec": {"replicas": 0}}, manager="kubectl"),
    "a path in a name": change({"spec": {"replicas": 0}}, name="../secrets/x"),
    "a path in a namespace": change({"spec": {"replicas": 0}}, namespace="x/pods"),
    "a path in a version": change({"spec": {"replicas": 0}}, version="v1/namespaces/x"),
    "a secret": Call("GET", "", "v1", "secrets", "shop", "x"),
    "all secrets": Call("LIST", "", "v1", "secrets"),
    "config maps": Call("LIST", "", "v1", "configmaps"),
    "a deployment's end": Call("DELETE", "apps", "v1", "deployments", "shop", "web", uid="u"),
    "a claim without its uid": Call("DELETE", "karpenter.sh", "v1", "nodeclaims", "", "c"),
    "a node": change({"spec": {"unschedulable": True}}, group="", plural="nodes", namespace="", name="n1"),
    "a role": Call("LIST", "rbac.authorization.k8s.io", "v1", "clusterroles"),
    "a method": Call("POST", "apps", "v1", "deployments", "shop", "web", body=V),
    "no version read": Call("PATCH", "apps", "v1", "deployments", "shop", "web", body={"spec": {"replicas": 0}}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_signature_allows(name: str) -> None:
    with pytest.raises(NotAllowed):
        check(REFUSED[name], "curfew")


@pytest.mark.parametrize("raw", [None, [], {}, [1], [{"method": 1}], [{"method": "GET", "more": "x"}], [{}] * 300])
def test_odd_batches_are_refused_whole(raw: Any) -> None:
    with pytest.raises(NotAllowed):
        read_calls(raw)


def _pool_change(requirements: Any) -> Call:
    body = {"metadata": V["metadata"], "spec": {"template": {"spec": {"requirements": requirements}}}}
    return Call("PATCH", "karpenter.sh", "v1", "nodepools", "", "general", body=body)


SPOT = {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot", "on-demand"]}
ARCH = {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}


@pytest.mark.parametrize(
    ("requirements", "words"),
    [
        ([SPOT], "only the capacity type"),
        ([SPOT, {**ARCH, "values": ["arm64"]}], "only the capacity type"),
        ([ARCH], "only the capacity type"),
        ([ARCH, SPOT, SPOT], "only the capacity type"),
        ([ARCH, {**SPOT, "operator": "NotIn"}], "none of spot"),
        ([ARCH, {**SPOT, "values": ["anything"]}], "none of spot"),
        ([ARCH, {**SPOT, "values": [{}]}], "none of spot"),
        ("all", "no list"),
    ],
)
def test_of_what_a_pool_buys_only_the_capacity_type_is_turned(requirements: Any, words: str) -> None:
    with FakeKube() as server:
        pool = make.node_pool("general")
        pool["spec"]["template"]["spec"]["requirements"] = [ARCH, {**SPOT, "values": ["on-demand"]}]
        version = server.create(pool)["metadata"]["resourceVersion"]
        client = Kube(Access(Endpoint(server.url)))

        def asked(wanted: Any) -> dict[str, Any]:
            call = _pool_change(wanted)
            assert call.body is not None
            call.body["metadata"] = {"resourceVersion": version}
            return perform(client, call, "curfew")

        refused = asked(requirements)
        assert refused["status"] == 403
        assert words in refused["error"]["message"]
        done = asked([ARCH, SPOT])
        assert done["status"] == 200, done
        assert done["body"]["spec"]["template"]["spec"]["requirements"] == [ARCH, SPOT]
        client.close()


def test_everything_that_sleep_changes_is_allowed() -> None:
    """Sleep's own table of kinds against the agent's."""
    from clusters.sleeping.objects import Memory, guarded, sleeping

    samples: dict[str, dict[str, Any]] = {
        "Application": {"destination": {"server": "https://kubernetes.default.svc"}, "syncPolicy": {"automated": {}}},
        "HorizontalPodAutoscaler": {"minReplicas": 0},
        "NodePool": {"limits": {"cpu": "100"}},
    }
    for kind in KINDS.values():
        metadata = {"name": "x", "resourceVersion": "1", **({"namespace": "shop"} if kind.namespaced else {})}
        obj = {"metadata": metadata, "spec": samples.get(kind.name, {"replicas": 2})}
        fields = kind.fields(obj)
        assert fields, kind.name
        asleep = sleeping(obj, fields, Memory.of(obj, fields, "s"))
        for patch in (guarded(obj, asleep), guarded(asleep, obj)):
            place = {"namespace": "shop"} if kind.namespaced else {}
            check(
                Call("PATCH", kind.group, kind.version, kind.plural, **place, name="x", body=patch),
                "curfew",
            )


@pytest.fixture
def answers() -> list[Any]:
    return []


def test_a_batch_over_signed_orders(kube: FakeKube, answers: list[Any]) -> None:
    made = orders(kube)
    made._deliver = lambda name, content: answers.append((name, content["results"]))
    version = kube.get("deployments", "shop", "web")["metadata"]["resourceVersion"]
    place = {"group": "apps", "version": "v1", "plural": "deployments", "namespace": "shop", "name": "web"}
    batch = [
        {"method": "GROUPS"},
        {**place, "method": "PATCH", "body": {"metadata": {"resourceVersion": version}, "spec": {"replicas": 0}}},
        {**place, "method": "PATCH", "body": {"metadata": {"resourceVersion": version}, "spec": {"replicas": 9}}},
        {**place, "method": "GET", "name": "none"},
        {**place, "method": "PATCH", "body": {"metadata": {"resourceVersion": "1"}, **TEMPLATE}},
        {"method": "LIST", "group": "", "version": "v1", "plural": "pods"},
    ]
    raw = order("calls", target={"kind": "Cluster", "name": "c"}, args={"calls": batch})
    made.take([raw])
    made.take([raw])
    assert made.results() == []
    ((name, results),) = answers
    assert name == "o-1"
    assert [r.get("status") for r in results] == [200, 200, 409, 404, 403, 200]
    assert kube.get("deployments", "shop", "web")["spec"]["replicas"] == 0
    assert made.busy
    assert not made.busy


@pytest.fixture
def client(kube: FakeKube) -> Iterator[Kube]:
    made = Kube(Access(Endpoint(kube.url)))
    yield made
    made.close()


def test_what_containers_hold_never_leaves_the_cluster(kube: FakeKube, client: Kube) -> None:
    pod = make.pod("web-1", "shop")
    pod["spec"]["containers"][0]["env"] = [{"name": "PASSWORD", "value": "hunter2"}]
    kube.create(pod)
    found = perform(client, Call("LIST", "", "v1", "pods"), "curfew")
    assert found["body"]["items"]
    assert "hunter2" not in str(found)


def test_an_api_server_that_is_away_is_no_answer(kube: FakeKube, client: Kube) -> None:
    kube.down()
    assert "lost" in perform(client, Call("GROUPS"), "curfew")
