"""Spot mode of an Auto Scaling group: from the page through service, operation, provider and log, on moto over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client

from audit.models import AuditEntry
from clusters import group_executor, services
from clusters.models import Cluster, Summary
from clusters.providers.aws_groups import AwsNodeGroups
from clusters.sleeping import gateway
from operations import runner
from tests.clusters.conftest import Joined, run_group_change
from tests.clusters.sleeping.aws import MotoCloud
from tests.personas import Persona

pytestmark = [pytest.mark.django_db, pytest.mark.integration]
GROUP = "workers"
SPREAD = [{"InstanceType": "m5.large"}, {"InstanceType": "m5a.large"}]


@pytest.fixture
def cloud() -> Iterator[MotoCloud]:
    """An account with an Auto Scaling group of lark-prod: a mixed policy, all on-demand beyond the first machine."""
    from moto.core.models import botocore_stubber  # noqa: F401  the backends are loaded
    from moto.moto_api._internal.models import moto_api_backend

    with MotoCloud() as moto:
        moto.prepare("lark-prod")
        made = moto.client("ec2").create_launch_template(
            LaunchTemplateName="workers", LaunchTemplateData={"ImageId": "ami-12c6146b", "InstanceType": "m5.large"}
        )["LaunchTemplate"]
        moto.client("autoscaling").create_auto_scaling_group(
            AutoScalingGroupName=GROUP,
            MinSize=0,
            MaxSize=4,
            DesiredCapacity=0,
            AvailabilityZones=["us-east-1a"],
            MixedInstancesPolicy={
                "LaunchTemplate": {
                    "LaunchTemplateSpecification": {"LaunchTemplateId": made["LaunchTemplateId"], "Version": "$Latest"},
                    "Overrides": SPREAD,
                },
                "InstancesDistribution": {"OnDemandBaseCapacity": 1, "OnDemandPercentageAboveBaseCapacity": 100},
            },
            Tags=[{"Key": "kubernetes.io/cluster/lark-prod", "Value": "owned", "PropagateAtLaunch": True}],
        )
        yield moto
        moto_api_backend.reset()


@pytest.fixture
def prod(cloud: MotoCloud, join: Callable[..., Joined], monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(runner._LeaseKeeper, "start", lambda self: None)
    monkeypatch.setattr(gateway, "open_groups", lambda cluster: cloud.groups("lark-prod"))
    row = join("lark-prod").report()
    assert group_executor.read_groups(cluster_id=row.id)
    return row


def _policy(cloud: MotoCloud) -> dict[str, Any]:
    found = cloud.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[GROUP])
    policy: dict[str, Any] = found["AutoScalingGroups"][0]["MixedInstancesPolicy"]
    return policy


def test_spot_mode_is_turned_on_and_off_and_nothing_else_is_touched(
    cloud: MotoCloud, prod: Cluster, alice: Persona, bob: Persona, client_of: Callable[[Persona], Client]
) -> None:
    before, url = _policy(cloud), f"/clusters/{prod.id}/groups"
    posted = {"kind": "asg", "name": GROUP, "low": "0", "high": "4", "spot": "1"}
    assert client_of(bob).post(url, posted).status_code == 403
    for wanted, share in (("1", 0), ("0", 100)):
        assert "Spot mode<" in client_of(alice).get(f"/clusters/{prod.id}/?tab=nodes").content.decode()
        assert client_of(alice).post(url, {**posted, "spot": wanted}).status_code == 302
        done = run_group_change()
        assert done.status == "succeeded", done.error
        assert _policy(cloud)["InstancesDistribution"]["OnDemandPercentageAboveBaseCapacity"] == share
        assert _policy(cloud)["InstancesDistribution"]["OnDemandBaseCapacity"] == 1
        assert _policy(cloud)["LaunchTemplate"]["Overrides"] == before["LaunchTemplate"]["Overrides"]
        assert group_executor.read_groups(cluster_id=prod.id)
        (group,) = Summary.objects.all_orgs().get(cluster=prod).cloud_groups
        assert group["spot"] is (wanted == "1")
    entries = AuditEntry.objects.all_orgs().filter(verb="cluster.group_change_requested").order_by("seq")
    assert [entry.changes["spot"] for entry in entries] == [[False, True], [True, False]]


def test_a_purchase_that_something_else_sets_back_is_no_success(
    prod: Cluster, alice: Persona, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AwsNodeGroups, "steer", lambda self, group, **more: None)
    services.request_group_change(
        actor=alice.actor, cluster_id=prod.id, kind="asg", name=GROUP, low=0, high=4, spot=True
    )
    asked = run_group_change()
    assert asked.status != "succeeded"
    assert "buys otherwise" in asked.error


def test_a_launch_template_is_asked_for_by_one_name() -> None:
    from clusters.providers.aws_groups import _one_name

    told = {"LaunchTemplateId": "lt-1", "LaunchTemplateName": "workers", "Version": "3"}
    assert _one_name(told) == {"LaunchTemplateId": "lt-1", "Version": "3"}
    assert _one_name({"LaunchTemplateName": "workers"}) == {"LaunchTemplateName": "workers"}
