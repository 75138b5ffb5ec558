"""Buying one machine for a cluster and giving one back, behind one protocol; plain dataclasses in and out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Pool:
    """Machines of one type in one zone ("" any), bought as `spot` or `on-demand`: what has capacity, or has none."""

    instance_type: str
    zone: str
    lifecycle: str

    @property
    def key(self) -> str:
        return f"{self.instance_type}|{self.zone}|{self.lifecycle}"

    @classmethod
    def of(cls, key: str) -> Pool:
        instance_type, zone, lifecycle = key.split("|")
        return cls(instance_type, zone, lifecycle)


@dataclass(frozen=True, slots=True)
class Source:
    """A group whose launch template makes nodes of the cluster. `subnets` maps each to its zone, `tags` are the
    group's; `room` says that one more may join, `spare` that one may leave."""

    group: str
    template: Mapping[str, str]
    subnets: Mapping[str, str]
    low: int
    desired: int
    high: int
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def room(self) -> bool:
        return self.desired < self.high

    @property
    def spare(self) -> bool:
        return self.desired > self.low


@dataclass(frozen=True, slots=True)
class Bought:
    """A machine that was bought; `state` as the cloud calls it, "" once it is gone."""

    id: str
    instance_type: str = ""
    zone: str = ""
    lifecycle: str = "on-demand"
    state: str = "pending"

    @property
    def alive(self) -> bool:
        return self.state in ("pending", "running")


@dataclass(frozen=True, slots=True)
class Miss:
    """A pool that gave no machine, in the provider's words. `limit`: the account's own, which another zone does not help."""

    pool: Pool
    code: str
    words: str
    limit: bool = False


class Machines(Protocol):
    """The machines of one cluster. Every method raises ProviderError."""

    def sources(self, names: Collection[str]) -> Sequence[Source]:
        """Those of these groups that machines can be bought for: they have a launch template."""
        ...

    def buy(
        self, source: Source, pools: Sequence[Pool], *, mark: str, token: str, cheapest: bool
    ) -> tuple[Bought | None, Sequence[Miss]]:
        """One machine out of these pools, all bought alike, the first preferred; or what each of them said. The same
        `token` buys once. `mark` is put on the machine; `cheapest`: price alone decides among spot pools."""
        ...

    def bought(self, mark: str) -> Bought | None:
        """The living machine that carries the mark."""
        ...

    def look(self, machine: str) -> Bought | None: ...

    def group_of(self, machine: str) -> str:
        """The Auto Scaling group that holds the machine, "" when none does."""
        ...

    def join(self, group: str, machine: str) -> None:
        """Put a running machine into its group, which wants one more from then on. Joining again changes nothing."""
        ...

    def end(self, machine: str) -> None:
        """End a machine through its group, which wants one less from then on; alone when it is in none. Safe to repeat."""
        ...
