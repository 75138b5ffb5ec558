"""What is asked of a cloud account for a node template, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SecurityGroup:
    """A security group. `cluster` is the EKS cluster that its tags name, "" when they name none."""

    id: str
    name: str
    description: str = ""
    vpc: str = ""
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet. `name` is its tag; `free` is how many addresses it has left."""

    id: str
    name: str = ""
    vpc: str = ""
    zone: str = ""
    free: int = 0
    public: bool = False


class Network(Protocol):
    """Reads of one account in one region. Both raise `core.providers.ProviderError`."""

    def security_groups(self) -> Sequence[SecurityGroup]:
        """Every security group, by name."""

    def subnets(self) -> Sequence[Subnet]:
        """Every subnet, by zone."""
