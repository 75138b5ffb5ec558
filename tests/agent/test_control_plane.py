"""One suite for the real API server and for our fake: what the agent, the poll and orders lean on."""

from __future__ import annotations

import base64
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.cluster.kube import Access, Gone, Kube, KubeError, object_path
from agent.cluster.live import Settings, snapshot_once
from agent.transport import Endpoint
from clusters.inventory.install import manifest
from clusters.inventory.model import Snapshot
from clusters.inventory.poll import PollFailed, poll
from tests.fakes import kube_objects as make
from tests.fakes.control_plane import Plane, control_plane

pytestmark = pytest.mark.integration
NS = "curfew-contract"
PODS, DEPLOYMENTS = "/api/v1/pods", "/apis/apps/v1/deployments"


@pytest.fixture(scope="module")
def plane() -> Iterator[Plane]:
    with control_plane() as found:
        kube = Kube(_access(found))
        kube.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS}})
        kube.close()
        yield found


def _access(plane: Plane) -> Access:
    return Access(Endpoint(plane.url, ca_file=plane.ca_file), lambda: plane.token)


@pytest.fixture
def kube(plane: Plane) -> Iterator[Kube]:
    client = Kube(_access(plane))
    yield client
    client.close()


@pytest.fixture
def client(plane: Plane) -> Any:
    from kubernetes import client as k8s

    configuration = k8s.Configuration()
    configuration.host, configuration.ssl_ca_cert = plane.url, plane.ca_file
    configuration.api_key = {"authorization": f"Bearer {plane.token}"}
    configuration.retries = False
    return k8s.ApiClient(configuration)


def _where(path: str) -> str:
    root, _, plural = path.rpartition("/")
    return f"{root}/namespaces/{NS}/{plural}"


