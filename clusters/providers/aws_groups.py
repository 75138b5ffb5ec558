"""EC2 Auto Scaling groups and EKS managed node groups of one cluster."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from accounts.providers.aws import AwsConnection
from accounts.providers.aws_errors import aws_errors, need
from clusters.providers.groups import Group, GroupKind, LaunchFailure, Machine, Sizes
from core.providers import Conflict, InvalidRequest, NotFound

# How clusters mark their groups; the value of the first is owned or shared.
CLUSTER_TAGS = ("kubernetes.io/cluster/{}", "k8s.io/cluster-autoscaler/{}")
MANAGED_TAG = "eks:nodegroup-name"
SCHEDULED = "ScheduledActions"
UP = ("InService", "Pending", "Pending:Wait", "Pending:Proceed")
NO_CAPACITY = ("InsufficientInstanceCapacity", "sufficient", "no Spot capacity", "UnfulfillableCapacity", "capacity")


class AwsNodeGroups:
    """`NodeGroups` of the cluster called `cluster` in one region; without an EKS cluster of that name, only ASGs."""

    def __init__(self, connection: AwsConnection, *, region: str, cluster: str) -> None:
        self.connection, self.region, self.cluster = connection, region, cluster

    def list(self, instance_ids: Collection[str] = ()) -> Sequence[Group]:
        managed = list(self._managed())
        taken = {group.asg for group in managed if group.asg}
        wanted = set(instance_ids)
        asgs: dict[str, Group] = {}
        with self._asg("autoscaling:DescribeAutoScalingGroups") as client:
            pages = client.get_paginator("describe_auto_scaling_groups").paginate()
            for raw in (raw for page in pages for raw in need(page, "AutoScalingGroups")):
                name, tags = str(need(raw, "AutoScalingGroupName")), _tags(raw)
                mine = any(tag.format(self.cluster) in tags for tag in CLUSTER_TAGS)
                holds = any(str(m.get("InstanceId")) in wanted for m in raw.get("Instances") or ())
                if name in taken or MANAGED_TAG in tags:
                    asgs[name] = _group(raw, 0)
                elif mine or holds:
                    asgs[name] = _group(raw, self._scheduled(client, name))
        whole = [self._with_machines(group, asgs.get(group.asg)) for group in managed]
        return [*whole, *(asgs[n] for n in sorted(asgs) if n not in taken and MANAGED_TAG not in asgs[n].tags)]

    def read(self, kind: GroupKind, name: str) -> Group | None:
        if kind is GroupKind.MANAGED:
            try:
                group = self._describe(name)
            except NotFound:
                return None
            return self._with_machines(group, self.read(GroupKind.ASG, group.asg) if group.asg else None)
        with self._asg("autoscaling:DescribeAutoScalingGroups") as client:
            answer = client.describe_auto_scaling_groups(AutoScalingGroupNames=[name])
            found = need(answer, "AutoScalingGroups")
            return _group(found[0], self._scheduled(client, name)) if found else None

    def remember(self, group: Group, key: str, text: str) -> None:
        if group.kind is GroupKind.MANAGED:
            with self._eks("eks:TagResource") as client:
                client.tag_resource(resourceArn=self._arn(client, group), tags={key: text})
            return
        with self._asg("autoscaling:CreateOrUpdateTags") as client:
            client.create_or_update_tags(Tags=[{**_tag_of(group, key), "Value": text, "PropagateAtLaunch": False}])

    def forget(self, group: Group, key: str) -> None:
        if group.kind is GroupKind.MANAGED:
            with self._eks("eks:UntagResource") as client:
                client.untag_resource(resourceArn=self._arn(client, group), tagKeys=[key])
            return
        with self._asg("autoscaling:DeleteTags") as client:
            client.delete_tags(Tags=[_tag_of(group, key)])

    def resize(self, group: Group, sizes: Sizes, *, token: str) -> None:
        if group.kind is GroupKind.MANAGED:
            scaling = {"minSize": sizes.low, "desiredSize": sizes.desired, "maxSize": max(1, sizes.high)}
            with self._eks("eks:UpdateNodegroupConfig") as client:
                client.update_nodegroup_config(
                    clusterName=self.cluster,
                    nodegroupName=group.name,
                    scalingConfig=scaling,
                    clientRequestToken=token[:64],
                )
            return
        with self._asg("autoscaling:UpdateAutoScalingGroup") as client:
            client.update_auto_scaling_group(
                AutoScalingGroupName=group.name,
                MinSize=sizes.low,
                DesiredCapacity=sizes.desired,
                MaxSize=sizes.high,
            )

    def guard(self, group: Group, instance_ids: Collection[str], *, on: bool) -> None:
        name = group.asg or (group.name if group.kind is GroupKind.ASG else "")
        ids = sorted(instance_ids)
        if not name and ids:
            raise InvalidRequest(f"The Auto Scaling group behind {group.name} is not known.")
        with self._asg("autoscaling:SetInstanceProtection") as client:
            for start in range(0, len(ids), 50):
                client.set_instance_protection(
                    AutoScalingGroupName=name, InstanceIds=ids[start : start + 50], ProtectedFromScaleIn=on
                )

    def hold_schedule(self, group: Group, *, on: bool) -> None:
        if group.kind is GroupKind.MANAGED:
            return
        with self._asg("autoscaling:SuspendProcesses") as client:
            change = client.suspend_processes if on else client.resume_processes
            change(AutoScalingGroupName=group.name, ScalingProcesses=[SCHEDULED])

    def steer(self, group: Group, *, subnets: Collection[str] = (), on_demand: int | None = None) -> None:
        if group.kind is GroupKind.MANAGED:
            raise InvalidRequest("A managed node group launches where and how it was made to.")
        change: dict[str, Any] = {}
        if subnets:
            change["VPCZoneIdentifier"] = ",".join(sorted(subnets))
        if on_demand is not None:
            change["MixedInstancesPolicy"] = self._policy(group.name, on_demand)
        with self._asg("autoscaling:UpdateAutoScalingGroup") as client:
            client.update_auto_scaling_group(AutoScalingGroupName=group.name, **change)

    def _policy(self, name: str, on_demand: int) -> dict[str, Any]:
        """The group's mixed policy as it is, with another share of on-demand. Raises NotFound, InvalidRequest."""
        with self._asg("autoscaling:DescribeAutoScalingGroups") as client:
            found = need(client.describe_auto_scaling_groups(AutoScalingGroupNames=[name]), "AutoScalingGroups")
        if not found:
            raise NotFound(f"The Auto Scaling group {name} was deleted.")
        held = found[0].get("MixedInstancesPolicy")
        if not held:
            raise InvalidRequest(f"The Auto Scaling group {name} has no mixed-instances policy.")
        template = dict(held.get("LaunchTemplate") or {})
        template["LaunchTemplateSpecification"] = _one_name(template.get("LaunchTemplateSpecification") or {})
        overrides = [
            {**one, **({key: _one_name(one[key])} if (key := "LaunchTemplateSpecification") in one else {})}
            for one in template.get("Overrides") or ()
        ]
        shares = {**(held.get("InstancesDistribution") or {}), "OnDemandPercentageAboveBaseCapacity": on_demand}
        return {"LaunchTemplate": {**template, "Overrides": overrides}, "InstancesDistribution": shares}

    def cause(self, group: Group) -> str:
        name = group.asg or (group.name if group.kind is GroupKind.ASG else "")
        if not name:
            return ""
        with self._asg("autoscaling:DescribeScalingActivities") as client:
            found = need(client.describe_scaling_activities(AutoScalingGroupName=name, MaxRecords=1), "Activities")
            return str(found[0].get("Cause") or "")[:300] if found else ""

    def failures(self, group: Group, since: datetime) -> Sequence[LaunchFailure]:
        if group.kind is GroupKind.MANAGED and group.problem:
            return [LaunchFailure(None, group.problem, _no_capacity(group.problem))]
        name = group.asg or group.name
        with self._asg("autoscaling:DescribeScalingActivities") as client:
            answer = client.describe_scaling_activities(AutoScalingGroupName=name, MaxRecords=50)
            return [
                LaunchFailure(raw.get("StartTime"), words, _no_capacity(words), _zone_in(raw))
                for raw in need(answer, "Activities")
                if raw.get("StatusCode") == "Failed" and raw.get("StartTime") and raw["StartTime"] >= since
                for words in [str(raw.get("StatusMessage") or raw.get("Description") or "The launch failed.")]
            ]

    @contextmanager
    def _asg(self, action: str) -> Iterator[Any]:
        with aws_errors(action, self.connection.secrets()):
            yield self.connection.client("autoscaling", region=self.region)

    @contextmanager
    def _eks(self, action: str) -> Iterator[Any]:
        with aws_errors(action, self.connection.secrets()):
            yield self.connection.client("eks", region=self.region)

    def _managed(self) -> Iterator[Group]:
        with self._eks("eks:ListNodegroups") as client:
            try:
                pages = client.get_paginator("list_nodegroups").paginate(clusterName=self.cluster)
                names = [str(name) for page in pages for name in need(page, "nodegroups")]
            except client.exceptions.ResourceNotFoundException:
                return
        for name in names:
            yield self._describe(name)

    def _describe(self, name: str) -> Group:
        with self._eks("eks:DescribeNodegroup") as client:
            raw = need(client.describe_nodegroup(clusterName=self.cluster, nodegroupName=name), "nodegroup")
            if raw.get("status") == "DELETING":
                raise Conflict(f"The node group {name} is being deleted.")
            sizes = need(raw, "scalingConfig")
            behind = ((raw.get("resources") or {}).get("autoScalingGroups") or [{}])[0].get("name") or ""
            issues = (raw.get("health") or {}).get("issues") or []
            return Group(
                GroupKind.MANAGED,
                name,
                Sizes(int(sizes["minSize"]), int(sizes["desiredSize"]), int(sizes["maxSize"])),
                tags={str(k): str(v) for k, v in (raw.get("tags") or {}).items()},
                asg=str(behind),
                types=tuple(raw.get("instanceTypes") or ()),
                problem="; ".join(f"{i.get('code')}: {i.get('message')}" for i in issues),
            )

    @staticmethod
    def _with_machines(group: Group, behind: Group | None) -> Group:
        from dataclasses import replace

        return (
            replace(group, asg="") if behind is None else replace(group, machines=behind.machines, zones=behind.zones)
        )

    def _scheduled(self, client: Any, name: str) -> int:
        answer = client.describe_scheduled_actions(AutoScalingGroupName=name)
        return len(need(answer, "ScheduledUpdateGroupActions"))

    def _arn(self, client: Any, group: Group) -> str:
        raw = need(client.describe_nodegroup(clusterName=self.cluster, nodegroupName=group.name), "nodegroup")
        return str(need(raw, "nodegroupArn"))


