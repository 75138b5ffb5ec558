"""The sandbox AWS: what the demo and other suites lean on."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.fakes.aws import ROOT, SandboxAws

pytestmark = pytest.mark.integration


def client(aws: SandboxAws, service: str, **more: Any) -> Any:
    account = aws.credentials()["accounts"][0]
    return boto3.client(
        service,
        endpoint_url=aws.url,
        region_name="us-east-1",
        aws_access_key_id=account["access_key_id"],
        aws_secret_access_key=account["secret_access_key"],
        config=Config(retries={"total_max_attempts": 1}),
        **more,
    )


def test_seeding_again_makes_nothing_twice(aws: SandboxAws) -> None:
    assert aws.call("POST", "/_sandbox/seed") == {
        "created": {"111111111111": [], "222222222222": []},
        "clusters": [],
    }
    reservations = client(aws, "ec2").describe_instances()["Reservations"]
    names = [t["Value"] for r in reservations for i in r["Instances"] for t in i["Tags"] if t["Key"] == "Name"]
    assert len(names) == len(set(names)) == 14


def test_demo_keys_may_do_only_what_curfew_does(aws: SandboxAws) -> None:
    ec2 = client(aws, "ec2")
    ec2.describe_instances()
    with pytest.raises(ec2.exceptions.ClientError, match="not authorized to perform: ec2:TerminateInstances"):
        ec2.terminate_instances(InstanceIds=["i-0123456789abcdef0"])


def test_on_demand_prices(aws: SandboxAws) -> None:
    pricing = client(aws, "pricing")
    filters = [
        {"Type": "TERM_MATCH", "Field": f, "Value": v}
        for f, v in (("instanceType", "g5.xlarge"), ("regionCode", "us-east-1"))
    ]
    (product,) = [json.loads(p) for p in pricing.get_products(ServiceCode="AmazonEC2", Filters=filters)["PriceList"]]
    (term,) = product["terms"]["OnDemand"].values()
    (dimension,) = term["priceDimensions"].values()
    assert Decimal(dimension["pricePerUnit"]["USD"]) == Decimal("1.006")
    unknown = [{"Type": "TERM_MATCH", "Field": "instanceType", "Value": "z9.huge"}]
    assert pricing.get_products(ServiceCode="AmazonEC2", Filters=unknown)["PriceList"] == []


def test_spot_prices_are_recent_below_list_and_stable(aws: SandboxAws) -> None:
    ec2 = client(aws, "ec2")
    first = ec2.describe_spot_price_history(InstanceTypes=["g4dn.xlarge"])["SpotPriceHistory"]
    assert first == ec2.describe_spot_price_history(InstanceTypes=["g4dn.xlarge"])["SpotPriceHistory"]
    assert {p["AvailabilityZone"] for p in first} == {"us-east-1a", "us-east-1b", "us-east-1c"}
    assert all(
        Decimal("0.526") * Decimal("0.29") < Decimal(p["SpotPrice"]) < Decimal("0.526") * Decimal("0.46") for p in first
    )
    assert max(p["Timestamp"] for p in first).timestamp() > time.time() - 3700


def test_placement_scores(aws: SandboxAws) -> None:
    scores = client(aws, "ec2").get_spot_placement_scores(TargetCapacity=1, RegionNames=["us-east-1", "eu-west-1"])[
        "SpotPlacementScores"
    ]
    assert {s["Region"] for s in scores} == {"us-east-1", "eu-west-1"}
    assert all(1 <= s["Score"] <= 10 for s in scores)


def test_pages_of_other_origins_get_nothing(aws: SandboxAws) -> None:
    request = urllib.request.Request(f"{aws.url}/_sandbox/credentials", headers={"Origin": "https://evil.example"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=5)
    assert caught.value.code == 403
    caught.value.close()


def test_it_ends_when_its_parent_is_killed() -> None:
    script = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-m', 'cloudnodes.sandbox.aws_server'], stdout=subprocess.PIPE, text=True)\n"
        "print(p.pid, p.stdout.readline().strip(), flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid, port = parent.stdout.readline().split()
    assert int(port) > 0
    parent.kill()
    parent.wait(timeout=10)
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while _alive(int(pid)) and time.monotonic() < deadline:
        time.sleep(0.2)
    alive = _alive(int(pid))
    if alive:
        os.kill(int(pid), signal.SIGKILL)
    assert not alive


def _post(url: str, body: dict[str, Any]) -> Any:
    data = json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_killed_in_the_middle_of_a_start_it_goes_on_where_it_was(tmp_path: Path) -> None:
    state = tmp_path / "sandbox.state"
    where = {"account_id": "111111111111", "region": "us-east-1"}
    with SandboxAws(state=state, transition_seconds=1.0) as first:
        port, keys = int(first.url.rpartition(":")[2]), first.credentials()
        made = _post(f"{first.url}/_sandbox/instance", {**where, "instance_type": "m5.large", "tags": {"Name": "one"}})
        _post(f"{first.url}/_sandbox/role", {"external_id": "an-external-id"})
        ids = [made["instance_id"]]
        answer = _ec2(first.url, keys["accounts"][0]).start_instances(InstanceIds=ids)
        assert answer["StartingInstances"][0]["CurrentState"]["Name"] == "pending"
        os.kill(first.pid, signal.SIGKILL)
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    with SandboxAws(state=state, port=port, transition_seconds=1.0) as second:
        assert second.credentials() == keys
        ec2 = _ec2(second.url, keys["accounts"][0])
        assert _state(ec2, ids) in {"pending", "running"}
        ec2.get_waiter("instance_running").wait(InstanceIds=ids, WaiterConfig={"Delay": 1, "MaxAttempts": 5})
        with urllib.request.urlopen(f"{second.url}/_sandbox/changes", timeout=5) as changes:
            assert json.load(changes) == {f"StartInstances/{ids[0]}": 1}
        role = "arn:aws:iam::111111111111:role/CurfewAccess"
        sts = _client("sts", second.url, keys["platform"])
        sts.assume_role(RoleArn=role, RoleSessionName="again", ExternalId="an-external-id")
    state.write_bytes(state.read_bytes()[:-1000])
    with SandboxAws(state=state, port=port) as third, pytest.raises(ClientError, match="InvalidInstanceID"):
        _state(_ec2(third.url, third.credentials()["accounts"][0]), ids)


def _client(service: str, url: str, keys: dict[str, str]) -> Any:
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=keys["access_key_id"],
        aws_secret_access_key=keys["secret_access_key"],
    )


def _ec2(url: str, keys: dict[str, str]) -> Any:
    return _client("ec2", url, keys)


def _state(ec2: Any, ids: list[str]) -> str:
    return str(ec2.describe_instances(InstanceIds=ids)["Reservations"][0]["Instances"][0]["State"]["Name"])


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
