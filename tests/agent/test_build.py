"""Kubernetes objects become records: what the scheduler counts, what the labels mean, what must never leave."""

from __future__ import annotations

import copy
import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.wire import build
from agent.wire.build.nodes import lifecycle
from agent.wire.model import Condition, ContainerState, Metric, Owner, Taint
from agent.wire.resources import RESOURCES
from clusters.inventory.model import Snapshot
from tests.fakes import kube_objects as make

pytestmark = pytest.mark.unit
MI = 2**20
BY_KIND = {
    "Namespace": "namespaces", "Node": "nodes", "Pod": "pods", "Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets",
    "ReplicaSet": "replicasets", "Job": "jobs", "CronJob": "cronjobs", "PodDisruptionBudget": "poddisruptionbudgets",
    "HorizontalPodAutoscaler": "horizontalpodautoscalers", "Event": "events", "PersistentVolumeClaim": "persistentvolumeclaims",
    "PersistentVolume": "persistentvolumes", "NodePool": "nodepools", "NodeClaim": "nodeclaims",
}  # fmt: skip
RESOURCE = {r.name: r for r in RESOURCES}
EXAMPLES = [
    make.namespace("team"), make.node("n1"), make.pod("p1", node_name="n1"), make.deployment("d"), make.stateful_set("s"), make.daemon_set("ds"),
    make.replica_set(make.deployment("d")), make.job("j"), make.cron_job("c"), make.budget("b"), make.autoscaler("a"), make.event("e"),
    make.claim("c"), make.volume("v"), make.node_pool(), make.node_claim("nc", "n1"),
]  # fmt: skip


def box(name: str, cpu: str = "", memory: str = "", **more: Any) -> dict[str, Any]:
    asked = {k: v for k, v in (("cpu", cpu), ("memory", memory)) if v}
    return {"name": name, "resources": {"requests": asked}, **more}


def spec_of(**spec: Any) -> Any:
    return build.pod_spec({"metadata": {}, "spec": spec})


def test_requests_are_apps_and_sidecars_or_the_largest_start() -> None:
    sidecar = box("mesh", "100m", "50Mi", restartPolicy="Always")
    plain = spec_of(containers=[box("a", "200m", "100Mi"), box("b", "1", "1Gi")])
    assert plain.requests == {"cpu": 1200, "memory": 1124 * MI}
    big_init = spec_of(initContainers=[box("init", "3", "10Mi")], containers=[box("a", "200m", "100Mi")])
    assert big_init.requests == {"cpu": 3000, "memory": 100 * MI}
    after = spec_of(initContainers=[sidecar, box("init", "250m")], containers=[box("a", "200m")])
    assert after.requests["cpu"] == 350, "the init container runs beside the sidecar"
    before = spec_of(initContainers=[box("init", "250m"), sidecar], containers=[box("a", "200m")])
    assert before.requests["cpu"] == 300, "the init container was done before the sidecar came"
    assert [c.kind for c in before.containers] == ["init", "sidecar", "app"]


