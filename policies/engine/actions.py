"""What a plan consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from clusters.analysis.packing import NodeOffer, PackingPlan
from policies.engine.refusals import Refusal


@dataclass(frozen=True, slots=True)
class Move:
    """A pod that is evicted, and where the scheduler is expected to put it."""

    pod: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Action:
    """Take `nodes` away, after buying `new` if it is set. Evict in the order of `moves`.

    The new node takes pods only after the first `opens_after` moves (until then it is cordoned), so that they go where
    there is room already. `types` are the machine types that may be asked for, the cheapest first. `score` is the share of
    the pools' cost that is saved over the share of their disruption.
    """

    nodes: tuple[str, ...]
    moves: tuple[Move, ...]
    savings_hourly: Decimal
    trouble: float
    score: float
    new: NodeOffer | None = None
    new_name: str = ""
    types: tuple[str, ...] = ()
    opens_after: int = 0

    @property
    def empty(self) -> bool:
        """Whether no pod is evicted."""
        return not self.moves

    @property
    def receivers(self) -> tuple[str, ...]:
        """The existing nodes that are expected to take pods."""
        return tuple(sorted({move.target for move in self.moves} - {self.new_name}))


@dataclass(frozen=True, slots=True)
class Plan:
    """What could be done.

    `eligible` are the nodes below the threshold that nothing forbids to take away. `packing` proves that all pods have a
    place afterwards that breaks no rule; where the scheduler is expected to put them stands in the moves.
    """

    actions: tuple[Action, ...]
    refusals: Mapping[str, Refusal]
    eligible: frozenset[str]
    packing: PackingPlan

    @property
    def savings_hourly(self) -> Decimal:
        return sum((action.savings_hourly for action in self.actions), Decimal(0))
