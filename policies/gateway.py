"""The way to a cloud account's network. Tests replace `open_network`."""

from __future__ import annotations

from accounts import vault
from accounts.models import CloudAccount
from accounts.providers.base import Timeouts
from core.encryption import CannotDecrypt
from core.providers import AuthenticationFailed, InvalidRequest
from policies.providers.aws import AwsNetwork
from policies.providers.base import Network


def open_network(account: CloudAccount, region: str = "") -> Network:
    """Security groups and subnets of an account. Makes no call yet. Raises ProviderError."""
    if account.provider != "aws":
        raise InvalidRequest("Security groups are read from AWS accounts only.")
    try:
        credentials = vault.credentials_of(account)
    except CannotDecrypt:
        raise AuthenticationFailed("The account's credentials cannot be opened with this server's keys.") from None
    connection = vault.connect_with(credentials, is_sandbox=account.is_sandbox, timeouts=Timeouts(3, 8))
    return AwsNetwork(connection, region=region or account.region)  # type: ignore[arg-type]
