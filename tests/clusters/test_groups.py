"""Node groups: limits and purchase changed at the cloud (moto over HTTP) by an operation that may be killed anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from django.test import Client

from accounts.models import CloudAccount
from clusters import group_executor, services
from clusters.models import Cluster, Summary
from core import encryption
from core.errors import InvalidInput, InvalidState, NotFound
from operations import runner
from operations.models import Operation
from tests.clusters.report import Reporter, cluster
from tests.fakes.aws import SandboxAws
from tests.personas import Persona, make_account

pytestmark = [pytest.mark.django_db, pytest.mark.integration]
NUMBER = "111111111111"
ARN = f"arn:aws:eks:us-east-1:{NUMBER}:cluster/lark-prod"


class Killed(BaseException):
    """The worker's end."""


@pytest.fixture(scope="module")
def aws() -> Iterator[SandboxAws]:
    with SandboxAws(seed=True) as server:
        yield server


def _client(aws: SandboxAws, service: str) -> Any:
    keys = aws.credentials()["accounts"][0]
    names = ("access_key_id", "secret_access_key")
    return boto3.client(
        service, endpoint_url=aws.url, region_name="us-east-1", **{f"aws_{name}": keys[name] for name in names}
    )


@pytest.fixture
def account(aws: SandboxAws, alice: Persona, settings: Any, monkeypatch: pytest.MonkeyPatch) -> CloudAccount:
    settings.CURFEW_SANDBOX_AWS_ENDPOINT = aws.url
    monkeypatch.setattr(runner._LeaseKeeper, "start", lambda self: None)
    aws.heal()
    row = make_account(alice.organization, number=NUMBER, is_sandbox=True)
    row.credentials = encryption.seal({"aws_account_id": NUMBER}, bound_to=row.seal_name)
    row.save()
    return row


@pytest.fixture
def prod(account: CloudAccount, alice: Persona) -> Cluster:
    """lark-prod, reported once, its groups read from the cloud."""
    made = services.create_cluster(
        actor=alice.actor, name="lark-prod", account_id=account.id, external_id=ARN, region="us-east-1"
    )
    from accounts import selectors as accounts

    token = accounts.agent_token(made.token)
    assert token is not None
    body = Reporter(cluster(2, 6), uid="prod").full()
    assert services.ingest_snapshot(token=token, body=body)[0] == 200
    services.refigure(cluster_id=made.cluster.id)
    assert group_executor.read_groups(cluster_id=made.cluster.id)
    return made.cluster


def _groups(row: Cluster) -> dict[str, dict[str, Any]]:
    return {group["name"]: group for group in Summary.objects.all_orgs().get(cluster=row).cloud_groups}


def _sizes(aws: SandboxAws, group: str) -> tuple[int, int, int]:
    raw = _client(aws, "eks").describe_nodegroup(clusterName="lark-prod", nodegroupName=group)["nodegroup"]
    scaling = raw["scalingConfig"]
    return scaling["minSize"], scaling["desiredSize"], scaling["maxSize"]


def _change(alice: Persona, row: Cluster, group: str, low: int, high: int, **more: Any) -> Operation:
    kind = _groups(row)[group]["kind"]
    return services.request_group_change(
        actor=alice.actor, cluster_id=row.id, kind=kind, name=group, low=low, high=high, **more
    )


def test_limits_of_a_managed_group_reach_the_cloud(
    aws: SandboxAws, prod: Cluster, alice: Persona, client_of: Callable[[Persona], Client]
) -> None:
    groups = _groups(prod)
    assert (groups["general"]["low"], groups["general"]["desired"], groups["general"]["high"]) == (2, 3, 6)
    assert groups["general"]["spot"] is None
    page = client_of(alice).get(f"/clusters/{prod.id}/?tab=nodes").content.decode()
    assert 'aria-label="Least nodes of general"' in page
    answer = client_of(alice).post(
        f"/clusters/{prod.id}/groups", {"kind": "managed", "name": "general", "low": "4", "high": "9"}
    )
    assert answer.status_code == 302
    asked = Operation.objects.all_orgs().get(kind="cluster.group")
    runner.run_operation(asked.id)
    asked.refresh_from_db()
    assert asked.status == "succeeded", asked.error
    assert asked.result == {"before": "2-3-6", "after": "4-4-9", "spot": None}
    assert _sizes(aws, "general") == (4, 4, 9)
    group_executor.read_groups(cluster_id=prod.id)
    assert _groups(prod)["general"]["high"] == 9
    _client(aws, "eks").update_nodegroup_config(
        clusterName="lark-prod", nodegroupName="general", scalingConfig={"minSize": 2, "desiredSize": 3, "maxSize": 6}
    )


