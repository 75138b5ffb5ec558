"""What a policy says to the engine; `from_policy` makes it from the policy's document."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from policies.engine.budgets import NodeBudget
from policies.enums import THRESHOLDS, Level, Method, Strategy


@dataclass(frozen=True, slots=True)
class Consolidation:
    """The settings of consolidation.

    `threshold` overrides the level's own. `worth` is the score below which a balanced move does not pay: its
    share of the pool's cost over its share of the pool's disruption. `payback` is the time in which a move must earn
    back what running old and new side by side for `overlap` costs. `most_disruption` is the share of the cluster's disruption
    (a node and each of its pods count 1 each) that one plan may cause.
    """

    level: Level = Level.BALANCED
    method: Method = Method.REPLACE_AND_MOVE
    stabilization: timedelta = timedelta(minutes=10)
    budgets: tuple[NodeBudget, ...] = (NodeBudget("10%"),)
    zone: str = "UTC"
    buys: bool = True
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
        return THRESHOLDS[self.level] / 100 if self.threshold is None else self.threshold

    @property
    def replaces(self) -> bool:
        """Whether it buys cheaper nodes, besides taking nodes away."""
        return self.buys and self.level is Level.AGGRESSIVE and self.method is Method.REPLACE_AND_MOVE


@dataclass(frozen=True, slots=True)
class Provisioning:
    """The settings of provisioning. `premium` is how much dearer per vCPU a deeper pool may be than the cheapest."""

    strategy: Strategy = Strategy.CAPACITY_OPTIMIZED
    fall_back: bool = True
    premium: Decimal = Decimal("0.20")
    no_capacity_for: timedelta = timedelta(minutes=3)