def _one_name(specification: Mapping[str, Any]) -> dict[str, Any]:
    """A launch template is told with id and name, and may be asked for by one of them only."""
    both = "LaunchTemplateId" in specification
    return {key: value for key, value in specification.items() if not (both and key == "LaunchTemplateName")}


def _tags(raw: Mapping[str, Any]) -> dict[str, str]:
    return {str(tag["Key"]): str(tag.get("Value") or "") for tag in raw.get("Tags") or ()}


def _tag_of(group: Group, key: str) -> dict[str, str]:
    return {"ResourceId": group.name, "ResourceType": "auto-scaling-group", "Key": key}


def _group(raw: Mapping[str, Any], scheduled: int) -> Group:
    machines = tuple(
        Machine(
            id=str(m.get("InstanceId")),
            zone=str(m.get("AvailabilityZone") or ""),
            instance_type=str(m.get("InstanceType") or ""),
            guarded=bool(m.get("ProtectedFromScaleIn")),
            up=str(m.get("LifecycleState")) in UP,
        )
        for m in raw.get("Instances") or ()
    )
    mixed = raw.get("MixedInstancesPolicy") or {}
    above = (mixed.get("InstancesDistribution") or {}).get("OnDemandPercentageAboveBaseCapacity", 100)
    overrides = (mixed.get("LaunchTemplate") or {}).get("Overrides") or ()
    subnets = [s for s in str(raw.get("VPCZoneIdentifier") or "").split(",") if s]
    return Group(
        GroupKind.ASG,
        str(raw["AutoScalingGroupName"]),
        Sizes(int(raw["MinSize"]), int(raw["DesiredCapacity"]), int(raw["MaxSize"])),
        tags=_tags(raw),
        machines=machines,
        asg=str(raw["AutoScalingGroupName"]),
        zones=tuple(raw.get("AvailabilityZones") or ()),
        types=tuple(str(o.get("InstanceType")) for o in overrides if o.get("InstanceType")),
        subnets=dict.fromkeys(subnets, ""),
        on_demand=int(above) if mixed else None,
        scheduled=scheduled,
        suspended=any(p.get("ProcessName") == SCHEDULED for p in raw.get("SuspendedProcesses") or ()),
    )


def _no_capacity(words: str) -> bool:
    low = words.lower()
    return any(mark.lower() in low for mark in NO_CAPACITY)


def _zone_in(raw: Mapping[str, Any]) -> str:
    """The subnet or zone that an activity's details name; "" when they name none."""
    import json

    try:
        told = json.loads(raw.get("Details") or "{}")
    except ValueError:
        return ""
    return str(told.get("Subnet ID") or told.get("Availability Zone") or "") if isinstance(told, dict) else ""