def test_what_cannot_be_is_refused_before_the_cloud_is_asked(prod: Cluster, alice: Persona, mallory: Persona) -> None:
    for low, high in ((5, 4), (0, 0), (0, 5000)):
        with pytest.raises(InvalidInput):
            _change(alice, prod, "general", low, high)
    with pytest.raises(InvalidInput):
        _change(alice, prod, "general", 1, 4, spot=True)
    with pytest.raises(NotFound):
        services.request_group_change(
            actor=alice.actor, cluster_id=prod.id, kind="managed", name="nobody", low=0, high=1
        )
    with pytest.raises(NotFound):
        services.request_group_change(
            actor=mallory.actor, cluster_id=prod.id, kind="managed", name="general", low=0, high=1
        )
    services.mark_asleep(actor=alice.actor, cluster_id=prod.id)
    with pytest.raises(InvalidState):
        _change(alice, prod, "general", 1, 4)
    assert not Operation.objects.all_orgs().filter(kind="cluster.group").exists()


@pytest.mark.parametrize("fatal", ["before", "after"])
def test_a_kill_around_the_order_changes_the_group_once(
    aws: SandboxAws, prod: Cluster, alice: Persona, monkeypatch: pytest.MonkeyPatch, fatal: str
) -> None:
    from clusters.providers.aws_groups import AwsNodeGroups

    real, orders = AwsNodeGroups.resize, []

    def resize(self: Any, *args: Any, **more: Any) -> None:
        orders.append(args)
        if fatal == "after":
            real(self, *args, **more)
        if len(orders) == 1:
            raise Killed
        if fatal == "before":
            real(self, *args, **more)

    monkeypatch.setattr(AwsNodeGroups, "resize", resize)
    asked = _change(alice, prod, "burst", 1, 20)
    with pytest.raises(Killed):
        runner.run_operation(asked.id)
    Operation.objects.all_orgs().filter(id=asked.id).update(status="queued", lease_expires_at=None)
    runner.run_operation(asked.id)
    asked.refresh_from_db()
    assert asked.status == "succeeded", asked.error
    assert asked.result["before"] == "0-2-12", "what it was before is remembered over the kill"
    assert _sizes(aws, "burst") == (1, 2, 20)
    assert len(orders) == (2 if fatal == "before" else 1)
    _client(aws, "eks").update_nodegroup_config(
        clusterName="lark-prod", nodegroupName="burst", scalingConfig={"minSize": 0, "desiredSize": 2, "maxSize": 12}
    )


def test_a_refusal_of_the_cloud_is_shown_and_nothing_known_is_lost(
    aws: SandboxAws, prod: Cluster, alice: Persona, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clusters.providers.aws_groups import AwsNodeGroups
    from core.providers import PermissionDenied

    def denied(self: Any, *args: Any, **more: Any) -> Any:
        raise PermissionDenied("The connected identity lacks the permission eks:UpdateNodegroupConfig.")

    before = _groups(prod)
    monkeypatch.setattr(AwsNodeGroups, "resize", denied)
    monkeypatch.setattr(AwsNodeGroups, "list", denied)
    asked = _change(alice, prod, "general", 1, 4)
    runner.run_operation(asked.id)
    asked.refresh_from_db()
    assert asked.status == "failed"
    assert "eks:UpdateNodegroupConfig" in asked.error
    assert not group_executor.read_groups(cluster_id=prod.id)
    assert _groups(prod) == before
    assert "lacks the permission" in Summary.objects.all_orgs().get(cluster=prod).groups_problem
