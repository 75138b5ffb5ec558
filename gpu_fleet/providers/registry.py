"""Which GPU provider speaks for which connection, and how Vast.ai is connected."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from accounts.providers.aws import AwsConnection
from accounts.providers.base import Connection, Credentials, Timeouts
from accounts.providers.docker import DockerConnection
from accounts.providers.gcp import GcpConnection
from accounts.providers.registry import ConnectMethod, CredentialField, ProviderInfo
from core.providers import InvalidRequest
from gpu_fleet.providers.base import GpuProvider
from gpu_fleet.providers.docker import DockerGpuProvider
from gpu_fleet.providers.ec2 import Ec2GpuProvider
from gpu_fleet.providers.gce import GceProvider
from gpu_fleet.providers.vast import VastConnection, VastProvider

GPU_PROVIDERS: tuple[str, ...] = ("vast", "docker", "aws", "gcp")
# Where a CPU machine can stand by.
STANDBY_PROVIDERS: tuple[str, ...] = ("docker", "gcp", "aws")
VAST = ProviderInfo(
    "vast",
    "Vast.ai",
    (
        ConnectMethod(
            "api_key",
            "API key",
            (CredentialField("api_key", "API key", "secret", help="From the Vast.ai console, under Keys."),),
            help="Curfew rents, watches and destroys only machines that it rented itself.",
        ),
    ),
    account_label="Vast.ai account",
)


def connect_vast(credentials: Credentials, platform: Mapping[str, str] | None, timeouts: Timeouts | None) -> Connection:
    """The factory that the accounts app calls."""
    return VastConnection(credentials, timeouts=timeouts)


def provider_for(
    connection: Connection, *, local_hourly: Decimal | None = None, prices: Mapping[str, Decimal] | None = None
) -> GpuProvider:
    """The GPU provider of a connection, without contacting anybody; InvalidRequest for one that rents nothing."""
    if isinstance(connection, VastConnection):
        return VastProvider(connection.api)
    if isinstance(connection, DockerConnection):
        return DockerGpuProvider(connection, hourly=local_hourly)
    if isinstance(connection, AwsConnection):
        return Ec2GpuProvider(connection, prices=prices)
    if isinstance(connection, GcpConnection):
        return GceProvider(connection, prices=prices)
    raise InvalidRequest(f"{connection.credentials.provider} accounts rent no machines.", code="no_gpu_machines")
