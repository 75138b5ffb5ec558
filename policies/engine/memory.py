"""What the engine must remember between looks at a cluster: since when a node is eligible, and how far a chain has got."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

CHAIN_RESTS_AFTER = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Chain:
    """How many replacements in a row the pods on a node may have been through, and when the last one was."""

    steps: int
    last: datetime


@dataclass(frozen=True, slots=True)
class Memory:
    """Immutable; each method answers the next memory.

    A chain follows the pods: a new node goes one step further than the furthest of the nodes that it replaces, and a node
    that takes pods of a removed one goes at least as far as that one. So no pod has been through more replacements than
    its node's chain says.
    """

    eligible_since: Mapping[str, datetime] = field(default_factory=dict)
    chains: Mapping[str, Chain] = field(default_factory=dict)

    def seen(self, eligible: Iterable[str], now: datetime) -> Memory:
        """After a look: nodes that are eligible again keep their time, all others lose it."""
        return replace(self, eligible_since={name: self.eligible_since.get(name, now) for name in eligible})

    def steps(self, node: str, now: datetime) -> int:
        """How many replacements in a row; a chain that has rested for a week begins anew."""
        chain = self.chains.get(node)
        return 0 if chain is None or now - chain.last >= CHAIN_RESTS_AFTER else chain.steps

    def done(self, removed: Iterable[str], receivers: Iterable[str], new: str | None, now: datetime) -> Memory:
        """After an action was carried out."""
        gone = list(removed)
        furthest = max((self.steps(name, now) for name in gone), default=0)
        chains = {name: chain for name, chain in self.chains.items() if name not in gone and self.steps(name, now)}
        for name in receivers:
            if furthest > self.steps(name, now):
                chains[name] = Chain(furthest, now)
        if new is not None:
            chains[new] = Chain(furthest + 1, now)
        since = {name: at for name, at in self.eligible_since.items() if name not in gone}
        return Memory(since, chains)