def _small(name: str, **labels: str) -> dict[str, Any]:
    spec = {"containers": [{"name": "app", "image": "x", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


def _deployment(name: str, replicas: int) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "app", "image": "x"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def test_pages_hold_everything_once(kube: Kube) -> None:
    for number in range(7):
        kube.post(_where(PODS), _small(f"page-{number}"))
    found: list[str] = []
    version = kube.list(_where(PODS), lambda o: found.append(o["metadata"]["name"]), page=3)
    assert int(version) > 0
    assert sorted(n for n in found if n.startswith("page-")) == [f"page-{n}" for n in range(7)]
    assert len(found) == len(set(found))


def test_a_watch_tells_what_came_after_the_list(kube: Kube, plane: Plane) -> None:
    version = kube.list(_where(DEPLOYMENTS), lambda o: None)
    other = Kube(_access(plane))
    other.post(_where(DEPLOYMENTS), _deployment("watched", 1))
    other.patch(object_path(DEPLOYMENTS, NS, "watched"), {"metadata": {"labels": {"a": "b"}}})
    other.patch(object_path(DEPLOYMENTS, NS, "watched", "scale"), {"spec": {"replicas": 4}})
    seen: list[tuple[str, int]] = []
    for kind, obj in kube.watch(_where(DEPLOYMENTS), version, seconds=5, quiet=10):
        if kind != "BOOKMARK":
            seen.append((kind, obj["spec"]["replicas"]))
        if len(seen) == 3:
            break
    other.close()
    assert seen == [("ADDED", 1), ("MODIFIED", 1), ("MODIFIED", 4)]


def test_a_version_that_never_was_or_is_forgotten(kube: Kube, plane: Plane) -> None:
    if plane.fake:
        plane.fake.store.compact()
        with pytest.raises(Gone):
            list(kube.watch(_where(PODS), "1", seconds=2, quiet=5))
    with pytest.raises((KubeError, Gone)):
        kube.get(f"{_where(PODS)}?limit=1&continue={base64.b64encode(b'nonsense').decode()}")


def test_selectors(kube: Kube) -> None:
    for name, tier in (("sel-a", "web"), ("sel-b", "db"), ("sel-c", "web")):
        kube.post(_where(PODS), _small(name, tier=tier))

    def names(query: str) -> list[str]:
        return sorted(o["metadata"]["name"] for o in kube.get(f"{_where(PODS)}?{query}")["items"])

    assert names("labelSelector=tier%3Dweb") == ["sel-a", "sel-c"]
    assert names("labelSelector=tier+in+(db,cache)") == ["sel-b"]
    assert names("labelSelector=tier,tier!%3Dweb") == ["sel-b"]
    assert names("fieldSelector=metadata.name%3Dsel-b") == ["sel-b"]


def test_not_found_conflict_and_already_there(kube: Kube) -> None:
    with pytest.raises(KubeError) as missing:
        kube.get(object_path(PODS, NS, "never"))
    assert (missing.value.status, missing.value.reason) == (404, "NotFound")
    kube.post(_where(PODS), _small("once"))
    with pytest.raises(KubeError) as twice:
        kube.post(_where(PODS), _small("once"))
    assert (twice.value.status, twice.value.reason) == (409, "AlreadyExists")
    kube.post(_where(DEPLOYMENTS), _deployment("contested", 1))
    path = object_path(DEPLOYMENTS, NS, "contested", "scale")
    scale = kube.get(path)
    kube.patch(path, {"spec": {"replicas": 2}})
    with pytest.raises(KubeError) as stale:
        kube.patch(
            path, {"metadata": {"resourceVersion": scale["metadata"]["resourceVersion"]}, "spec": {"replicas": 3}}
        )
    assert (stale.value.status, stale.value.reason) == (409, "Conflict")
    assert kube.get(path)["spec"]["replicas"] == 2


def test_strategic_and_json_patches(kube: Kube) -> None:
    kube.post(_where(DEPLOYMENTS), _deployment("patched", 1))
    path = object_path(DEPLOYMENTS, NS, "patched")
    spec = {"template": {"spec": {"containers": [{"name": "app", "resources": {"requests": {"cpu": "50m"}}}]}}}
    found = kube.patch(path, {"spec": spec}, kind="application/strategic-merge-patch+json")
    box = found["spec"]["template"]["spec"]["containers"]
    assert [(c["name"], c["image"], c["resources"]["requests"]["cpu"]) for c in box] == [("app", "x", "50m")]


def test_server_side_apply_names_the_other_manager(plane: Plane) -> None:
    kube = Kube(_access(plane))
    kind = "application/apply-patch+yaml"
    path = object_path(DEPLOYMENTS, NS, "applied")
    kube.patch(f"{path}?fieldManager=one", _deployment("applied", 3), kind=kind)
    with pytest.raises(KubeError) as conflict:
        kube.patch(f"{path}?fieldManager=two", _deployment("applied", 5), kind=kind)
    assert conflict.value.status == 409
    assert '"one"' in conflict.value.message
    assert ".spec.replicas" in conflict.value.message
    found = kube.patch(f"{path}?fieldManager=two&force=true", _deployment("applied", 5), kind=kind)
    assert found["spec"]["replicas"] == 5
    kube.close()


def test_eviction_minds_the_budget(kube: Kube) -> None:
    kube.post(_where(PODS), _small("guarded", guard="yes"))
    budget = {
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "guard"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"guard": "yes"}}},
        "status": {"disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1},
    }  # fmt: skip
    kube.post(_where("/apis/policy/v1/poddisruptionbudgets"), budget)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "guarded", "namespace": NS}}
    kube.patch(
        object_path(PODS, NS, "guarded", "status"),
        {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}},
    )
    with pytest.raises(KubeError) as refused:
        kube.post(object_path(PODS, NS, "guarded", "eviction"), eviction)
    assert (refused.value.status, refused.value.reason) == (429, "TooManyRequests")
    kube.patch(
        object_path("/apis/policy/v1/poddisruptionbudgets", NS, "guard", "status"),
        {"status": {"disruptionsAllowed": 1, "observedGeneration": 1}},
    )
    kube.post(object_path(PODS, NS, "guarded", "eviction"), eviction)


