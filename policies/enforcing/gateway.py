"""The ways to a cluster that the enforcers use. Tests and the campaign replace them."""

from __future__ import annotations

from contextlib import AbstractContextManager

from accounts import vault
from clusters.models import Cluster
from clusters.providers.groups import NodeGroups
from clusters.providers.kube import KubeApi
from clusters.services import polling
from clusters.sleeping import gateway as ways
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
    account = cluster.account
    if account is None or account.provider != "aws":
        return None
    connection = vault.connect_with(vault.credentials_of(account), is_sandbox=account.is_sandbox)
    region = polling.place_of(cluster.external_id)[0] or cluster.region or account.region
    return AwsMachines(connection, region=region)  # type: ignore[arg-type]
