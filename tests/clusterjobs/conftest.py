"""A cluster that runs tasks, on the best API server to be had here, with a kubelet that does what tests say."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from clusterjobs import gateway, services
from clusterjobs.models import JobPool, JobRun
from clusterjobs.providers.kube import HttpJobs
from clusters.enums import Method, State
from clusters.models import Cluster
from core import clock
from taskrunner import services as tasks
from taskrunner.models import Task
from tests.fakes.control_plane import Plane, binaries, control_plane
from tests.fakes.kube import FakeKube
from tests.fakes.kubelet import Kubelet
from tests.personas import Persona


class Time:
    def __init__(self) -> None:
        self.now = datetime(2031, 6, 12, 9, 0, tzinfo=UTC)

    def go(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    moving = Time()
    monkeypatch.setattr(clock, "now", lambda: moving.now)
    return moving


@pytest.fixture(scope="session")
def plane() -> Iterator[Plane]:
    if binaries() is None or os.environ.get("CURFEW_CONTROL_PLANE") == "fake":
        with FakeKube(token="t") as fake:  # without TLS, whose certificates take longer to make than all tests here
            yield Plane(fake.url, fake.token, "", fake)
        return
    with control_plane() as made:
        yield made


@contextmanager
def reached(plane: Plane) -> Iterator[HttpJobs]:
    from kubernetes.client import ApiClient, Configuration

    configuration = Configuration(host=plane.url)
    configuration.ssl_ca_cert = plane.ca_file or None
    configuration.api_key = {"authorization": plane.token}
    configuration.api_key_prefix = {"authorization": "Bearer"}
    with ApiClient(configuration) as api:
        yield HttpJobs(api)


@pytest.fixture
def cluster(alice: Persona, plane: Plane, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    row = Cluster.objects.create(
        organization_id=alice.organization.id,
        name="lark-batch",
        method=Method.KUBECONFIG,
        credentials="sealed",
        state=State.LIVE,
        created_at=clock.now(),
    )
    monkeypatch.setattr(gateway, "open_jobs", lambda cluster: reached(plane))
    return row


@pytest.fixture
def api(plane: Plane) -> Iterator[HttpJobs]:
    with reached(plane) as made:
        yield made


class Batch:
    """The pool, its cell, and looks that follow one another."""

    def __init__(self, pool: JobPool, cell: Kubelet, time: Time, who: Persona) -> None:
        self.pool, self.cell, self.time, self.who = pool, cell, time, who
        assert pool.cluster_id is not None
        self.cluster_id = pool.cluster_id

    def look(self, times: int = 1, seconds: float = 3) -> None:
        for _ in range(times):
            self.time.go(seconds)
            assert services.tend(pool_id=self.pool.id)
            self.cell.step()

    def submit(self, name: str = "train", **fields: Any) -> Task:
        given = {"name": name, "image": "busybox:1", "command": ["true"], "memory": 64, "cpu": 100, **fields}
        return tasks.submit(actor=self.who.actor, fields=given)

    def running(self, **fields: Any) -> tuple[Task, str]:
        """A task whose container runs, and its Job's name."""
        task = self.submit(**fields)
        self.look()
        job = JobRun.objects.all_orgs().get(task=task).name
        self.cell.run(job)
        self.look()
        task.refresh_from_db()
        return task, job

    def now(self, task: Task) -> Any:
        task.refresh_from_db()
        return task.status, task.exit_class

    @property
    def problem(self) -> str:
        self.pool.refresh_from_db()
        return self.pool.problem


@pytest.fixture
def batch(alice: Persona, cluster: Cluster, plane: Plane, time: Time, api: HttpJobs) -> Iterator[Batch]:
    namespace = f"tasks-{secrets.token_hex(4)}"
    pool = services.offer(
        actor=alice.actor,
        cluster_id=cluster.id,
        fields={"cpu": 4000, "memory": 8192, "storage": 10_000, "gpus": 2, "namespace": namespace},
    )
    cell = Kubelet(api, namespace, plane.fake, lambda: time.now)
    made = Batch(pool, cell, time, alice)
    yield made
    if plane.fake is not None:
        plane.fake.faults.clear()
        plane.fake.denied.clear()


@pytest.fixture
def fake(plane: Plane) -> Any:
    """The fake API server, for what no real one can be made to do."""
    if plane.fake is None:
        pytest.skip("a real API server has no kubelet behind it")
    return plane.fake
