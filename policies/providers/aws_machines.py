"""EC2 fleets of one machine, and Auto Scaling groups that they join and leave."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from accounts.providers.aws import AwsConnection
from accounts.providers.aws_errors import aws_errors, from_client_error, need
from core.providers import CapacityUnavailable, InvalidRequest, NotFound, QuotaExceeded
from policies.enforcing.enums import MARK
from policies.providers.machines import Bought, Miss, Pool, Source


class AwsMachines:
    """`Machines` in one region."""

    def __init__(self, connection: AwsConnection, *, region: str) -> None:
        self.connection, self.region = connection, region
        self._zones: dict[str, str] = {}

    @contextmanager
    def _client(self, service: str, action: str) -> Iterator[Any]:
        with aws_errors(f"{service}:{action}", self.connection.secrets()):
            yield self.connection.client(service, region=self.region)

    def sources(self, names: Collection[str]) -> Sequence[Source]:
        if not names:
            return []
        with self._client("autoscaling", "DescribeAutoScalingGroups") as client:
            pages = client.get_paginator("describe_auto_scaling_groups").paginate(AutoScalingGroupNames=sorted(names))
            raws = [raw for page in pages for raw in need(page, "AutoScalingGroups")]
        self._learn_zones({s for raw in raws for s in _subnets(raw)})
        return [source for raw in raws if (source := self._source(raw)) is not None]

    def _source(self, raw: Mapping[str, Any]) -> Source | None:
        mixed = ((raw.get("MixedInstancesPolicy") or {}).get("LaunchTemplate") or {}).get("LaunchTemplateSpecification")
        template = raw.get("LaunchTemplate") or mixed
        if not template or not _subnets(raw):
            return None
        spec = {"Version": str(template.get("Version") or "$Default")}
        if template.get("LaunchTemplateId"):
            spec["LaunchTemplateId"] = str(template["LaunchTemplateId"])
        else:
            spec["LaunchTemplateName"] = str(template.get("LaunchTemplateName"))
        return Source(
            group=str(raw["AutoScalingGroupName"]),
            template=spec,
            subnets={s: self._zones.get(s, "") for s in _subnets(raw)},
            low=int(raw["MinSize"]),
            desired=int(raw["DesiredCapacity"]),
            high=int(raw["MaxSize"]),
            tags={str(t["Key"]): str(t.get("Value") or "") for t in raw.get("Tags") or ()},
        )

    def _learn_zones(self, subnets: Collection[str]) -> None:
        unknown = sorted(set(subnets) - set(self._zones))
        if unknown:
            with self._client("ec2", "DescribeSubnets") as client:
                for raw in need(client.describe_subnets(SubnetIds=unknown), "Subnets"):
                    self._zones[str(raw["SubnetId"])] = str(raw["AvailabilityZone"])

    def buy(
        self, source: Source, pools: Sequence[Pool], *, mark: str, token: str, cheapest: bool
    ) -> tuple[Bought | None, Sequence[Miss]]:
        spot = pools[0].lifecycle == "spot"
        overrides = list(_overrides(source, pools))
        if not overrides:
            return None, [Miss(pool, "no_subnet", f"{source.group} has no subnet in {pool.zone}") for pool in pools]
        marks = {MARK: mark, "Name": source.group, **_cluster_tags(source)}
        options: dict[str, Any] = (
            {"SpotOptions": {"AllocationStrategy": "lowest-price" if cheapest else "capacity-optimized-prioritized"}}
            if spot
            else {"OnDemandOptions": {"AllocationStrategy": "prioritized"}}
        )
        try:
            with self._client("ec2", "CreateFleet") as client:
                answer = client.create_fleet(
                    Type="instant",
                    ClientToken=token[:64],
                    LaunchTemplateConfigs=[
                        {"LaunchTemplateSpecification": dict(source.template), "Overrides": overrides}
                    ],
                    TargetCapacitySpecification={
                        "TotalTargetCapacity": 1,
                        "DefaultTargetCapacityType": "spot" if spot else "on-demand",
                    },
                    TagSpecifications=[
                        {"ResourceType": "instance", "Tags": [{"Key": k, "Value": v} for k, v in marks.items()]}
                    ],
                    **options,
                )
        except (CapacityUnavailable, QuotaExceeded) as full:
            limit = isinstance(full, QuotaExceeded)
            return None, [Miss(pool, full.code, full.detail or full.message, limit) for pool in pools]
        return self._first(answer, pools), _misses(answer, pools, source)

    @staticmethod
    def _first(answer: Mapping[str, Any], pools: Sequence[Pool]) -> Bought | None:
        for raw in answer.get("Instances") or ():
            for machine in raw.get("InstanceIds") or ():
                return Bought(str(machine), str(raw.get("InstanceType") or ""), "", pools[0].lifecycle)
        return None

    def bought(self, mark: str) -> Bought | None:
        with self._client("ec2", "DescribeInstances") as client:
            wanted = [
                {"Name": f"tag:{MARK}", "Values": [mark]},
                {"Name": "instance-state-name", "Values": ["pending", "running"]},
            ]
            found = [_bought(raw) for raw in _instances(client.describe_instances(Filters=wanted))]
        return next((one for one in found if one.alive), None)

    def look(self, machine: str) -> Bought | None:
        try:
            with self._client("ec2", "DescribeInstances") as client:
                found = [_bought(raw) for raw in _instances(client.describe_instances(InstanceIds=[machine]))]
        except NotFound:
            return None
        return next(iter(found), None)

    def group_of(self, machine: str) -> str:
        with self._client("autoscaling", "DescribeAutoScalingInstances") as client:
            answer = client.describe_auto_scaling_instances(InstanceIds=[machine])
        for raw in need(answer, "AutoScalingInstances"):
            if str(raw.get("InstanceId")) == machine and not str(raw.get("LifecycleState")).startswith("Terminat"):
                return str(raw.get("AutoScalingGroupName") or "")
        return ""

    def join(self, group: str, machine: str) -> None:
        if self.group_of(machine):
            return
        try:
            with self._client("autoscaling", "AttachInstances") as client:
                client.attach_instances(AutoScalingGroupName=group, InstanceIds=[machine])
        except InvalidRequest:  # an earlier request was lost on its way back: it is in the group already
            if not self.group_of(machine):
                raise

    def end(self, machine: str) -> None:
        if self.group_of(machine):
            try:
                with self._client("autoscaling", "TerminateInstanceInAutoScalingGroup") as client:
                    client.terminate_instance_in_auto_scaling_group(
                        InstanceId=machine, ShouldDecrementDesiredCapacity=True
                    )
            except InvalidRequest:
                if self.group_of(machine):
                    raise
            return
        found = self.look(machine)
        if found is not None and found.alive:
            try:
                with self._client("ec2", "TerminateInstances") as client:
                    client.terminate_instances(InstanceIds=[machine])
            except NotFound:
                return


def _subnets(raw: Mapping[str, Any]) -> list[str]:
    return [s for s in str(raw.get("VPCZoneIdentifier") or "").split(",") if s]


def _overrides(source: Source, pools: Sequence[Pool]) -> Iterator[dict[str, Any]]:
    """One override a pool, in the first subnet of its zone; a fleet takes a type once a zone."""
    for number, pool in enumerate(pools):
        subnets = [s for s, zone in source.subnets.items() if not pool.zone or zone == pool.zone]
        if subnets:
            yield {"InstanceType": pool.instance_type, "SubnetId": subnets[0], "Priority": float(number)}


def _cluster_tags(source: Source) -> dict[str, str]:
    """The tags by which a cluster knows its machines."""
    return {key: value for key, value in source.tags.items() if key.startswith("kubernetes.io/cluster/")}


def _misses(answer: Mapping[str, Any], pools: Sequence[Pool], source: Source) -> list[Miss]:
    """What the fleet says of the pools that gave nothing."""
    found: dict[str, Miss] = {}
    for raw in answer.get("Errors") or ():
        code, words = str(raw.get("ErrorCode") or ""), str(raw.get("ErrorMessage") or "")
        told = (raw.get("LaunchTemplateAndOverrides") or {}).get("Overrides") or {}
        zone = str(told.get("AvailabilityZone") or source.subnets.get(str(told.get("SubnetId")), ""))
        kind = from_client_error({"Error": {"Code": code, "Message": words}}, "ec2:CreateFleet")
        for pool in pools:
            named = not told.get("InstanceType") or told["InstanceType"] == pool.instance_type
            if named and (not zone or not pool.zone or zone == pool.zone):
                found[pool.key] = Miss(pool, code or "unknown", f"{code}: {words}", isinstance(kind, QuotaExceeded))
    return list(found.values())


def _instances(answer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for reservation in need(answer, "Reservations"):
        yield from reservation.get("Instances") or ()


def _bought(raw: Mapping[str, Any]) -> Bought:
    return Bought(
        id=str(raw["InstanceId"]),
        instance_type=str(raw.get("InstanceType") or ""),
        zone=str((raw.get("Placement") or {}).get("AvailabilityZone") or ""),
        lifecycle="spot" if raw.get("InstanceLifecycle") == "spot" else "on-demand",
        state=str((raw.get("State") or {}).get("Name") or ""),
    )