def test_overhead_and_pod_level_figures_count() -> None:
    found = spec_of(
        containers=[box("a", "200m", "100Mi")], overhead={"cpu": "250m", "memory": "120Mi"},
        resources={"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}},
    )  # fmt: skip
    assert found.requests == {"cpu": 1250, "memory": (1024 + 120) * MI}
    assert found.limits == {"memory": 1024 * MI}


@pytest.mark.parametrize(
    ("resources", "qos"),
    [
        ({}, "BestEffort"), ({"requests": {"nvidia.com/gpu": "1"}}, "BestEffort"), ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"), ({"limits": {"cpu": "1"}}, "Burstable"),
        ({"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}, "Burstable"),
        ({"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"requests": {"cpu": "0", "memory": "0"}}, "BestEffort"),
    ],
)  # fmt: skip
def test_quality_of_service(resources: dict[str, Any], qos: str) -> None:
    assert spec_of(containers=[{"name": "a", "resources": resources}]).qos == qos


def test_secrets_stay_where_they_are() -> None:
    pod = make.pod("p", node_name="n")
    pod["metadata"]["annotations"] |= {"vault.example/token": "s.secret", "karpenter.sh/do-not-disrupt": "true"}
    pod["spec"]["containers"][0] |= {
        "command": ["run", "--password=hunter2"],
        "envFrom": [{"secretRef": {"name": "db"}}],
    }
    for obj in [pod, *EXAMPLES]:
        built = RESOURCE[BY_KIND[obj["kind"]]].built(obj)
        told = json.dumps([built.record, built.spec])
        assert "hunter2" not in told
        assert "s.secret" not in told
    spec = RESOURCE["pods"].built(pod).spec
    assert spec is not None
    assert spec["annotations"] == {"karpenter.sh/do-not-disrupt": "true"}


def test_a_node_as_the_cluster_has_it() -> None:
    raw = make.node("n1", size="m5.large", zone="eu-west-1b", spot=True, group="batch", unschedulable=True,
                    taints=[{"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}])  # fmt: skip
    node = build.node(raw)
    assert (node.instance_type, node.region, node.zone) == ("m5.large", "eu-west-1", "eu-west-1b")
    assert (node.lifecycle, node.group_kind, node.group) == ("spot", "eks", "batch")
    assert (node.ready, node.unschedulable) == (True, True)
    assert node.taints == (Taint("dedicated", "gpu", "NoSchedule"),)
    assert node.capacity == {
        "cpu": 2000,
        "memory": 8 * 2**30,
        "pods": 110,
        "ephemeral-storage": 83873772 * 1024,
        "hugepages-2Mi": 0,
    }
    assert node.allocatable["cpu"] == 1930
    assert node.created_at == dt.datetime(2026, 9, 1, tzinfo=dt.UTC)
    assert [c.type for c in node.conditions] == ["DiskPressure", "MemoryPressure", "PIDPressure", "Ready"]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"karpenter.sh/capacity-type": "spot"}, "spot"), ({"karpenter.sh/capacity-type": "reserved"}, "reserved"),
        ({"eks.amazonaws.com/capacityType": "ON_DEMAND"}, "on-demand"), ({"eks.amazonaws.com/capacityType": "CAPACITY_BLOCK"}, "reserved"),
        ({"cloud.google.com/gke-spot": "true", "cloud.google.com/gke-nodepool": "p"}, "spot"), ({"cloud.google.com/gke-preemptible": "true"}, "spot"),
        ({"cloud.google.com/gke-nodepool": "p"}, "on-demand"), ({"kubernetes.azure.com/scalesetpriority": "spot"}, "spot"),
        ({"kubernetes.azure.com/agentpool": "p"}, "on-demand"), ({"lifecycle": "Ec2Spot"}, "spot"), ({"node.kubernetes.io/lifecycle": "normal"}, "on-demand"),
        ({}, "unknown"), ({"karpenter.sh/capacity-type": "martian"}, "unknown"),
    ],
)  # fmt: skip
def test_lifecycles(labels: dict[str, str], expected: str) -> None:
    assert lifecycle(labels) == expected


def test_a_pod_that_suffers() -> None:
    raw = make.pod("web-0", "shop", node_name="n1")
    raw["status"]["containerStatuses"] = [
        {"name": "app", "restartCount": 4, "ready": False, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
         "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137, "finishedAt": "2026-09-02T03:04:05Z"}}},
        {"name": "proxy", "restartCount": 0, "ready": True, "state": {"running": {}}},
    ]  # fmt: skip
    raw["status"]["initContainerStatuses"] = [
        {"name": "init", "restartCount": 0, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
    ]
    assert build.pod(raw, "s").states == (
        ContainerState(
            "app", 4, False, "CrashLoopBackOff", "OOMKilled", 137, dt.datetime(2026, 9, 2, 3, 4, 5, tzinfo=dt.UTC)
        ),
    )


def test_a_pod_that_waits_says_why() -> None:
    pod = build.pod(make.pod("p"), "s")
    assert (pod.phase, pod.node, pod.reason, pod.scheduled_at) == ("Pending", "", "Unschedulable", None)
    assert pod.detail == "0/3 nodes are available: 3 Insufficient cpu."


def test_workloads_keep_what_was_unset() -> None:
    raw = make.deployment("d", replicas=3)
    assert build.workload(raw, "Deployment").replicas == 3
    del raw["spec"]["replicas"]
    assert build.workload(raw, "Deployment").replicas is None
    cron = build.workload(make.cron_job("c", timeZone="Europe/Berlin", suspend=True), "CronJob")
    assert (cron.schedule, cron.time_zone, cron.suspended) == ("15 2 * * *", "Europe/Berlin", True)
    assert build.workload(make.stateful_set("s"), "StatefulSet").claim_templates == ("data",)


def test_old_revisions_are_not_kept_and_templates_are() -> None:
    deploy = make.deployment("d")
    assert RESOURCE["replicasets"].built(make.replica_set(deploy, "old", replicas=0)).record is None
    current = RESOURCE["replicasets"].built(make.replica_set(deploy))
    assert current.record is not None
    assert current.record["owner"]["name"] == "d"
    assert current.spec is None, "its template is its Deployment's"
    assert RESOURCE["deployments"].built(deploy).spec is not None


def test_owners_are_followed_to_the_top() -> None:
    deploy = make.deployment("web", "shop")
    replica_set = make.replica_set(deploy)
    cron, job = (
        make.cron_job("nightly", "shop"),
        make.job("nightly-1", "shop", ownerReferences=make.owner("CronJob", "nightly")),
    )
    pods = [
        make.pod("web-x", "shop", owners=make.owner("ReplicaSet", replica_set["metadata"]["name"])),
        make.pod("nightly-x", "shop", owners=make.owner("Job", "nightly-1")), make.pod("bare", "shop"),
        make.pod("orphan", "shop", owners=make.owner("ReplicaSet", "gone")),
    ]  # fmt: skip
    records: dict[str, dict[str, Any]] = {}
    for obj in (deploy, replica_set, cron, job, *pods):
        resource = RESOURCE[BY_KIND[obj["kind"]]]
        built = resource.built(obj)
        records.setdefault(resource.collection, {})[built.key] = built.record
        if built.spec is not None:
            records.setdefault("specs", {})[built.spec_key] = built.spec
    snapshot = Snapshot.from_records({"uid": "u"}, records)
    top = {pod.name: snapshot.workload_of(pod) for pod in snapshot.pods.values()}
    assert top["web-x"] is not None
    assert (top["web-x"].kind, top["web-x"].name) == ("Deployment", "web")
    assert top["nightly-x"] is not None
    assert (top["nightly-x"].kind, top["nightly-x"].name) == ("CronJob", "nightly")
    assert top["bare"] is None
    assert top["orphan"] == Owner("ReplicaSet", "gone", make.uid("ReplicaSet", "gone"))


def test_volumes_know_their_zones_and_nodes() -> None:
    volume = build.volume(make.volume("v", zone="eu-west-1c"))
    assert (volume.zones, volume.nodes, volume.bytes, volume.kind) == (("eu-west-1c",), (), 20 * 2**30, "csi")
    local = make.volume("l")
    rule = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}
    local["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"] = [{"matchExpressions": [rule]}]
    assert build.volume(local).nodes == ("n1",)


def test_the_rest() -> None:
    budget = build.budget(make.budget("b", minAvailable="50%"))
    assert (budget.min_available, budget.max_unavailable, budget.disruptions_allowed) == ("50%", "", 1)
    scaler = build.autoscaler(make.autoscaler("a"))
    assert scaler.metrics == (Metric("Resource", "cpu", "Utilization", "70"),)
    assert scaler.conditions == (
        Condition("ScalingActive", "True", "ValidMetricFound", dt.datetime(2026, 9, 1, 0, 0, 9, tzinfo=dt.UTC)),
    )
    claim = build.claim(make.claim("c", volume_name="v"))
    assert (claim.volume, claim.bytes, claim.phase) == ("v", 20 * 2**30, "Bound")
    pool = build.node_pool(make.node_pool())
    assert (pool.limits, pool.replicas, pool.expire_after, pool.ready) == (
        {"cpu": "1000", "memory": "4000Gi"},
        None,
        "720h",
        True,
    )
    node_claim = build.node_claim(make.node_claim("c", "n1"))
    assert (node_claim.pool, node_claim.node, node_claim.lifecycle) == ("general", "n1", "spot")


@pytest.mark.parametrize(("reason", "matters"), [("OOMKilling", True), ("Evicted", True), ("NodeHasDiskPressure", True), ("SpotInterrupted", True),
                                                 ("FailedScheduling", True), ("Pulled", False), ("Created", False), ("LeaderElection", False)])  # fmt: skip
def test_events_that_matter(reason: str, matters: bool) -> None:
    assert (RESOURCE["events"].built(make.event("e", reason=reason)).record is not None) is matters


def test_new_style_events() -> None:
    raw = make.event("e", firstTimestamp=None, lastTimestamp=None, count=None, eventTime="2026-09-01T10:00:00.123456Z",
                     series={"count": 9, "lastObservedTime": "2026-09-01T11:00:00.000000Z"})  # fmt: skip
    event = build.event(raw)
    assert (event.count, event.last_at) == (9, dt.datetime(2026, 9, 1, 11, tzinfo=dt.UTC))


JUNK = [
    None,
    0,
    -1,
    1.5,
    True,
    "",
    "junk",
    [],
    {},
    [None],
    [{}],
    {"a": None},
    "9" * 60,
    2**70,
    -(2**70),
    "x" * 70_000,
    [[]],
]


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        found += _places(inner, (*path, key))
    return found


@given(
    st.integers(0, len(EXAMPLES) - 1),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, len(JUNK) - 1)), min_size=1, max_size=4),
)
@settings(max_examples=600, deadline=None)
def test_no_object_breaks_a_builder(which: int, damage: list[tuple[int, int]]) -> None:
    obj = copy.deepcopy(EXAMPLES[which])
    kept = {("metadata",), ("metadata", "name"), ("metadata", "namespace"), ("metadata", "uid")}
    for place, junk in damage:
        places = [p for p in _places(obj) if p not in kept]
        *way, last = places[place % len(places)]
        spot: Any = obj
        for step in way:
            spot = spot[step]
        spot[last] = copy.deepcopy(JUNK[junk])
    resource = RESOURCE[BY_KIND[EXAMPLES[which]["kind"]]]
    built = resource.built(obj)
    if built.record is not None:
        records = {resource.collection: {built.key: built.record}}
        if built.spec is not None:
            records["specs"] = {built.spec_key: built.spec}
        assert Snapshot.from_records({"uid": "u"}, records).to_records() == records
