"""Which providers can be connected, what each asks for, and how a connection is made.

The connect form is built from `PROVIDERS`. Apps on higher floors add their own kinds (a GPU
market, an object store) with `register` when they start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from accounts.providers.base import Connection, Credentials, Timeouts
from core.providers import InvalidRequest

FieldKind = Literal["text", "secret", "choice", "json"]


@dataclass(frozen=True, slots=True)
class CredentialField:
    """One field of the connect form. `secret` and `json` values are stored encrypted and never shown again."""

    name: str
    label: str
    kind: FieldKind = "text"
    required: bool = True
    help: str = ""
    choices: tuple[str, ...] = ()
    pattern: str = ""
    multiline: bool = False

    @property
    def is_secret(self) -> bool:
        """True when the value must never be shown again."""
        return self.kind in {"secret", "json"}


@dataclass(frozen=True, slots=True)
class ConnectMethod:
    """One way to connect. `operator_only` methods reach into the server itself: hide them from tenants."""

    name: str
    label: str
    fields: tuple[CredentialField, ...]
    help: str = ""
    operator_only: bool = False


@dataclass(frozen=True, slots=True)
class ProviderInfo:
    """A provider as the connect form shows it. `regions` is () where a connection has no region."""

    name: str
    label: str
    methods: tuple[ConnectMethod, ...]
    list_regions: Callable[[], tuple[str, ...]] = field(default=tuple)
    default_region: str = ""
    account_label: str = "Account"

    @property
    def regions(self) -> tuple[str, ...]:
        """Regions to choose from."""
        return self.list_regions()

    def method(self, name: str) -> ConnectMethod:
        """Return a method by name; raises InvalidRequest for an unknown one."""
        for method in self.methods:
            if method.name == name:
                return method
        raise InvalidRequest(f"{self.label} cannot be connected by {name!r}.", code="unknown_method")


Factory = Callable[[Credentials, Mapping[str, str] | None, Timeouts | None], Connection]


def _aws_regions() -> tuple[str, ...]:
    from accounts.providers.aws import aws_regions

    return aws_regions()


def _gcp_regions() -> tuple[str, ...]:
    return GCP_REGIONS


GCP_REGIONS: tuple[str, ...] = (
    "africa-south1",
    "asia-east1",
    "asia-east2",
    "asia-northeast1",
    "asia-northeast2",
    "asia-northeast3",
    "asia-south1",
    "asia-south2",
    "asia-southeast1",
    "asia-southeast2",
    "australia-southeast1",
    "australia-southeast2",
    "europe-central2",
    "europe-north1",
    "europe-southwest1",
    "europe-west1",
    "europe-west10",
    "europe-west12",
    "europe-west2",
    "europe-west3",
    "europe-west4",
    "europe-west6",
    "europe-west8",
    "europe-west9",
    "me-central1",
    "me-central2",
    "me-west1",
    "northamerica-northeast1",
    "northamerica-northeast2",
    "southamerica-east1",
    "southamerica-west1",
    "us-central1",
    "us-east1",
    "us-east4",
    "us-east5",
    "us-south1",
    "us-west1",
    "us-west2",
    "us-west3",
    "us-west4",
)
_GUID_PATTERN = "[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
_AWS_NUMBER = CredentialField(
    "aws_account_id",
    "AWS account number",
    pattern=r"[0-9]{12}",
    help="12 digits, from the top right corner of the AWS console.",
)

PROVIDERS: dict[str, ProviderInfo] = {
    "aws": ProviderInfo(
        "aws",
        "Amazon Web Services",
        (
            ConnectMethod(
                "role",
                "Role made by a CloudFormation stack",
                (
                    _AWS_NUMBER,
                    CredentialField(
                        "role_arn",
                        "Role ARN",
                        help="From the stack's outputs, such as arn:aws:iam::123456789012:role/CurfewAccess.",
                        pattern=r"arn:aws[a-z\-]*:iam::\d{12}:role/.+",
                    ),
                    CredentialField(
                        "external_id", "External ID", help="Made by Curfew for you; the role accepts nobody without it."
                    ),
                ),
                help="Recommended: no key leaves your account, and deleting the stack ends the access.",
            ),
            ConnectMethod(
                "keys",
                "Access keys",
                (
                    replace(_AWS_NUMBER, required=False),
                    CredentialField("access_key_id", "Access key ID", "secret"),
                    CredentialField("secret_access_key", "Secret access key", "secret"),
                    CredentialField(
                        "session_token",
                        "Session token",
                        "secret",
                        required=False,
                        help="Only for temporary keys, which expire.",
                    ),
                ),
                help="Keys of an IAM user made for Curfew.",
            ),
        ),
        list_regions=_aws_regions,
        default_region="us-east-1",
        account_label="AWS account",
    ),
    "azure": ProviderInfo(
        "azure",
        "Microsoft Azure",
        (
            ConnectMethod(
                "service_principal",
                "Service principal",
                (
                    CredentialField(
                        "tenant_id",
                        "Tenant ID",
                        help="Directory (tenant) ID, or a domain such as contoso.onmicrosoft.com.",
                    ),
                    CredentialField(
                        "client_id",
                        "Client ID",
                        pattern=_GUID_PATTERN,
                        help="Application (client) ID of the app registration.",
                    ),
                    CredentialField("client_secret", "Client secret", "secret", help="The secret's value, not its ID."),
                    CredentialField("subscription_id", "Subscription ID", pattern=_GUID_PATTERN),
                ),
                help="An app registration with the role Virtual Machine Contributor on the subscription.",
            ),
        ),
        account_label="Azure subscription",
    ),
    "gcp": ProviderInfo(
        "gcp",
        "Google Cloud",
        (
            ConnectMethod(
                "service_account",
                "Service-account key",
                (
                    CredentialField(
                        "service_account_json",
                        "JSON key",
                        "json",
                        multiline=True,
                        help="The whole key file of a service account.",
                    ),
                    CredentialField(
                        "project_id",
                        "Project ID",
                        required=False,
                        help="Only when it differs from the key's own project.",
                    ),
                ),
                help="A service account with the role Cloud Run Developer.",
            ),
        ),
        list_regions=_gcp_regions,
        default_region="us-central1",
        account_label="Google project",
    ),
    "docker": ProviderInfo(
        "docker",
        "Docker",
        (
            ConnectMethod(
                "local",
                "Docker on this server",
                (
                    CredentialField(
                        "socket", "Socket", required=False, help="/var/run/docker.sock unless you say otherwise."
                    ),
                ),
                help="Whoever may use the socket controls this machine.",
                operator_only=True,
            ),
            ConnectMethod(
                "tls",
                "Remote Docker host",
                (
                    CredentialField("host", "Host", help="For example docker.example.com:2376."),
                    CredentialField(
                        "ca_cert", "CA certificate", multiline=True, help="PEM; signed the host's certificate."
                    ),
                    CredentialField("client_cert", "Client certificate", multiline=True, help="PEM."),
                    CredentialField("client_key", "Client key", "secret", multiline=True, help="PEM."),
                ),
                help="An engine that listens with TLS and checks client certificates.",
            ),
        ),
        account_label="Docker engine",
    ),
}


def _aws(credentials: Credentials, platform: Mapping[str, str] | None, timeouts: Timeouts | None) -> Connection:
    from accounts.providers.aws import AwsConnection

    return AwsConnection(credentials, platform=platform, timeouts=timeouts)


def _azure(credentials: Credentials, platform: Mapping[str, str] | None, timeouts: Timeouts | None) -> Connection:
    from accounts.providers.azure import AzureConnection

    return AzureConnection(credentials, timeouts=timeouts)


def _gcp(credentials: Credentials, platform: Mapping[str, str] | None, timeouts: Timeouts | None) -> Connection:
    from accounts.providers.gcp import GcpConnection

    return GcpConnection(credentials, timeouts=timeouts)


def _docker(credentials: Credentials, platform: Mapping[str, str] | None, timeouts: Timeouts | None) -> Connection:
    from accounts.providers.docker import DockerConnection

    return DockerConnection(credentials, timeouts=timeouts)


_FACTORIES: dict[str, Factory] = {"aws": _aws, "azure": _azure, "gcp": _gcp, "docker": _docker}


def register(info: ProviderInfo, factory: Factory) -> None:
    """Add a provider kind; registering the same name again replaces it."""
    PROVIDERS[info.name] = info
    _FACTORIES[info.name] = factory


def connect(
    credentials: Credentials, *, platform: Mapping[str, str] | None = None, timeouts: Timeouts | None = None
) -> Connection:
    """Return a connection without contacting anybody; raises InvalidRequest for an unknown provider or method.

    `platform` holds the server's own AWS keys (access_key_id, secret_access_key, session_token)
    from which roles are assumed; None means the server's ambient AWS identity.
    """
    info = PROVIDERS.get(credentials.provider)
    factory = _FACTORIES.get(credentials.provider)
    if info is None or factory is None:
        raise InvalidRequest(f"Curfew cannot connect to {credentials.provider!r}.", code="unknown_provider")
    info.method(credentials.method)
    return factory(credentials, platform, timeouts)


def secret_fields(provider: str) -> frozenset[str]:
    """Return the names of all secret fields of a provider, over all its methods."""
    info = PROVIDERS.get(provider)
    if info is None:
        return frozenset()
    return frozenset(f.name for method in info.methods for f in method.fields if f.is_secret)
