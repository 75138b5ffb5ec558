"""What a policy says to the engine. Built from the policy's document by the app; checked here once more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum

from policies.engine.budgets import NodeBudget


class Aggressiveness(StrEnum):
    """How much a node may be used and still be taken away."""

    CONSERVATIVE = "conservative"
    BALANCED = "balanced"
    AGGRESSIVE = "aggressive"

    @property
    def threshold(self) -> float:
        """A node is considered below this share of its requests."""
        return {"conservative": 0.2, "balanced": 0.5, "aggressive": 0.8}[self]


class Method(StrEnum):
    """Wait until a node is empty, or empty it."""

    DELETE_EMPTY = "delete_empty"
    REPLACE_AND_MOVE = "replace_and_move"


@dataclass(frozen=True, slots=True)
class Consolidation:
    """The settings of consolidation.

    `threshold` overrides the aggressiveness' own. `worth` is the score below which a balanced move does not pay: its
    share of the pool's cost over its share of the pool's disruption. `payback` is the time in which a move must earn
    back what running old and new side by side for `overlap` costs. `most_disruption` is the share of the cluster's disruption
    (a node and each of its pods count 1 each) that one plan may cause.
    """

    aggressiveness: Aggressiveness = Aggressiveness.BALANCED
    method: Method = Method.REPLACE_AND_MOVE
    stabilization: timedelta = timedelta(minutes=10)
    budgets: tuple[NodeBudget, ...] = (NodeBudget("10%"),)
    zone: str = "UTC"
    threshold: float | None = None
    worth: float = 0.5
    payback: timedelta = timedelta(hours=24)
    overlap: timedelta = timedelta(minutes=10)
    cheaper_spot_types: int = 15
    longest_chain: int = 4
    most_disruption: float = 1.0
    look_again_after: timedelta = timedelta(seconds=15)

    @property
    def below(self) -> float:
        return self.aggressiveness.threshold if self.threshold is None else self.threshold

    @property
    def replaces(self) -> bool:
        """Whether it buys cheaper nodes, besides taking nodes away."""
        return self.aggressiveness is Aggressiveness.AGGRESSIVE and self.method is Method.REPLACE_AND_MOVE


class Strategy(StrEnum):
    """How a node is chosen for pods that wait."""

    LOWEST_PRICE = "lowest_price"
    CAPACITY_OPTIMIZED = "capacity_optimized"


@dataclass(frozen=True, slots=True)
class Provisioning:
    """The settings of provisioning. `premium` is how much dearer per vCPU a deeper pool may be than the cheapest."""

    strategy: Strategy = Strategy.CAPACITY_OPTIMIZED
    fall_back: bool = True
    premium: Decimal = Decimal("0.20")
    no_capacity_for: timedelta = timedelta(minutes=3)
