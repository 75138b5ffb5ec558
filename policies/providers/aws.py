"""Security groups and subnets of an AWS account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accounts.providers.aws import AwsConnection
from accounts.providers.aws_errors import aws_errors, need
from policies.providers.base import SecurityGroup, Subnet

MOST = 2000
CLUSTER_TAGS = ("aws:eks:cluster-name", "karpenter.sh/discovery", "alpha.eksctl.io/cluster-name")
CLUSTER_PREFIX = "kubernetes.io/cluster/"


class AwsNetwork:
    """`Network` of one region. Needs ec2:DescribeSecurityGroups and ec2:DescribeSubnets."""

    def __init__(self, connection: AwsConnection, *, region: str) -> None:
        self.connection, self.region = connection, region

    def security_groups(self) -> Sequence[SecurityGroup]:
        rows = self._pages("describe_security_groups", "SecurityGroups", "ec2:DescribeSecurityGroups")
        found = [
            SecurityGroup(
                id=str(need(raw, "GroupId")),
                name=str(raw.get("GroupName") or ""),
                description=str(raw.get("Description") or ""),
                vpc=str(raw.get("VpcId") or ""),
                cluster=_cluster(_tags(raw)),
            )
            for raw in rows
        ]
        return sorted(found, key=lambda g: (g.name.lower(), g.id))

    def subnets(self) -> Sequence[Subnet]:
        found = [
            Subnet(
                id=str(need(raw, "SubnetId")),
                name=_tags(raw).get("Name", ""),
                vpc=str(raw.get("VpcId") or ""),
                zone=str(raw.get("AvailabilityZone") or ""),
                free=int(raw.get("AvailableIpAddressCount") or 0),
                public=bool(raw.get("MapPublicIpOnLaunch")),
            )
            for raw in self._pages("describe_subnets", "Subnets", "ec2:DescribeSubnets")
        ]
        return sorted(found, key=lambda s: (s.zone, s.name.lower(), s.id))

    def _pages(self, method: str, key: str, action: str) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        with aws_errors(action, self.connection.secrets()):
            client = self.connection.client("ec2", region=self.region)
            for page in client.get_paginator(method).paginate(PaginationConfig={"PageSize": 500}):
                found += need(page, key)
                if len(found) >= MOST:
                    break
        return found[:MOST]


def _tags(raw: Mapping[str, Any]) -> dict[str, str]:
    return {str(tag.get("Key")): str(tag.get("Value") or "") for tag in raw.get("Tags") or ()}


def _cluster(tags: Mapping[str, str]) -> str:
    for key in CLUSTER_TAGS:
        if tags.get(key):
            return tags[key]
    return next((key[len(CLUSTER_PREFIX) :] for key in tags if key.startswith(CLUSTER_PREFIX)), "")
