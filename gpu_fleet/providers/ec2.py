"""EC2 instances as rented machines, on demand or spot, for GPUs and for standbys.

An order is safe to look up by tag, and its client token makes a repeat return the first one's instance. AWS tells no
hosts, so "host" is a type in a zone: a race takes each once.
"""

from __future__ import annotations

import hashlib
import shlex
import time
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

from accounts.providers.aws import AwsConnection, utc
from accounts.providers.aws_errors import aws_errors, need
from core.providers import CapacityUnavailable, InvalidRequest, NotFound, ProviderError
from gpu_fleet.providers.base import Offer, Order, Query, Rental, RentalState, Rented
from gpu_fleet.providers.catalogue import EC2, fits, offer_in, sorted_offers

LABEL, HOST = "curfew:machine", "curfew:machine-host"
GROUP = "curfew-machines"
PAGE = 200
VISIBLE_SECONDS = 10.0
# Newest image of each kind: publisher and name.
IMAGES: Mapping[str, tuple[str, str]] = {
    "cpu": ("099720109477", "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-*"),
    "gpu": ("amazon", "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04) *"),
}
_STATES = {
    "pending": RentalState.LOADING,
    "running": RentalState.RUNNING,
    "stopping": RentalState.STOPPED,
    "stopped": RentalState.STOPPED,
    "shutting-down": RentalState.DEAD,
    "terminated": RentalState.GONE,
}
_TYPES = {kind.name: kind for kind in EC2}