def test_the_access_review_answers(kube: Kube) -> None:
    body = {"spec": {"resourceAttributes": {"verb": "list", "resource": "pods"}}}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", **body}
    found = kube.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    assert found["status"]["allowed"] is True


def test_agent_and_poll_see_the_same(plane: Plane, client: Any) -> None:
    for attempt in range(5):  # a real control plane may write a lease or an event in between
        agent = snapshot_once(Settings(Endpoint("http://localhost"), lambda: "", _access(plane), name="same"))
        polled = poll(client, name="same")
        texts = {c: dict(table) for c, table in agent.store.cut(full=True).set.items()}
        from clusters.inventory.delta import State

        if State.of(polled.records).digest == agent.store.digest:
            break
        time.sleep(0.3 * attempt)
    else:
        raise AssertionError("agent and poll differ")
    assert {c: set(t) for c, t in polled.records.items()} == {c: set(t) for c, t in texts.items()}
    assert polled.cluster == agent.outbox._head()["cluster"]
    snapshot: Snapshot = polled.snapshot()
    assert NS in snapshot.namespaces
    assert all(snapshot.spec_of(p).requests == {"cpu": 100, "memory": 64 * 2**20} for p in snapshot.pods.values())


def test_a_wrong_token_is_told_apart(plane: Plane, client: Any) -> None:
    with pytest.raises(KubeError) as refused:
        Kube(Access(Endpoint(plane.url, ca_file=plane.ca_file), lambda: "wrong")).get("/api/v1/nodes")
    assert refused.value.source_state == "unauthorized"
    client.configuration.api_key = {"authorization": "Bearer wrong"}
    with pytest.raises(PollFailed) as failed:
        poll(client)
    assert (failed.value.state, failed.value.transient) == ("unauthorized", False)


def test_an_unknown_authority_is_refused(plane: Plane) -> None:
    from agent.transport import Unreachable

    with pytest.raises(Unreachable, match="certificate is not trusted"):
        Kube(Access(Endpoint(plane.url), lambda: plane.token)).get("/version")


def test_kubectl_installs_the_manifest(plane: Plane, tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text(
        manifest(url="https://curfew.example", token='cfa_"odd\ntoken', cluster_name="prod: 'eu'", image="curfew-agent:1", orders_key="a2V5"),
        encoding="utf-8",
    )  # fmt: skip
    kubectl = [
        "kubectl",
        f"--server={plane.url}",
        f"--certificate-authority={plane.ca_file}",
        f"--token={plane.token}",
        "--kubeconfig=/dev/null",
        f"--cache-dir={tmp_path}",
    ]
    done = subprocess.run(
        [*kubectl, "apply", "--validate=false", "-f", str(file)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "deployment.apps/curfew-agent created" in done.stdout
    again = subprocess.run(
        [*kubectl, "apply", "--validate=false", "-f", str(file)], capture_output=True, text=True, timeout=60
    )
    assert again.returncode == 0, again.stderr
    kube = Kube(_access(plane))
    spec = kube.get(object_path(DEPLOYMENTS, "curfew", "curfew-agent"))["spec"]["template"]["spec"]
    values = {e["name"]: e.get("value", "") for e in spec["containers"][0]["env"]}
    assert values["CURFEW_CLUSTER_NAME"] == "prod: 'eu'"
    assert values["CURFEW_ALLOW_ORDERS"] == "1"
    secret = kube.get(object_path("/api/v1/secrets", "curfew", "curfew-agent"))
    told = secret.get("stringData", {}).get("token") or base64.b64decode(secret["data"]["token"]).decode()
    assert told == 'cfa_"odd\ntoken'
    kube.close()


def test_the_fake_makes_objects_that_a_real_one_would_take() -> None:
    """Names and label values within Kubernetes' own limits."""
    for obj in make.cluster(nodes=5, pods=60):
        metadata = obj["metadata"]
        assert len(metadata["name"]) <= 253
        assert metadata["name"] == metadata["name"].lower()
        assert all(len(v) <= 63 for v in (metadata.get("labels") or {}).values())
