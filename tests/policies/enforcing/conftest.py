"""A cluster on a fake API server with its machines in moto, under a policy that enforces, and a worker without patience."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from clusters.enums import Method, State
from clusters.models import Cluster as Row
from clusters.providers.kube import HttpKube
from core import clock
from costs.models import CatalogPrice
from operations import runner
from operations.enums import ACTIVE
from operations.models import Operation
from policies.catalogue import catalogue
from policies.document import Document
from policies.enforcing import executors, gateway
from policies.models import Policy, PolicyAssignment
from tests.personas import Persona
from tests.policies.enforcing.world import BIG, NAME, SMALL, Cloud, Cluster

QUICK: dict[str, Any] = {
    "autoscaling": {"enabled": True, "strategy": "lowest_price"},
    "consolidation": {
        "enabled": True,
        "level": "conservative",
        "method": "replace_and_move",
        "stabilization_minutes": 0,
        "budgets": [{"nodes": "100%"}],
    },
}


@pytest.fixture(scope="module")
def _moto() -> Iterator[Cloud]:
    with Cloud() as cloud:
        yield cloud


@pytest.fixture
def cloud(_moto: Cloud) -> Iterator[Cloud]:
    from moto.core.models import botocore_stubber  # noqa: F401  the backends are loaded
    from moto.moto_api._internal.models import moto_api_backend

    yield _moto
    _moto.before = _moto.after = lambda what: None
    _moto.failures.clear()
    _moto.changes.clear()
    _moto.full.clear()
    _moto.fleets.clear()
    _moto.tokens.clear()
    _moto.code = "InsufficientInstanceCapacity"
    moto_api_backend.reset()


@pytest.fixture
def kube(cloud: Cloud) -> Iterator[Cluster]:
    with Cluster(cloud) as server:
        yield server


@contextmanager
def reached(kube: Cluster) -> Iterator[HttpKube]:
    from kubernetes.client import ApiClient, Configuration

    with ApiClient(Configuration(host=kube.url)) as api:
        yield HttpKube(api)


@pytest.fixture
def row(alice: Persona, kube: Cluster, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Row:
    """The registered cluster; its ways lead to the fakes."""
    cloud.prepare(NAME)
    made = Row.objects.create(
        organization_id=alice.organization.id,
        name=NAME,
        method=Method.KUBECONFIG,
        credentials="sealed",
        cloud="aws",
        region="eu-west-1",
        state=State.LIVE,
        created_at=clock.now(),
    )
    for kind in (BIG, SMALL):
        price = catalogue().price(kind, "eu-west-1")
        assert price is not None
        CatalogPrice.objects.create(
            provider="aws",
            region="eu-west-1",
            instance_type=kind,
            lifecycle="on_demand",
            hourly=price.on_demand,
            currency="USD",
            source="AWS list price",
            as_of=price.as_of,
        )
    monkeypatch.setattr(gateway, "open_kube", lambda cluster: reached(kube))
    monkeypatch.setattr(gateway, "open_groups", lambda cluster: cloud.groups(NAME))
    monkeypatch.setattr(gateway, "open_machines", lambda cluster: cloud.machines())
    monkeypatch.setattr(executors, "LOOK_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(executors, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(runner, "backoff", lambda attempt: 0.0)
    return made


@pytest.fixture
def apply_policy(row: Row, alice: Persona) -> Callable[..., PolicyAssignment]:
    """Put the cluster under a policy; what is given replaces cards of the quick one."""

    def apply(mode: str = "enforce", **cards: Any) -> PolicyAssignment:
        document = Document.from_json({**QUICK, **cards}).to_json()
        org, now = alice.organization.id, clock.now()
        policy = Policy.objects.create(
            organization_id=org, name="quick", document=document, created_at=now, updated_at=now
        )
        return PolicyAssignment.objects.create(organization_id=org, cluster=row, policy=policy, mode=mode, since=now)

    return apply


@pytest.fixture
def work() -> Callable[..., list[str]]:
    """Run what is due until everything has ended, at most so often; what each run came to."""

    def run(most: int = 300) -> list[str]:
        outcomes: list[str] = []
        for _ in range(most):
            due = Operation.objects.all_orgs().filter(status__in=ACTIVE).order_by("not_before").first()
            if due is None:
                return outcomes
            Operation.objects.all_orgs().filter(id=due.id).update(not_before=clock.now())
            outcomes.append(runner.run_operation(due.id))
        return outcomes

    return run
