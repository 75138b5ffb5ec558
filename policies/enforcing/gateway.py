"""The ways to a cluster that the enforcers use. Tests and the campaign replace them."""

from __future__ import annotations

from contextlib import AbstractContextManager

from accounts import vault
from accounts.providers.aws import AwsConnection
from clusters.models import Cluster
from clusters.providers.groups import NodeGroups
from clusters.providers.kube import KubeApi
from clusters.services import polling
from clusters.sleeping import gateway as ways
from policies.providers import aws_rights
from policies.providers.aws_machines import AwsMachines
from policies.providers.machines import Machines


def reaches(cluster: Cluster) -> bool:
    """Whether Curfew has a way of its own to the API server; an agent that reports is none."""
    return ways.reaches(cluster)


def open_kube(cluster: Cluster) -> AbstractContextManager[KubeApi]:
    """The cluster's API server. Raises ProviderError."""
    return ways.open_kube(cluster)


def open_groups(cluster: Cluster) -> NodeGroups | None:
    """The cluster's groups of machines; None when no AWS account is connected for it."""
    return ways.open_groups(cluster)


def open_machines(cluster: Cluster) -> Machines | None:
    """Buying and ending machines; None when no AWS account is connected for it. Makes no call."""
    way = _way(cluster)
    return AwsMachines(way[0], region=way[1]) if way else None


def missing_rights(cluster: Cluster) -> list[str]:
    """The rights to buy and end machines that its AWS account does not give; none without an account. Raises
    ProviderError."""
    way = _way(cluster)
    return aws_rights.missing_rights(way[0], region=way[1]) if way else []


def _way(cluster: Cluster) -> tuple[AwsConnection, str] | None:
    account = cluster.account
    if account is None or account.provider != "aws":
        return None
    connection = vault.connect_with(vault.credentials_of(account), is_sandbox=account.is_sandbox)
    region = polling.place_of(cluster.external_id)[0] or cluster.region or account.region
    return connection, region  # type: ignore[return-value]
