"""How busy a machine is, and who switched it, as CloudWatch, Azure Monitor and CloudTrail tell: nothing missing is made up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from cloudnodes.providers.aws import AwsNodeProvider
from cloudnodes.providers.azure import AzureNodeProvider
from cloudnodes.providers.load import PERIOD, Load, Switched, azure_processors, put_together
from core.providers import BadAnswer, PermissionDenied

pytestmark = pytest.mark.unit
NOW = datetime(2026, 3, 18, 10, 3, tzinfo=UTC)
NEWEST = datetime(2026, 3, 18, 9, 50, tzinfo=UTC)
NODE = "i-0123456789abcdef0"


class Connection:
    """One stubbed client for each service."""

    region = "us-east-1"

    def __init__(self) -> None:
        self.stubs: dict[str, Stubber] = {}
        self.clients: dict[str, Any] = {}
        for service in ("ec2", "cloudwatch", "cloudtrail"):
            client = boto3.client(
                service, region_name="us-east-1", aws_access_key_id="AKIAEXAMPLE", aws_secret_access_key="x"
            )
            self.clients[service], self.stubs[service] = client, Stubber(client)
            self.stubs[service].activate()

    def client(self, service: str, *, region: str = "") -> Any:
        return self.clients[service]

    def secrets(self) -> list[str]:
        return []


@pytest.fixture
def aws() -> Iterator[Connection]:
    found = Connection()
    yield found
    for stub in found.stubs.values():
        stub.assert_no_pending_responses()


def types(aws: Connection) -> None:
    aws.stubs["ec2"].add_response(
        "describe_instance_types",
        {"InstanceTypes": [{"InstanceType": "g5.xlarge", "VCpuInfo": {"DefaultVCpus": 4}}]},
        {"InstanceTypes": ["g5.xlarge"]},
    )


def figures(aws: Connection, **series: list[tuple[datetime, float]]) -> None:
    aws.stubs["cloudwatch"].add_response(
        "get_metric_data",
        {
            "MetricDataResults": [
                {"Id": name, "Timestamps": [at for at, _ in points], "Values": [value for _, value in points]}
                for name, points in series.items()
            ]
        },
    )


def load(aws: Connection) -> Load | None:
    return AwsNodeProvider(aws).load(NODE, instance_type="g5.xlarge", now=NOW)  # type: ignore[arg-type]


def test_ec2_is_as_busy_as_its_busiest_whole_period(aws: Connection) -> None:
    types(aws)
    earlier = NEWEST - PERIOD
    figures(
        aws,
        cpu=[(NEWEST, 1.0), (earlier, 6.0)],
        received=[(NEWEST, 30_000.0), (earlier, 1_000.0)],
        sent=[(NEWEST, 60_000.0), (earlier, 1_000.0)],
    )
    assert load(aws) == Load(24.0, 300.0, NEWEST + PERIOD)


@pytest.mark.parametrize(
    "series",
    [
        {},
        {"cpu": [(NEWEST, 0.1)]},
        {"cpu": [(NEWEST, 0.1)], "received": [(NEWEST, 1.0)], "sent": []},
        # the newest figure has no companion yet: it may be the one that is busy
        {
            "cpu": [(NEWEST, 90.0), (NEWEST - PERIOD, 0.1)],
            "received": [(NEWEST - PERIOD, 1.0)],
            "sent": [(NEWEST - PERIOD, 1.0)],
        },
    ],
)
def test_a_figure_that_is_missing_is_not_made_up(aws: Connection, series: dict[str, Any]) -> None:
    types(aws)
    figures(aws, **series)
    assert load(aws) is None


def test_an_account_that_does_not_allow_it_says_so(aws: Connection) -> None:
    types(aws)
    aws.stubs["cloudwatch"].add_client_error("get_metric_data", "AccessDenied", "not allowed", 403)
    with pytest.raises(PermissionDenied):
        load(aws)


class Azure:
    """Answers as Azure Resource Manager."""

    subscription_id = "5e0f"

    def __init__(self, body: dict[str, Any]) -> None:
        self.body, self.asked = body, ""

    def get_json(self, url: str, *, action: str = "") -> dict[str, Any]:
        self.asked = url
        return self.body


VM = "/subscriptions/5e0f/resourceGroups/studio/providers/Microsoft.Compute/virtualMachines/flux"


def metric(name: str, statistic: str, *values: float | None) -> dict[str, Any]:
    points = []
    for n, value in enumerate(values):
        at = f"{NEWEST - PERIOD * (len(values) - 1 - n):%Y-%m-%dT%H:%M:%SZ}"
        points.append({"timeStamp": at} | ({} if value is None else {statistic: value}))
    return {"name": {"value": name}, "timeseries": [{"data": points}]}


def azure_load(*metrics: dict[str, Any]) -> Load | None:
    provider = AzureNodeProvider(Azure({"value": list(metrics)}))  # type: ignore[arg-type]
    return provider.load(VM, instance_type="Standard_NC24ads_A100_v4", now=NOW)


def test_azure_is_read_the_same_way() -> None:
    found = azure_load(
        metric("Percentage CPU", "maximum", 3.0, 0.5),
        metric("Network In Total", "total", 600.0, 0.0),
        metric("Network Out Total", "total", 0.0, 0.0),
    )
    assert found == Load(72.0, 2.0, NEWEST + PERIOD)
    assert azure_load(metric("Percentage CPU", "maximum", 0.1)) is None
    with pytest.raises(BadAnswer):
        azure_load({"name": {}})


@pytest.mark.parametrize(
    ("size", "processors"),
    [("Standard_NC6s_v3", 6), ("Standard_M64-32ms", 32), ("Standard_D2", 2), ("", 0), ("Custom", 0)],
)
def test_processors_of_a_size(size: str, processors: int) -> None:
    assert azure_processors(size) == processors


def test_without_the_number_of_processors_nothing_is_known() -> None:
    assert put_together({NEWEST: 0.1}, {NEWEST: 0.0}, {NEWEST: 0.0}, 0) is None


def event(name: str, at: datetime, identity: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "EventName": name,
        "EventTime": at,
        "CloudTrailEvent": json.dumps({"userIdentity": identity, **more}),
    }


BOB = {"type": "IAMUser", "userName": "bob", "arn": "arn:aws:iam::222222222222:user/bob"}
ADMIN = {"type": "AssumedRole", "arn": "arn:aws:sts::222222222222:assumed-role/Admin/carol"}
SCALER = {"type": "AWSService", "invokedBy": "autoscaling.amazonaws.com"}


@pytest.mark.parametrize(
    ("events", "how", "found"),
    [
        ([], "stop", None),
        ([event("StopInstances", NOW, BOB)], "start", None),
        ([event("StopInstances", NOW, BOB)], "stop", Switched("user bob", "StopInstances", NOW)),
        ([event("StopInstances", NOW, BOB, errorCode="Client.UnauthorizedOperation")], "stop", None),
        (
            [event("StartInstances", NOW - timedelta(hours=1), BOB), event("StartInstances", NOW, ADMIN)],
            "start",
            Switched("role Admin (carol)", "StartInstances", NOW),
        ),
        (
            [event("TerminateInstances", NOW, SCALER)],
            "delete",
            Switched("autoscaling.amazonaws.com", "TerminateInstances", NOW),
        ),
        ([event("StopInstances", NOW, {"type": "Root"})], "stop", Switched("the root user", "StopInstances", NOW)),
    ],
)
def test_who_it_was(aws: Connection, events: list[dict[str, Any]], how: str, found: Switched | None) -> None:
    since = NOW - timedelta(hours=6)
    aws.stubs["cloudtrail"].add_response(
        "lookup_events",
        {"Events": events},
        {
            "LookupAttributes": [{"AttributeKey": "ResourceName", "AttributeValue": NODE}],
            "StartTime": since,
            "EndTime": NOW,
            "MaxResults": 50,
        },
    )
    provider = AwsNodeProvider(aws)  # type: ignore[arg-type]
    assert provider.who_switched(NODE, how=how, since=since, until=NOW) == found
