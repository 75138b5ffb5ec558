"""Which nodes to buy for pods that wait, and what to try when the cloud refuses.

Of the machine types that the template allows and that take the largest waiting pod:

- *Lowest price*: the one with the lowest price per vCPU that would be used. With a full node that is the price per vCPU;
  a large machine for one small pod does not win by being cheap per vCPU that nobody uses.
- *Capacity optimized*: of those at most `premium` dearer than that, the one in the deepest pool (`odds.Odds.depth`).

Then the next waiting pod that did not fit beside it, until none is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from clusters.analysis.facts import CAPACITY_TYPE, ClusterFacts, Lifecycle, Pod, tolerates_all
from clusters.analysis.packing import NodeOffer
from policies.engine.odds import Odds
from policies.engine.refusals import Reason, Refusal
from policies.engine.scheduler import Scheduler
from policies.engine.settings import Provisioning
from policies.engine.template import Template, keeps_data
from policies.enums import Purchasing, Strategy

_MOST_COMPARED = 80
_MOST_ALTERNATIVES = 15
_ABOUT_AS_DEEP = 0.02

Offering = tuple[str, str, str]  # machine type, zone, lifecycle


@dataclass(frozen=True, slots=True)
class Option:
    """Something that can be bought. Spot pools have odds."""

    offer: NodeOffer
    vcpus: int
    odds: Odds | None = None

    @property
    def key(self) -> Offering:
        return (self.offer.instance_type, self.offer.zone, str(self.offer.lifecycle))

    @property
    def price_per_vcpu(self) -> Decimal:
        return self.offer.hourly_price / max(self.vcpus, 1)

    @property
    def depth(self) -> float:
        """On-demand counts as deepest."""
        if self.offer.lifecycle is not Lifecycle.SPOT:
            return 1.0
        return (self.odds or Odds.published()).depth


@dataclass(frozen=True, slots=True)
class Launch:
    """Buy it, for these pods. `used_vcpus` is what they request of it. `alternatives` are what else would hold them, the
    next best first."""

    option: Option
    pods: tuple[str, ...]
    used_vcpus: Decimal
    because: str
    alternatives: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class Launches:
    """What to buy. `placeable` are pods that wait but fit on a node that is there; the rest has a reason."""

    launches: tuple[Launch, ...]
    placeable: tuple[str, ...]
    refusals: Mapping[str, Refusal]


@dataclass(slots=True)
class _Chosen:
    option: Option
    pods: list[Pod]
    per_used: Decimal
    used: Decimal
    others: tuple[Option, ...] = ()


def choose_launches(
    facts: ClusterFacts,
    options: Sequence[Option],
    settings: Provisioning,
    template: Template,
    now: datetime,
    *,
    no_capacity: Mapping[Offering, datetime] | None = None,
    fallen_back: bool = False,
    hold: str = "",
) -> Launches:
    """The nodes for the pods that wait. Nodes that are on their way belong into `facts`, empty.

    `no_capacity` says until when offerings are not asked for again; `fallen_back` that spot was refused, and that this time
    on-demand is bought instead.
    """
    known = {node.name for node in facts.nodes}
    waiting = [pod for pod in facts.pods if pod.node not in known and not pod.daemonset and not pod.mirror]
    waiting.sort(key=lambda pod: (-pod.priority, -pod.requests.cpu_milli, -pod.requests.memory_bytes, pod.key))
    if hold:
        return Launches((), (), {pod.key: Refusal(pod.key, Reason.HELD, hold) for pod in waiting})
    chooser = _Chooser(Scheduler(facts), settings, template, fallen_back)
    chooser.sort_out(options, no_capacity or {}, now)
    return chooser.run(waiting)


@dataclass(slots=True)
class _Chooser:
    cluster: Scheduler
    settings: Provisioning
    template: Template
    fallen_back: bool
    options: list[Option] = field(default_factory=list)
    exhausted: list[Option] = field(default_factory=list)
    outside: list[tuple[Option, str]] = field(default_factory=list)
    cheap: list[Option] = field(default_factory=list)
    on_spot: dict[str, bool] = field(default_factory=dict)
    count: int = 0

    def sort_out(self, options: Sequence[Option], no_capacity: Mapping[Offering, datetime], now: datetime) -> None:
        for option in options:
            why_not = self.template.why_not(option.offer, fallen_back=self.fallen_back)
            until = no_capacity.get(option.key)
            if self.fallen_back and option.offer.lifecycle is Lifecycle.SPOT:
                self.exhausted.append(option)
            elif why_not:
                self.outside.append((option, why_not))
            elif until is not None and now < until:
                self.exhausted.append(option)
            else:
                self.options.append(option)
        self.options.sort(key=lambda o: (o.price_per_vcpu, o.offer.hourly_price, o.key))
        self.cheap = sorted(self.options, key=lambda o: (o.offer.hourly_price, o.key))

    def run(self, waiting: Sequence[Pod]) -> Launches:
        launches, refusals = [], {}
        placeable, left = [], []
        for pod in waiting:
            if self.cluster.schedule(replace(pod, node=None)) is None:
                left.append(pod)
            else:
                placeable.append(pod.key)
        while left:
            first = left[0]
            chosen = self._choose(first, left)
            if chosen is None:
                refusals[first.key] = self._why_not(first)
                left = left[1:]
                continue
            launches.append(self._take(chosen))
            taken = {pod.key for pod in chosen.pods}
            left = [pod for pod in left if pod.key not in taken]
        return Launches(tuple(launches), tuple(placeable), refusals)

    def _choose(self, first: Pod, left: Sequence[Pod]) -> _Chosen | None:
        """The best option that takes the first pod, with the others that fit beside it."""
        alike = [pod for pod in left if self._lifecycle(pod) is self._lifecycle(first)]
        suited = {o.key: o for order in (self.options, self.cheap) for o in self._first_that_take(first, order)}
        found = [self._filled(o, alike) for o in suited.values()]
        if not found:
            return None
        cheapest = min(found, key=_by_price)
        ranked = sorted(found, key=_by_price)
        if self.settings.strategy is Strategy.CAPACITY_OPTIMIZED:
            limit = cheapest.per_used * (1 + self.settings.premium)
            ranked.sort(key=lambda c: (c.per_used > limit, -round(c.option.depth / _ABOUT_AS_DEEP)))
        best, held = ranked[0], {pod.key for pod in ranked[0].pods}
        others = [c.option for c in ranked[1:] if held <= {pod.key for pod in c.pods}]
        best.others = tuple(others[:_MOST_ALTERNATIVES])
        return best

    def _first_that_take(self, pod: Pod, order: Sequence[Option]) -> list[Option]:
        found: list[Option] = []
        for option in order:
            if len(found) == _MOST_COMPARED // 2:
                break
            offer = option.offer
            if self._could_take(offer, pod) and self._right_lifecycle(offer, pod) and self._takes(option, [pod]):
                found.append(option)
        return found

    @staticmethod
    def _could_take(offer: NodeOffer, pod: Pod) -> bool:
        """By what can be told without a look at the cluster."""
        if not pod.requests.at_most(offer.allocatable) or not tolerates_all(pod.tolerations, offer.taints):
            return False
        return pod.zones is None or offer.zone in pod.zones

    def _lifecycle(self, pod: Pod) -> Lifecycle | None:
        if self.template.purchasing is not Purchasing.HYBRID:
            return None
        return Lifecycle.ON_DEMAND if keeps_data(pod) else Lifecycle.SPOT

    def _right_lifecycle(self, offer: NodeOffer, pod: Pod) -> bool:
        """Under a hybrid template data goes to on-demand, and all else to spot unless that has failed."""
        wanted = self._lifecycle(pod)
        if wanted is None or offer.lifecycle is wanted:
            return True
        return wanted is Lifecycle.SPOT and (self.fallen_back or not self._spot_takes(pod))

    def _spot_takes(self, pod: Pod) -> bool:
        every = (*self.options, *self.exhausted)
        if pod.key not in self.on_spot:
            self.on_spot[pod.key] = any(
                o.offer.lifecycle is Lifecycle.SPOT and self._could_take(o.offer, pod) and bool(self._takes(o, [pod]))
                for o in every
            )
        return self.on_spot[pod.key]

    def _takes(self, option: Option, pods: Sequence[Pod]) -> list[Pod]:
        """Which of the pods a new node of that kind would take, in their order."""
        name = f"~{self.count}"
        offer = option.offer
        need = pods[0].requests
        if not need.at_most(offer.allocatable):
            return []
        self.cluster.add_with_daemons(offer.as_node(name))
        taken = []
        for pod in pods:
            if self.cluster.takes(pod, name):
                self.cluster.bind(replace(pod, node=None), name)
                taken.append(pod)
        self.cluster.remove_node(name)
        return taken

    def _filled(self, option: Option, pods: Sequence[Pod]) -> _Chosen:
        taken = self._takes(option, pods)
        used = Decimal(sum(pod.requests.cpu_milli for pod in taken)) / 1000
        return _Chosen(option, taken, option.offer.hourly_price / max(used, Decimal("0.001")), used)

    def _take(self, chosen: _Chosen) -> Launch:
        self.count += 1
        name = f"~launched-{self.count}"
        self.cluster.add_with_daemons(chosen.option.offer.as_node(name))
        for pod in chosen.pods:
            self.cluster.bind(replace(pod, node=None), name)
        option = chosen.option
        words = f"${chosen.per_used:.4f} an hour per vCPU used, ${option.price_per_vcpu:.4f} per vCPU"
        if self.settings.strategy is Strategy.CAPACITY_OPTIMIZED and option.offer.lifecycle is Lifecycle.SPOT:
            words += f"; depth of the pool {option.depth:.2f}"
        if self.fallen_back:
            words += "; on-demand because spot was not to be had"
        return Launch(option, tuple(pod.key for pod in chosen.pods), chosen.used, words, chosen.others)

    def _why_not(self, pod: Pod) -> Refusal:
        """The nearest thing to a solution says why it is none."""
        if any(self._right_lifecycle(o.offer, pod) and self._takes(o, [pod]) for o in self.exhausted):
            reason = Reason.TAKES_SPOT_ONLY if self._spot_only(pod) else Reason.NO_CAPACITY
            return Refusal(pod.key, reason)
        for option, why in self.outside:
            if self._takes(option, [pod]):
                return Refusal(pod.key, Reason.OUTSIDE_TEMPLATE, f"{option.offer.instance_type}: {why}")
        need = pod.requests
        amount = f"{need.cpu_milli}m CPU, {need.memory_bytes / 2**20:.0f} MiB" + (
            f", {need.gpus} GPUs" if need.gpus else ""
        )
        return Refusal(pod.key, Reason.NOTHING_FITS, amount)

    def _spot_only(self, pod: Pod) -> bool:
        return any(
            requirement.key == CAPACITY_TYPE and requirement.operator == "In" and requirement.values == ("spot",)
            for requirement in pod.node_selector.requirements
        )


def _by_price(chosen: _Chosen) -> tuple[Decimal, Decimal, Offering]:
    return (chosen.per_used, chosen.option.offer.hourly_price, chosen.option.key)


# When the cloud refuses ------------------------------------------------------------------------------------------


class Refused(StrEnum):
    """What kind of no."""

    CAPACITY = "capacity"
    SPOT_QUOTA = "spot_quota"
    THROTTLED = "throttled"
    OTHER = "other"


_CODES = {
    "InsufficientInstanceCapacity": Refused.CAPACITY,
    "InsufficientHostCapacity": Refused.CAPACITY,
    "InsufficientReservedInstanceCapacity": Refused.CAPACITY,
    "InsufficientCapacity": Refused.CAPACITY,
    "UnfulfillableCapacity": Refused.CAPACITY,
    "Unsupported": Refused.CAPACITY,
    "SpotMaxPriceTooLow": Refused.CAPACITY,
    "MaxSpotInstanceCountExceeded": Refused.SPOT_QUOTA,
    "RequestLimitExceeded": Refused.THROTTLED,
    "Throttling": Refused.THROTTLED,
    "ThrottlingException": Refused.THROTTLED,
}


@dataclass(frozen=True, slots=True)
class Again:
    """What to do next: choose again with this, or wait, or give up and say so."""

    kind: Refused
    no_capacity: Mapping[Offering, datetime]
    fallen_back: bool = False
    wait: bool = False
    give_up: str = ""


def after_error(
    code: str,
    option: Option,
    settings: Provisioning,
    now: datetime,
    *,
    options: Iterable[Option] = (),
    no_capacity: Mapping[Offering, datetime] | None = None,
) -> Again:
    """After the cloud answered `code`. A pool without capacity is left alone for a while; after spot comes on-demand, at
    once, if the policy says so. `options` are all there are: a spot quota closes every spot pool."""
    kind = _CODES.get(code, Refused.OTHER)
    kept = {key: until for key, until in (no_capacity or {}).items() if now < until}
    if kind is Refused.THROTTLED:
        return Again(kind, kept, wait=True)
    if kind is Refused.OTHER:
        return Again(kind, kept, give_up=f"the cloud answered {code[:80]}")
    until = now + settings.no_capacity_for
    kept[option.key] = until
    if kind is Refused.SPOT_QUOTA:
        kept |= {o.key: until for o in options if o.offer.lifecycle is Lifecycle.SPOT}
    spot = option.offer.lifecycle is Lifecycle.SPOT
    return Again(kind, kept, fallen_back=spot and settings.fall_back)
