"""A cluster on a fake API server with its groups in moto, and a worker that does not wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from clusters.enums import Method, State
from clusters.models import Cluster
from clusters.providers.kube import HttpKube
from clusters.sleeping import executors, gateway, hands
from core import clock
from operations import runner
from operations.enums import ACTIVE
from operations.models import Operation
from tests.clusters.sleeping import fleet
from tests.clusters.sleeping.aws import MotoCloud
from tests.clusters.sleeping.life import LivingKube
from tests.personas import Persona


@pytest.fixture(scope="module")
def _moto() -> Iterator[MotoCloud]:
    with MotoCloud() as cloud:
        yield cloud


@pytest.fixture
def cloud(_moto: MotoCloud) -> Iterator[MotoCloud]:
    from moto.core.models import botocore_stubber  # noqa: F401  the backends are loaded
    from moto.moto_api._internal.models import moto_api_backend

    yield _moto
    _moto.before = _moto.after = lambda what: None
    _moto.failures.clear()
    _moto.changes.clear()
    moto_api_backend.reset()


@pytest.fixture
def kube(cloud: MotoCloud) -> Iterator[LivingKube]:
    with LivingKube(cloud) as server:
        yield server


@contextmanager
def reached(kube: LivingKube) -> Iterator[HttpKube]:
    from kubernetes.client import ApiClient, Configuration

    with ApiClient(Configuration(host=kube.url)) as api:
        yield HttpKube(api)


@pytest.fixture
def cluster(alice: Persona, kube: LivingKube, cloud: MotoCloud, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A registered cluster whose ways lead to the fakes."""
    row = Cluster.objects.create(
        organization_id=alice.organization.id,
        name=fleet.NAME,
        method=Method.KUBECONFIG,
        credentials="sealed",
        state=State.LIVE,
        created_at=clock.now(),
        state_since=clock.now(),
    )
    monkeypatch.setattr(gateway, "open_kube", lambda cluster: reached(kube))
    monkeypatch.setattr(gateway, "open_groups", lambda cluster: cloud.groups(fleet.NAME))
    monkeypatch.setattr(executors, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(hands, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(runner, "backoff", lambda attempt: 0.0)
    return row


@pytest.fixture
def work() -> Callable[[], list[str]]:
    """Run what is due until everything has ended; what each run came to."""

    def run() -> list[str]:
        outcomes = []
        for _ in range(400):
            due = Operation.objects.all_orgs().filter(status__in=ACTIVE).first()
            if due is None:
                return outcomes
            outcomes.append(runner.run_operation(due.id))
        raise AssertionError(f"never ended: {due.step} {due.state}")

    return run


def ended(operation: Operation) -> Any:
    operation.refresh_from_db()
    return operation.status, operation.error, operation.result
