"""Which node provider speaks for which connection."""

from __future__ import annotations

from accounts.providers.base import Connection
from cloudnodes.providers.base import NodeProvider
from core.providers import InvalidRequest

NODE_PROVIDERS: tuple[str, ...] = ("aws", "azure", "gcp", "docker")


def provider_for(connection: Connection, *, region: str = "") -> NodeProvider:
    """Return the node provider of a connection, without contacting anybody.

    `region` looks at another region than the connection's own (AWS). Raises InvalidRequest for a
    connection that has no cloud nodes.
    """
    kind = connection.credentials.provider
    if kind == "aws":
        from accounts.providers.aws import AwsConnection
        from cloudnodes.providers.aws import AwsNodeProvider

        if isinstance(connection, AwsConnection):
            return AwsNodeProvider(connection, region=region)
    if kind == "azure":
        from accounts.providers.azure import AzureConnection
        from cloudnodes.providers.azure import AzureNodeProvider

        if isinstance(connection, AzureConnection):
            return AzureNodeProvider(connection)
    if kind == "gcp":
        from accounts.providers.gcp import GcpConnection
        from cloudnodes.providers.gcp import GcpNodeProvider

        if isinstance(connection, GcpConnection):
            return GcpNodeProvider(connection)
    if kind == "docker":
        from accounts.providers.docker import DockerConnection
        from cloudnodes.providers.docker import DockerNodeProvider

        if isinstance(connection, DockerConnection):
            return DockerNodeProvider(connection)
    raise InvalidRequest(f"{kind} accounts have no cloud nodes.", code="no_cloud_nodes")