class Ec2GpuProvider:
    """Implements `GpuProvider` in the connection's region. `prices` are USD an hour on demand, by type."""

    provider = "aws"

    def __init__(self, connection: AwsConnection, *, prices: Mapping[str, Decimal] | None = None) -> None:
        self._connection = connection
        self._prices = dict(prices or {})

    def _client(self) -> Any:
        return self._connection.client("ec2")

    def _errors(self, action: str) -> Any:
        return aws_errors(f"ec2:{action}", self._connection.secrets())

    def offers(self, query: Query) -> list[Offer]:
        """Types that fit, in each zone that has them. A spot offer's price is the newest one that AWS told."""
        kinds = {kind.name: kind for kind in EC2 if fits(kind, query)}
        if not kinds:
            return []
        with self._errors("DescribeInstanceTypeOfferings"):
            pages = self._client().get_paginator("describe_instance_type_offerings")
            found = pages.paginate(
                LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": sorted(kinds)}]
            )
            pairs = {
                (str(row["InstanceType"]), str(row["Location"]))
                for page in found
                for row in page["InstanceTypeOfferings"]
            }
        spot = self._spot_prices(sorted(kinds)) if query.interruptible else {}
        offers = [
            offer_in(
                kinds[name], zone, spot.get((name, zone)) if query.interruptible else self._prices.get(name), query
            )
            for name, zone in pairs
            if name in kinds and query.location.lower() in zone.lower()
        ]
        return sorted_offers(offers, query)

    def _spot_prices(self, names: list[str]) -> dict[tuple[str, str], Decimal]:
        from datetime import UTC, datetime

        with self._errors("DescribeSpotPriceHistory"):
            rows = self._client().describe_spot_price_history(
                InstanceTypes=names, ProductDescriptions=["Linux/UNIX"], StartTime=datetime.now(UTC)
            )["SpotPriceHistory"]
        newest: dict[tuple[str, str], tuple[Any, Decimal]] = {}
        for row in rows:
            key = (str(row["InstanceType"]), str(row["AvailabilityZone"]))
            if key not in newest or row["Timestamp"] > newest[key][0]:
                newest[key] = (row["Timestamp"], Decimal(str(row["SpotPrice"])))
        return {key: price for key, (_, price) in newest.items()}

    def rent(self, orders: Sequence[Order]) -> list[Rented]:
        """One RunInstances each; then look until they can be seen, as EC2's own reads lag behind."""
        answers: list[Rented] = []
        for order in orders:
            try:
                answers.append(Rented(order.offer.offer_id, self._run(order)))
            except ProviderError as failure:
                answers.append(Rented(order.offer.offer_id, "", failure, unsure=failure.transient))
        self._wait_visible([answer.provider_id for answer in answers if answer.provider_id])
        return answers

    def _run(self, order: Order) -> str:
        kind = _TYPES.get(order.offer.host_id.partition("@")[0])
        zone = order.offer.host_id.partition("@")[2]
        if kind is None or not zone:
            raise InvalidRequest("This is no offer of EC2.", code="bad_offer", detail=order.offer.offer_id)
        tags = [
            {"Key": "Name", "Value": order.label[:200]},
            {"Key": LABEL, "Value": order.label[:200]},
            {"Key": HOST, "Value": order.offer.host_id},
        ]
        spot: dict[str, Any] = {}
        if order.offer.interruptible:
            options: dict[str, Any] = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
            spot = {"InstanceMarketOptions": {"MarketType": "spot", "SpotOptions": options}}
        image = order.image if order.image.startswith("ami-") else self._image("gpu" if kind.gpus else "cpu")
        with self._errors("RunInstances"):
            client = self._client()
            made = client.run_instances(
                ImageId=image["ImageId"] if isinstance(image, dict) else image,
                InstanceType=kind.name,
                MinCount=1,
                MaxCount=1,
                ClientToken=hashlib.sha256(f"{order.label} {order.offer.host_id}".encode()).hexdigest()[:60],
                Placement={"AvailabilityZone": zone},
                UserData=user_data(order),
                SecurityGroupIds=[self._group(client)],
                BlockDeviceMappings=_disk(image, order.disk_gb),
                InstanceInitiatedShutdownBehavior="terminate",
                TagSpecifications=[
                    {"ResourceType": "instance", "Tags": tags},
                    {"ResourceType": "volume", "Tags": tags},
                ],
                **spot,
            )
            return str(need(need(made, "Instances")[0], "InstanceId"))

    def _image(self, kind: str) -> dict[str, Any]:
        owner, name = IMAGES[kind]
        with self._errors("DescribeImages"):
            answer = self._client().describe_images(Owners=[owner], Filters=[{"Name": "name", "Values": [name]}])
            rows: list[dict[str, Any]] = list(need(answer, "Images"))
        if not rows:
            raise InvalidRequest(
                "AWS shows no image for this machine.",
                code="no_machine_image",
                next_step="Name an AMI when you deploy the machine.",
            )
        return max(rows, key=lambda row: str(row.get("CreationDate") or ""))

    @staticmethod
    def _group(client: Any) -> str:
        """The security group of machines, made once: SSH in, everything out."""
        found = client.describe_security_groups(Filters=[{"Name": "group-name", "Values": [GROUP]}])["SecurityGroups"]
        if found:
            return str(found[0]["GroupId"])
        made = str(
            client.create_security_group(GroupName=GROUP, Description="Machines rented by Curfew: SSH")["GroupId"]
        )
        rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
        client.authorize_security_group_ingress(GroupId=made, IpPermissions=[rule])
        return made

    def _wait_visible(self, ids: list[str]) -> None:
        end = time.monotonic() + VISIBLE_SECONDS
        while ids and time.monotonic() < end:
            seen = {rental.provider_id for rental in self._read([{"Name": "instance-id", "Values": ids}])}
            ids = [i for i in ids if i not in seen]
            if ids:
                time.sleep(0.5)

    def find(self, labels: Collection[str]) -> list[Rental]:
        """By tag; what is terminated is not found."""
        if not labels:
            return []
        rows = self._read([{"Name": f"tag:{LABEL}", "Values": sorted(labels)}])
        return [row for row in rows if row.state is not RentalState.GONE]

    def everything(self) -> list[Rental]:
        """Instances that bear a label of a machine; others are nobody's rental."""
        rows = self._read([{"Name": "tag-key", "Values": [LABEL]}])
        return [row for row in rows if row.state is not RentalState.GONE]

    def describe(self, provider_ids: Collection[str]) -> dict[str, Rental]:
        """By id. What a listing does not show is asked for directly: only "not found" or terminated is GONE."""
        ids = list(dict.fromkeys(provider_ids))
        found = {row.provider_id: row for row in self._read([{"Name": "instance-id", "Values": ids}])} if ids else {}
        return {i: found.get(i) or self._describe_one(i) for i in ids}

    def _describe_one(self, provider_id: str) -> Rental:
        try:
            with self._errors("DescribeInstances"):
                answer = self._client().describe_instances(InstanceIds=[provider_id])
            return self._rental(answer["Reservations"][0]["Instances"][0])
        except NotFound:
            return Rental(provider_id, RentalState.GONE)
        except (IndexError, KeyError):
            return Rental(provider_id, RentalState.UNKNOWN)

    def _read(self, filters: list[dict[str, Any]]) -> list[Rental]:
        with self._errors("DescribeInstances"):
            pages = self._client().get_paginator("describe_instances")
            found = pages.paginate(Filters=filters, PaginationConfig={"PageSize": PAGE})
            return [self._rental(raw) for page in found for r in need(page, "Reservations") for raw in r["Instances"]]

    def _rental(self, raw: Mapping[str, Any]) -> Rental:
        tags = {tag["Key"]: tag.get("Value", "") for tag in raw.get("Tags", [])}
        kind = _TYPES.get(str(raw.get("InstanceType")))
        name = str(need(need(raw, "State"), "Name"))
        why = (raw.get("StateReason") or {}).get("Message") or raw.get("StateTransitionReason") or ""
        code = str((raw.get("StateReason") or {}).get("Code") or "")
        return Rental(
            provider_id=str(need(raw, "InstanceId")),
            state=_STATES.get(name, RentalState.UNKNOWN),
            label=tags.get(LABEL, ""),
            host_id=tags.get(HOST, ""),
            gpu_name=kind.gpu_name if kind else "",
            gpu_count=kind.gpus if kind else 0,
            hourly=None if raw.get("InstanceLifecycle") == "spot" else self._prices.get(str(raw.get("InstanceType"))),
            location=str((raw.get("Placement") or {}).get("AvailabilityZone") or ""),
            ssh_host=str(raw.get("PublicIpAddress") or ""),
            ssh_port=22 if raw.get("PublicIpAddress") else 0,
            words=str(why),
            progress=name,
            started_at=utc(raw.get("LaunchTime")),
            created_at=utc(raw.get("LaunchTime")),
            outbid="SpotInstance" in code,
        )

    def destroy(self, provider_ids: Collection[str]) -> dict[str, ProviderError | None]:
        """Terminate each by itself, so that one bad id spoils no other."""
        return {i: self._terminate(i) for i in dict.fromkeys(provider_ids)}

    def _terminate(self, provider_id: str) -> ProviderError | None:
        try:
            with self._errors("TerminateInstances"):
                self._client().terminate_instances(InstanceIds=[provider_id])
        except NotFound:
            return None
        except ProviderError as failure:
            return failure
        return None

    def stop(self, provider_id: str) -> None:
        """Stop it; a one-time spot instance cannot be stopped and AWS says so."""
        with self._errors("StopInstances"):
            self._client().stop_instances(InstanceIds=[provider_id])

    def start(self, provider_id: str) -> None:
        """Start it; raises CapacityUnavailable when the zone has no such machine now."""
        seen = self.describe([provider_id])[provider_id]
        if seen.state is RentalState.GONE:
            raise CapacityUnavailable("The instance is no more.", code="no_capacity", transient=False)
        with self._errors("StartInstances"):
            self._client().start_instances(InstanceIds=[provider_id])


def _disk(image: dict[str, Any] | str, disk_gb: int) -> list[dict[str, Any]]:
    facts: dict[str, Any] = image if isinstance(image, dict) else {}
    root = str(facts.get("RootDeviceName") or "/dev/sda1")
    mapped = [row for row in facts.get("BlockDeviceMappings") or [] if row.get("DeviceName") == root]
    smallest = [int((row.get("Ebs") or {}).get("VolumeSize") or 0) for row in mapped]
    ebs = {"VolumeSize": max([disk_gb, *smallest]), "VolumeType": "gp3", "DeleteOnTermination": True}
    return [{"DeviceName": root, "Ebs": ebs}]


def user_data(order: Order) -> str:
    """The start script with its environment, for the first boot; boto3 encodes it."""
    lines = ["#!/bin/sh", *(f"export {name}={shlex.quote(value)}" for name, value in order.env.items())]
    script = order.onstart.removeprefix("#!/bin/sh\n")
    return "\n".join([*lines, script])
