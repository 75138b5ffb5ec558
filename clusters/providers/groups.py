"""Groups of machines that a cloud keeps at a size, behind one protocol; plain dataclasses in and out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class GroupKind(StrEnum):
    """Who keeps the size: an EC2 Auto Scaling group, an EKS managed node group, or Karpenter in the cluster itself."""

    ASG = "asg"
    MANAGED = "managed"
    KARPENTER = "karpenter"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many machines: at least, wanted, at most."""

    low: int
    desired: int
    high: int

    def text(self) -> str:
        return f"{self.low}-{self.desired}-{self.high}"


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine of a group; `guarded` means protected from scale-in, `up` that it is in service."""

    id: str
    zone: str = ""
    instance_type: str = ""
    guarded: bool = False
    up: bool = True


@dataclass(frozen=True, slots=True)
class Group:
    """A group as the cloud tells it. `asg` is the Auto Scaling group behind a managed node group, "" when unknown.

    `subnets` and `on_demand` (percentage above base; None without a mixed policy) are what a wake may change when there
    is no capacity. `scheduled` counts the cloud's own scheduled actions, `suspended` says that they are suspended.
    """

    kind: GroupKind
    name: str
    sizes: Sizes
    tags: Mapping[str, str] = field(default_factory=dict)
    machines: tuple[Machine, ...] = ()
    asg: str = ""
    zones: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    subnets: Mapping[str, str] = field(default_factory=dict)
    on_demand: int | None = None
    scheduled: int = 0
    suspended: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class LaunchFailure:
    """A machine that could not be started, in the provider's words; `capacity` when there was none to be had."""

    at: datetime | None
    words: str
    capacity: bool
    zone: str = ""


class NodeGroups(Protocol):
    """The groups of one cluster. Every method is safe to repeat and raises ProviderError."""

    def list(self, instance_ids: Collection[str] = ()) -> Sequence[Group]:
        """The cluster's groups, found by its tags and by the machines in them."""
        ...

    def read(self, kind: GroupKind, name: str) -> Group | None: ...

    def remember(self, group: Group, key: str, text: str) -> None:
        """Put a tag on the group."""
        ...

    def forget(self, group: Group, key: str) -> None: ...

    def resize(self, group: Group, sizes: Sizes, *, token: str) -> None:
        """Set all three sizes at once, which is legal in any direction; a managed group keeps a maximum of one or more."""
        ...

    def guard(self, group: Group, instance_ids: Collection[str], *, on: bool) -> None:
        """Protect machines from scale-in, or no longer."""
        ...

    def hold_schedule(self, group: Group, *, on: bool) -> None:
        """Suspend the cloud's own scheduled actions on the group, or resume them."""
        ...

    def steer(self, group: Group, *, subnets: Collection[str] = (), on_demand: int | None = None) -> None:
        """Launch only in these subnets, or with that percentage on-demand."""
        ...

    def cause(self, group: Group) -> str:
        """Why the group changed last, in the provider's words; "" when it does not tell."""
        ...

    def failures(self, group: Group, since: datetime) -> Sequence[LaunchFailure]:
        """Launches that failed since then, newest first."""
        ...
