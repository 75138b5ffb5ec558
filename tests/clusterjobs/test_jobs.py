"""Tasks as Kubernetes Jobs: made once, watched to their end, cleaned up; whoever is away meanwhile."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from clusterjobs import gateway, services
from clusterjobs.models import JobRun
from clusterjobs.providers.kube import JOBS, NAMESPACES, POLICIES, SECRETS
from core.errors import InvalidInput, InvalidState
from core.providers import Unreachable
from taskrunner import selectors
from taskrunner import services as tasks
from taskrunner.models import Task
from tests.clusterjobs.conftest import Batch

pytestmark = [pytest.mark.integration, pytest.mark.django_db]


def log_of(task: Task) -> bytes:
    return b"".join(selectors.log_bytes(attempt=selectors.attempt_of(task), stream=""))


def left(batch: Batch) -> list[int]:
    """Jobs, pods and Secrets that are still in the cluster, and rows that are still open."""
    cell = batch.cell
    open_rows = JobRun.objects.all_orgs().filter(pool=batch.pool, cleaned_at=None)
    secrets = cell.api.labelled(SECRETS, cell.namespace, "curfew.dev/pool")
    return [len(cell.jobs()), len(cell.pods()), len(secrets), open_rows.count()]


def test_a_task_becomes_a_job_without_privileges(batch: Batch) -> None:
    task = batch.submit(
        command=["sh", "-c", "echo $HOME $(date)"],
        cpu=500,
        memory=256,
        storage=100,
        gpus=1,
        environment={"MODE": "fast$"},
        secrets={"TOKEN": "hunter2"},
        files={"/etc/app/config.ini": "a=1"},
        network=False,
        timeout_seconds=600,
    )
    batch.look()
    (job,) = batch.cell.jobs()
    assert job["metadata"]["name"] == f"task-{task.id}-1"
    assert {k: v for k, v in job["metadata"]["labels"].items() if "curfew.dev" in k} == {
        "curfew.dev/pool": str(batch.pool.worker_id),
        "curfew.dev/task": str(task.id),
        "curfew.dev/fence": "1",
        "curfew.dev/run": f"task-{task.id}-1",
        "curfew.dev/network": "none",
    }
    spec = job["spec"]
    assert (spec["backoffLimit"], spec["parallelism"], spec["activeDeadlineSeconds"]) == (0, 1, 1500)
    pod = spec["template"]["spec"]
    assert [pod[name] for name in ("restartPolicy", "activeDeadlineSeconds", "automountServiceAccountToken")] == [
        "Never",
        600,
        False,
    ]
    assert not any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC"))
    (box,) = pod["containers"]
    assert box["securityContext"] == {
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert box["resources"]["limits"] == {
        "cpu": "500m",
        "memory": "256Mi",
        "ephemeral-storage": "100Mi",
        "nvidia.com/gpu": "1",
    }
    assert box["args"] == ["sh", "-c", "echo $$HOME $$(date)"]  # Kubernetes makes one $ of two
    assert {"name": "MODE", "value": "fast$$"} in box["env"]
    assert all("hostPath" not in volume for volume in pod["volumes"])
    assert "hunter2" not in str(job)
    (secret,) = batch.cell.api.labelled(SECRETS, batch.cell.namespace, "curfew.dev/pool")
    assert {k: base64.b64decode(v) for k, v in secret["data"].items()} == {"env.TOKEN": b"hunter2", "file.0": b"a=1"}
    found = batch.cell.api.get(NAMESPACES, "", batch.cell.namespace)
    assert found is not None
    assert found["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "baseline"
    assert len(batch.cell.api.labelled(POLICIES, batch.cell.namespace, "")) == 2


def test_from_claim_to_cleaned_up(batch: Batch, fake: Any) -> None:
    task, job = batch.running(secrets={"TOKEN": "hunter2"})
    assert (task.status, task.attempt, task.worker_id) == ("running", 1, batch.pool.worker_id)
    long = b"x" * 50_000 + b"\n"
    batch.cell.print(job, b"one\nbad \xff\xfe bytes\n" + long)
    batch.look()
    batch.cell.print(job, b"two\n")
    batch.look(3)
    batch.cell.print(job, b"no newline at the end")
    batch.cell.end(job)
    batch.look()
    assert batch.now(task) == ("succeeded", "ok")
    assert log_of(task) == b"one\nbad \xff\xfe bytes\n" + long + b"two\nno newline at the end"
    batch.look(2)
    assert left(batch) == [0, 0, 0, 0]
    assert batch.cell.made == [job]


@pytest.mark.parametrize(
    ("how", "end"),
    [
        ({"code": 3}, ("failed", "error")),
        ({"code": 137, "reason": "OOMKilled"}, ("failed", "oom")),
        ({"code": 143, "pod": {"phase": "Failed", "reason": "DeadlineExceeded"}}, ("failed", "timeout")),
        ({"code": 128, "reason": "StartError"}, ("failed", "start")),
        ({"code": 137, "pod": {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}}, ("failed", "lost")),
        (
            {"code": 137, "pod": {"phase": "Failed", "conditions": [
                {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "message": "node gone"}
            ]}},
            ("failed", "lost"),
        ),
    ],
)  # fmt: skip
def test_each_end_has_its_class(batch: Batch, how: dict[str, Any], end: tuple[str, str]) -> None:
    task, job = batch.running()
    batch.cell.end(job, **how)
    batch.look()
    assert batch.now(task) == end
    batch.look(2)
    assert left(batch) == [0, 0, 0, 0]


def test_an_evicted_task_is_tried_again_under_another_name(batch: Batch) -> None:
    task, job = batch.running(retries=1, retry_on=["lost"])
    batch.cell.end(job, code=137, pod={"phase": "Failed", "reason": "Evicted", "message": "low on memory"})
    batch.look()
    assert batch.now(task)[0] == "queued"
    batch.look(8)
    assert batch.cell.made == [f"task-{task.id}-1", f"task-{task.id}-2"]


def test_a_pod_that_somebody_deleted_is_lost(batch: Batch) -> None:
    task, job = batch.running()
    batch.cell.remove(batch.cell.pods(job)[0])
    batch.cell.job_failed(job)
    batch.look()
    assert batch.now(task) == ("failed", "lost")


def test_a_job_that_somebody_deleted_is_lost_once_its_pod_is_gone(batch: Batch) -> None:
    task, job = batch.running()
    found = batch.cell.jobs()[0]
    batch.cell.api.delete(JOBS, batch.cell.namespace, job, uid=found["metadata"]["uid"])
    batch.time.go(3)
    assert services.tend(pool_id=batch.pool.id)  # the pod still runs: nothing is decided
    assert batch.now(task)[0] == "running"
    batch.cell.step()
    batch.look()
    assert batch.now(task) == ("failed", "lost")
    assert "deleted its Job" in task.reason


def test_a_cancelled_task_keeps_its_last_words(batch: Batch, fake: Any) -> None:
    task, job = batch.running()
    batch.cell.print(job, b"ready\n")
    tasks.cancel(actor=batch.who.actor, task_id=task.id)
    batch.look()
    batch.cell.deadlines()
    batch.look(2)
    assert batch.now(task) == ("cancelled", "cancelled")
    assert log_of(task) == b"ready\nlast words\n"
    batch.look(2)
    assert left(batch) == [0, 0, 0, 0]


def test_cancelled_before_it_began(batch: Batch) -> None:
    task = batch.submit()
    batch.look()
    tasks.cancel(actor=batch.who.actor, task_id=task.id)
    batch.look(3)
    assert batch.now(task)[0] == "cancelled"
    assert left(batch) == [0, 0, 0, 0]


def test_a_silent_node_holds_a_task_but_not_a_cancelled_one(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    task, job = batch.running(retries=3)
    pod = batch.cell.pods(job)[0]
    path = f"/api/v1/namespaces/{batch.cell.namespace}/pods/{pod['metadata']['name']}"
    batch.cell.api._call("PATCH", path, body={"metadata": {"finalizers": ["curfew.dev/test"]}})
    batch.cell.remove(pod)
    monkeypatch.setattr(batch.cell, "step", lambda: None)  # its node does not answer
    batch.look(20, seconds=20)
    assert batch.now(task)[0] == "running"
    assert "waits for the word of" in task.reason
    assert batch.cell.made == [job]
    tasks.cancel(actor=batch.who.actor, task_id=task.id)
    batch.look(12, seconds=20)
    assert batch.now(task)[0] == "cancelled"
    batch.cell.api._call("PATCH", path, body={"metadata": {"finalizers": None}})


def test_an_image_that_cannot_be_had(batch: Batch) -> None:
    task = batch.submit(image="registry.invalid/no/such:1")
    batch.look()
    batch.cell.wait(f"task-{task.id}-1", "ImagePullBackOff", "no such host registry.invalid")
    batch.look()
    assert batch.now(task)[0] == "claimed"
    batch.look(5, seconds=30)
    assert batch.now(task) == ("failed", "image")
    assert "registry.invalid" in task.reason


def test_no_node_has_room(batch: Batch) -> None:
    task = batch.submit()
    batch.look()
    batch.cell.status(
        f"task-{task.id}-1",
        {"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: no GPU"}
        ]},
    )  # fmt: skip
    batch.look()
    assert batch.now(task)[0] == "claimed"
    assert "0/3 nodes: no GPU" in task.reason
    batch.look(40, seconds=30)
    assert batch.now(task) == ("failed", "start")


def test_the_api_server_goes_away_and_comes_back(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    task, job = batch.running()
    real = gateway.open_jobs

    def away(cluster: Any) -> Any:
        raise Unreachable("The cluster's API server cannot be reached.")

    monkeypatch.setattr(gateway, "open_jobs", away)
    for _ in range(30):
        batch.time.go(61)
        services.tend(pool_id=batch.pool.id)
        tasks.sweep_leases()
    assert batch.now(task)[0] == "running"  # its container may still run: it is not given away
    assert "cannot be reached" in batch.problem
    assert batch.problem.endswith("then try again. Curfew asks again by itself.")
    monkeypatch.setattr(gateway, "open_jobs", real)
    batch.cell.end(job)
    batch.look(2, seconds=61)
    assert (batch.now(task), batch.problem, batch.cell.made) == (("succeeded", "ok"), "", [job])


def test_it_is_given_away_when_its_own_clock_must_have_ended_it(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    task, _ = batch.running(timeout_seconds=60)
    batch.time.go(60 + 900 + 290)
    tasks.sweep_leases()
    assert batch.now(task)[0] == "running"
    batch.time.go(20)
    tasks.sweep_leases()
    assert batch.now(task) == ("failed", "lost")


def test_a_kill_at_any_moment_of_making_makes_one_job(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    from clusterjobs.providers.kube import HttpJobs

    real = HttpJobs.create

    class Killed(BaseException):
        pass

    for moment in ("before", "after"):

        def killed(self: Any, resource: Any, *given: Any, moment: str = moment) -> bool:
            if resource is JOBS:
                if moment == "after":
                    real(self, resource, *given)
                raise Killed
            return real(self, resource, *given)

        task = batch.submit(name=moment, secrets={"A": "b"})
        monkeypatch.setattr(HttpJobs, "create", killed)
        batch.time.go(3)
        with pytest.raises(Killed):
            services.tend(pool_id=batch.pool.id)
        monkeypatch.setattr(HttpJobs, "create", real)
        batch.look(2)
        tasks.sweep_leases()
        assert [name for name in batch.cell.made if str(task.id) in name] == [f"task-{task.id}-1"]
        assert batch.now(task)[0] == "claimed"


def test_an_older_fence_writes_nothing_and_is_removed(batch: Batch) -> None:
    task, job = batch.running(retries=2)
    Task.objects.all_orgs().filter(id=task.id).update(fence=2, status="queued", worker=None)
    batch.look(1)
    batch.look(2)
    assert job not in [j["metadata"]["name"] for j in batch.cell.jobs()]
    assert batch.now(task)[0] in ("queued", "claimed")


def test_what_others_own_is_left_alone(batch: Batch) -> None:
    batch.running()
    strange = {
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "task-of-somebody", "namespace": batch.cell.namespace},
    }  # fmt: skip
    batch.cell.api.create(SECRETS, batch.cell.namespace, strange)
    batch.look(3)
    assert batch.cell.api.get(SECRETS, batch.cell.namespace, "task-of-somebody") is not None


def test_two_looks_at_once_are_one(batch: Batch) -> None:
    from datetime import timedelta

    batch.pool.held_until = batch.time.now + timedelta(seconds=60)
    batch.pool.save()
    batch.time.go(3)
    assert services.tend(pool_id=batch.pool.id) is False


def test_a_namespace_that_is_in_use_is_refused(batch: Batch) -> None:
    batch.cell.api.create(
        NAMESPACES, "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"{batch.cell.namespace}-x"}}
    )
    services.change(
        actor=batch.who.actor, cluster_id=batch.cluster_id, fields={"namespace": f"{batch.cell.namespace}-x"}
    )
    batch.time.go(3)
    services.tend(pool_id=batch.pool.id)
    assert "kubectl label namespace" in batch.problem


def test_a_missing_right_is_named(batch: Batch, fake: Any) -> None:
    fake.deny(verb="create", resource="jobs")
    task = batch.submit()
    batch.time.go(3)
    services.tend(pool_id=batch.pool.id)
    assert "does not allow POST /apis/batch/v1" in batch.problem
    assert "by itself" not in batch.problem
    fake.denied.clear()
    batch.look(2, seconds=61)
    assert (batch.now(task)[0], len(batch.cell.made)) == ("claimed", 1)


def test_offers_are_checked(batch: Batch) -> None:
    cluster_id = batch.cluster_id
    for namespace in ("kube-system", "default", "Upper", "-x"):
        with pytest.raises(InvalidInput):
            services.change(actor=batch.who.actor, cluster_id=cluster_id, fields={"namespace": namespace})
    batch.submit()
    batch.look()
    with pytest.raises(InvalidState):
        services.withdraw(actor=batch.who.actor, cluster_id=cluster_id)
    with pytest.raises(InvalidState):
        services.change(actor=batch.who.actor, cluster_id=cluster_id, fields={"namespace": "elsewhere"})


def test_figures_come_from_the_clusters_own_measurements(batch: Batch, fake: Any) -> None:
    task, job = batch.running()
    pod = batch.cell.pods(job)[0]["metadata"]
    fake.create({
        "apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics",
        "metadata": {"name": pod["name"], "namespace": pod["namespace"], "labels": pod["labels"]},
        "containers": [{"name": "task", "usage": {"cpu": "250000000n", "memory": "65536Ki"}}],
    })  # fmt: skip
    batch.look(1, seconds=20)
    (sample,) = selectors.task_history(task=task)
    assert (sample["cpu"], sample["memory"]) == (25.0, 64.0)
