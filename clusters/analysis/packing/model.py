"""What goes into a re-packing besides the cluster's facts, and what comes out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum

from clusters.analysis.facts import HOSTNAME, HOURS_PER_MONTH, Lifecycle, Node, Resources, Taint

_NO_LABELS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class NodeOffer:
    """A node that could be bought: its type, where, in which pool (labels, taints), and for how much."""

    instance_type: str
    allocatable: Resources
    hourly_price: Decimal
    max_pods: int = 110
    zone: str = ""
    lifecycle: Lifecycle = Lifecycle.ON_DEMAND
    labels: Mapping[str, str] = field(default_factory=lambda: _NO_LABELS)
    taints: tuple[Taint, ...] = ()
    pool: str = ""
    price_date: date | None = None

    def as_node(self, name: str) -> Node:
        """The node that buying it would add."""
        return Node(
            name=name,
            allocatable=self.allocatable,
            max_pods=self.max_pods,
            instance_type=self.instance_type,
            lifecycle=self.lifecycle,
            zone=self.zone,
            hourly_price=self.hourly_price,
            price_date=self.price_date,
            labels={**self.labels, HOSTNAME: name},
            taints=self.taints,
            pool=self.pool,
        )


class StuckReason(StrEnum):
    """Why a pod keeps its node."""

    NODE_DO_NOT_DISRUPT = "node_do_not_disrupt"
    DO_NOT_DISRUPT = "do_not_disrupt"
    NO_CONTROLLER = "no_controller"
    LOCAL_VOLUME = "local_volume"
    BUDGET = "budget"
    TWO_BUDGETS = "two_budgets"
    UNPRICED = "unpriced"
    RULES_BROKEN = "rules_broken"
    NODE_OVERFULL = "node_overfull"
    TOGETHER = "together"

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS = {
    StuckReason.NODE_DO_NOT_DISRUPT: "its node is marked do-not-disrupt",
    StuckReason.DO_NOT_DISRUPT: "it is marked do-not-disrupt",
    StuckReason.NO_CONTROLLER: "no controller would create it again",
    StuckReason.LOCAL_VOLUME: "it keeps data on its node's own disk",
    StuckReason.BUDGET: "its disruption budget allows no disruption now",
    StuckReason.TWO_BUDGETS: "two disruption budgets select it, so evictions are refused",
    StuckReason.UNPRICED: "the price of its node is not known",
    StuckReason.RULES_BROKEN: "its present place already breaks its own placement rules",
    StuckReason.NODE_OVERFULL: "its node holds more than it has room for",
    StuckReason.TOGETHER: "it must stay with a pod that cannot move",
}


@dataclass(frozen=True, slots=True)
class StuckPod:
    """A pod that keeps its node, and why."""

    pod: str
    node: str
    reason: StuckReason
    detail: str = ""

    @property
    def words(self) -> str:
        return f"{self.reason.words} ({self.detail})" if self.detail else self.reason.words


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """A node after the re-packing. `pods` are the keys of the placed pods; daemonset pods of a new node are not among
    them, as they do not exist yet, but their `overhead` is counted."""

    node: Node
    new: bool
    pods: tuple[str, ...]
    overhead: Resources = field(default_factory=Resources)


@dataclass(frozen=True, slots=True)
class PackingPlan:
    """The outcome. Costs are dollars an hour of the priced nodes; unpriced ones are in neither."""

    nodes: tuple[PlannedNode, ...]
    removed: tuple[str, ...]
    cost_now: Decimal
    cost_after: Decimal
    moves: int
    stuck: tuple[StuckPod, ...]
    pending: tuple[str, ...]
    unpriced: tuple[str, ...]

    @property
    def savings_hourly(self) -> Decimal:
        return self.cost_now - self.cost_after

    @property
    def savings_monthly(self) -> Decimal:
        """Potential savings in dollars a month of 730 hours."""
        return self.savings_hourly * HOURS_PER_MONTH

    @property
    def added(self) -> tuple[PlannedNode, ...]:
        return tuple(planned for planned in self.nodes if planned.new)

    @property
    def kept(self) -> tuple[PlannedNode, ...]:
        return tuple(planned for planned in self.nodes if not planned.new)

    def stuck_by_reason(self) -> dict[StuckReason, int]:
        """How many pods each reason holds, most first."""
        return dict(Counter(pod.reason for pod in self.stuck).most_common())
