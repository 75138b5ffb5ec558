"""What the enforcers ask the engine, behind one protocol: what to buy for pods that wait, what to take away."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from clusters.analysis.facts import ClusterFacts
from policies.providers.machines import Pool
from policies.selectors import Applied


@dataclass(frozen=True, slots=True)
class Purchase:
    """One machine: for these pods (`namespace/name`), out of these pools, the preferred first; prices by pool key."""

    pods: tuple[str, ...]
    pools: tuple[Pool, ...]
    prices: Mapping[str, Decimal] = field(default_factory=dict)
    words: str = ""

    @property
    def hourly(self) -> Decimal | None:
        """What the preferred pool costs."""
        return self.prices.get(self.pools[0].key) if self.pools else None


@dataclass(frozen=True, slots=True)
class Removal:
    """Nodes to take away, in which order their pods move, and what is bought instead, if anything is.

    `holds` says why it may not begin now; "" when it may.
    """

    nodes: tuple[str, ...]
    moves: tuple[str, ...]
    savings_hourly: Decimal
    instead: Purchase | None = None
    opens_after: int = 0
    words: str = ""
    holds: str = ""
    receivers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Thought:
    """What one look came to: removals in their order, why other nodes stay, and what must be remembered.

    `budget` says what the disruption budgets allow now, in words.
    """

    removals: tuple[Removal, ...] = ()
    staying: Mapping[str, str] = field(default_factory=dict)
    memory: Mapping[str, Any] = field(default_factory=dict)
    budget: str = ""


class Planner(Protocol):
    """Pure: nothing is asked or changed."""

    def purchases(
        self, facts: ClusterFacts, policy: Applied, *, region: str, refused: Collection[str], now: datetime
    ) -> tuple[Sequence[Purchase], Mapping[str, str]]:
        """One purchase for each node that the pods of `facts` without a node need, and pods for which nothing can be
        bought, with the reason. Pools in `refused` have no capacity now."""
        ...

    def removals(
        self,
        facts: ClusterFacts,
        policy: Applied,
        *,
        region: str,
        zone: str,
        memory: Mapping[str, Any],
        now: datetime,
        leaving: int = 0,
        not_ready: int = 0,
    ) -> Thought:
        """What could be taken away, and what of it may begin now. Budgets are read in the time `zone`; nodes that are
        `leaving` or `not_ready` use them up already."""
        ...

    def carried_out(
        self,
        memory: Mapping[str, Any],
        removed: Sequence[str],
        receivers: Sequence[str],
        new: str | None,
        now: datetime,
    ) -> Mapping[str, Any]:
        """What must be remembered after an action."""
        ...


def planner() -> Planner:
    """The engine."""
    from policies.enforcing.engine import EnginePlanner

    return EnginePlanner()
