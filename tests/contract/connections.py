"""Connections to the servers of these tests, with short timeouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accounts.providers.base import Connection, Credentials, Timeouts
from accounts.providers.registry import connect
from tests.fakes.arm import CLIENT, SECRET, SUBSCRIPTION, TENANT, FakeArm
from tests.fakes.aws import SandboxAws
from tests.fakes.gcp import REGION as GCP_REGION
from tests.fakes.gcp import FakeCloudRun, service_account_key
from tests.fakes.server import Certificates

QUICK = Timeouts(connect=1.0, read=1.0)
PATIENT = Timeouts(connect=3.0, read=10.0)


def aws_keys(
    server: SandboxAws, *, url: str = "", region: str = "us-east-1", timeouts: Timeouts = PATIENT, **changes: str
) -> Connection:
    account = server.credentials()["accounts"][0]
    values = (
        {k: account[k] for k in ("access_key_id", "secret_access_key")}
        | {"aws_account_id": account["account_id"]}
        | changes
    )
    return connect(Credentials("aws", "keys", region, values, {"aws": url or server.url}), timeouts=timeouts)


def aws_role(server: SandboxAws, *, region: str = "us-east-1", **changes: str) -> Connection:
    values = {
        "aws_account_id": "111111111111",
        "role_arn": "arn:aws:iam::111111111111:role/CurfewAccess",
        "external_id": "curfew-7d1f0c2b9a",
    } | changes
    platform = {k: v for k, v in server.credentials()["platform"].items() if k != "account_id"}
    return connect(Credentials("aws", "role", region, values, {"aws": server.url}), platform=platform, timeouts=PATIENT)


def azure(server_url: str, certificates: Certificates, *, timeouts: Timeouts = PATIENT, **changes: str) -> Connection:
    values = {
        "tenant_id": TENANT,
        "client_id": CLIENT,
        "client_secret": SECRET,
        "subscription_id": SUBSCRIPTION,
    } | changes
    endpoints = {"azure": server_url, "azure_authority": server_url, "azure_ca": certificates.ca}
    return connect(Credentials("azure", "service_principal", "", values, endpoints), timeouts=timeouts)


def azure_of(server: FakeArm, certificates: Certificates, **changes: Any) -> Connection:
    return azure(server.url, certificates, **changes)


def gcp(
    url: str,
    *,
    token_url: str = "",
    key: str = "",
    region: str = GCP_REGION,
    timeouts: Timeouts = PATIENT,
    endpoints: dict[str, str] | None = None,
) -> Connection:
    where = endpoints if endpoints is not None else {"gcp": url, "gcp_token": f"{token_url or url}/token"}
    return connect(
        Credentials("gcp", "service_account", region, {"service_account_json": key or service_account_key()}, where),
        timeouts=timeouts,
    )


def gcp_of(server: FakeCloudRun, **changes: Any) -> Connection:
    return gcp(server.url, **changes)


def docker_local(socket: str, *, timeouts: Timeouts = PATIENT) -> Connection:
    return connect(Credentials("docker", "local", "", {"socket": socket}), timeouts=timeouts)


def docker_tls(address: str, certificates: Certificates, *, timeouts: Timeouts = QUICK, **changes: str) -> Connection:
    def text(path: str) -> str:
        return Path(path).read_text(encoding="ascii")

    values = {
        "host": address,
        "ca_cert": text(certificates.ca),
        "client_cert": text(certificates.client_cert),
        "client_key": text(certificates.client_key),
    } | changes
    return connect(Credentials("docker", "tls", "", values), timeouts=timeouts)
