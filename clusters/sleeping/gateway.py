"""The ways to a cluster: its API server with the sealed credentials, its cloud's groups of machines with the account's.

Tests and the campaign replace `open_kube` and `open_groups`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from accounts import vault
from clusters.enums import Method
from clusters.models import Cluster
from clusters.orders.kube import AgentKube
from clusters.providers.aws_groups import AwsNodeGroups
from clusters.providers.groups import NodeGroups
from clusters.providers.kube import HttpKube, KubeApi
from clusters.services import polling
from core.encryption import CannotDecrypt
from core.providers import AuthenticationFailed, InvalidRequest


def reaches(cluster: Cluster) -> bool:
    """Whether Curfew has a way of its own to the cluster's API server: to do anything there."""
    return bool(cluster.credentials) or cluster.method == Method.EKS


def has_way(cluster: Cluster) -> bool:
    """Whether sleep and placement have a way: Curfew's own, or an agent that carries out orders."""
    return reaches(cluster) or by_agent(cluster)


def by_agent(cluster: Cluster) -> bool:
    """Whether its agent said that it carries out batches of calls."""
    return "calls" in ((cluster.agent_can or {}).get("orders") or {}).get("verbs", ())


@contextmanager
def open_kube(cluster: Cluster) -> Iterator[KubeApi]:
    """The cluster's API server. Raises ProviderError."""
    if not has_way(cluster):
        raise InvalidRequest(
            "Curfew has no way to this cluster's API server.",
            code="no_access",
            next_step="Install its agent with orders allowed, or connect it with a kubeconfig or its EKS account.",
        )
    if not reaches(cluster):
        yield AgentKube(cluster)
        return
    try:
        with polling.opened(cluster) as api:
            yield HttpKube(api)
    except CannotDecrypt:
        raise AuthenticationFailed("The cluster's credentials cannot be opened with this server's keys.") from None


def open_groups(cluster: Cluster) -> NodeGroups | None:
    """The cluster's groups of machines; None when no AWS account is connected for it. Makes no call."""
    account = cluster.account
    if account is None or account.provider != "aws":
        return None
    connection = vault.connect_with(vault.credentials_of(account), is_sandbox=account.is_sandbox)
    region = polling.place_of(cluster.external_id)[0] or cluster.region or account.region
    return AwsNodeGroups(connection, region=region, cluster=name_in_cloud(cluster))  # type: ignore[arg-type]


def name_in_cloud(cluster: Cluster) -> str:
    """The cluster's own name: of its ARN where one is known, else as it is registered."""
    return cluster.external_id.rpartition("/")[2] or cluster.name
