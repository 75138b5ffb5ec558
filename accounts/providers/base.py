"""What a cloud account connection is: credentials in, a verified identity out.

Pure Python: no Django, no ORM; SDKs are imported lazily by the concrete modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from core.providers import InvalidRequest


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait for a connection and for an answer, for every call of a connection."""

    connect: float = 3.0
    read: float = 10.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """Everything needed to speak to one account; its repr shows no value.

    `values` holds the fields of the chosen method (see `registry.PROVIDERS`), secrets included.
    `endpoints` overrides addresses for the sandbox, private clouds and tests, by name: `aws`;
    `azure`, `azure_authority`, `azure_ca` (a PEM file); `gcp`, `gcp_token`. It must come from the
    operator's settings, never from a tenant's form: credentials are sent to these addresses.
    """

    provider: str
    method: str
    region: str = ""
    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    endpoints: Mapping[str, str] = field(default_factory=dict, repr=False)

    def get(self, name: str) -> str:
        """Return a value without surrounding blanks, "" when it was not given."""
        return (self.values.get(name) or "").strip()

    def require(self, *names: str) -> tuple[str, ...]:
        """Return the named values; raises InvalidRequest naming every one that is empty."""
        missing = [name for name in names if not self.get(name)]
        if missing:
            words = ", ".join(name.replace("_", " ") for name in missing)
            raise InvalidRequest(
                f"Missing: {words}.", code="missing_fields", next_step="Fill in the missing fields and try again."
            )
        return tuple(self.get(name) for name in names)

    def secrets(self) -> list[str]:
        """Return every value that must never be shown or logged."""
        from accounts.providers.registry import secret_fields

        hidden = secret_fields(self.provider)
        return [value.strip() for name, value in self.values.items() if value and name in hidden]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the provider says we are.

    `account_number` is the account's own immutable id (AWS account, Azure subscription, GCP
    project, Docker engine id); `label` a name for people; `principal` the identity used.
    """

    account_number: str
    label: str
    principal: str


@runtime_checkable
class Connection(Protocol):
    """An account one can speak to. Making one performs no network call."""

    credentials: Credentials

    def verify(self) -> Identity:
        """Ask the provider who we are; raises a ProviderError with clear words when it fails."""
        ...
