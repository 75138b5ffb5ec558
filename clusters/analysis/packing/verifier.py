"""Checks a plan against the facts, rule by rule and pod by pod. Shares no code with the search that made the plan."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from decimal import Decimal

from clusters.analysis.facts import (
    ZONE,
    ClusterFacts,
    Lifecycle,
    Node,
    Pod,
    PodTerm,
    Spread,
    add_up,
    tolerates_all,
)
from clusters.analysis.packing.model import NodeOffer, PackingPlan


def verify(facts: ClusterFacts, plan: PackingPlan, offers: Sequence[NodeOffer] | None = None) -> list[str]:
    """What is wrong with the plan, in words; an empty list when it may be carried out.

    A rule that is broken today is held against the plan only if a pod that the plan moves is part of it. With `offers`
    each new node must be one of them.
    """
    return list(_Check(facts, plan, offers).findings())


class _Check:
    def __init__(self, facts: ClusterFacts, plan: PackingPlan, offers: Sequence[NodeOffer] | None) -> None:
        self.facts, self.plan, self.offers = facts, plan, offers
        self.pods = {pod.key: pod for pod in facts.pods}
        self.now = {node.name: node for node in facts.nodes}
        self.after = {planned.node.name: planned for planned in plan.nodes}
        self.place = {key: planned.node.name for planned in plan.nodes for key in planned.pods}
        self.moved = {key for key, name in self.place.items() if key in self.pods and self.pods[key].node != name}
        self.then = {name: node.topology() for name, node in self.now.items()}
        self.counted: dict[object, Counter[str]] = {}
        self.by_space: dict[str, list[Pod]] = defaultdict(list)
        for key in self.place:
            if key in self.pods:
                self.by_space[self.pods[key].namespace].append(self.pods[key])
        self.labels = {name: planned.node.topology() for name, planned in self.after.items()}

    def findings(self) -> Iterator[str]:
        yield from self.everyone_has_one_place()
        yield from self.nodes_are_real()
        yield from self.costs_add_up()
        for name in self.after:
            yield from self.node_has_room(name)
        for key in self.moved:
            pod = self.pods[key]
            yield from self.may_be_moved(pod)
            yield from self.suits(pod, self.after[self.place[key]].node)
        yield from self.apart()
        yield from self.together()
        yield from self.spread()

    def everyone_has_one_place(self) -> Iterator[str]:
        counts = Counter(key for planned in self.plan.nodes for key in planned.pods)
        for key, count in counts.items():
            if count > 1:
                yield f"{key} is on {count} nodes"
            if key not in self.pods:
                yield f"{key} does not exist"
        for pod in self.facts.pods:
            placed = pod.key in counts
            if pod.node not in self.now:
                if placed:
                    yield f"{pod.key} was pending"
            elif pod.daemonset or pod.mirror:
                yield from self._stays_with_its_node(pod, placed)
            elif not placed:
                yield f"{pod.key} has no place"

    def _stays_with_its_node(self, pod: Pod, placed: bool) -> Iterator[str]:
        if placed and self.place[pod.key] != pod.node:
            yield f"{pod.key} belongs to node {pod.node}"
        if not placed and pod.node in self.after:
            yield f"{pod.key} is missing from its node"

    def nodes_are_real(self) -> Iterator[str]:
        for planned in self.plan.nodes:
            if not planned.new:
                if self.now.get(planned.node.name) != planned.node:
                    yield f"{planned.node.name} is not the node that it was"
            elif self.offers is not None and not any(
                offer.as_node(planned.node.name) == planned.node for offer in self.offers
            ):
                yield f"{planned.node.name} is not on offer"
        gone = {name for name in self.now if name not in self.after}
        if gone != set(self.plan.removed):
            yield "the removed nodes are not those that are missing"
        for name in gone:
            node = self.now[name]
            if node.hourly_price is None or node.do_not_disrupt or node.lifecycle is Lifecycle.RESERVED:
                yield f"{name} must stay"

    def costs_add_up(self) -> Iterator[str]:
        now = sum((n.hourly_price for n in self.facts.nodes if n.hourly_price is not None), Decimal(0))
        after = sum((p.node.hourly_price for p in self.plan.nodes if p.node.hourly_price is not None), Decimal(0))
        if now != self.plan.cost_now or after != self.plan.cost_after:
            yield f"costs {self.plan.cost_now} and {self.plan.cost_after} should be {now} and {after}"
        if after > now:
            yield "the plan costs more than today"
        if self.plan.moves != len(self.moved):
            yield f"{len(self.moved)} pods move, not {self.plan.moves}"

    def node_has_room(self, name: str) -> Iterator[str]:
        planned = self.after[name]
        if not planned.new and not any(key in self.moved for key in planned.pods):
            return
        pods = [self.pods[key] for key in planned.pods if key in self.pods]
        if planned.new:
            pods = pods + self.daemonsets_for(planned.node)
        if not add_up([pod.requests for pod in pods]).at_most(planned.node.allocatable):
            yield f"{name} holds more than is allocatable"
        if len(pods) > planned.node.max_pods:
            yield f"{name} holds {len(pods)} pods of {planned.node.max_pods}"
        ports = Counter(port for pod in pods for port in pod.host_ports)
        if max(ports.values(), default=0) > 1:
            yield f"{name} has a host port twice"

    def daemonsets_for(self, node: Node) -> list[Pod]:
        kinds: dict[tuple[str, str], list[Pod]] = defaultdict(list)
        for pod in self.facts.pods:
            if (pod.daemonset or pod.mirror) and pod.node in self.now:
                kinds[(pod.namespace, pod.workload or pod.name.removesuffix(f"-{pod.node}"))].append(pod)
        return [pods[0] for pods in kinds.values() if not list(self.suits(pods[0], node, volumes=False))]

    def may_be_moved(self, pod: Pod) -> Iterator[str]:
        if pod.do_not_disrupt or pod.local_volume or not pod.owner or self.now[pod.node or ""].do_not_disrupt:
            yield f"{pod.key} must not be moved"
        budgets = [budget for budget in self.facts.budgets if budget.selects(pod)]
        if len(budgets) > 1:
            yield f"{pod.key} has {len(budgets)} disruption budgets"
        for budget in budgets:
            running = [other for other in self.pods.values() if other.node in self.now and budget.selects(other)]
            wanted = {other.workload: other.owner_replicas for other in running}
            sizes = [size for size in wanted.values() if size is not None]
            expected = sum(sizes) if len(sizes) == len(wanted) else None
            if budget.allowed(len(running), expected) < 1:
                yield f"{pod.key} is held by budget {budget.name}"

    def suits(self, pod: Pod, node: Node, *, volumes: bool = True) -> Iterator[str]:
        labels = node.topology()
        if not pod.node_selector.matches(labels):
            yield f"{pod.key} does not select {node.name}"
        if pod.node_affinity and not any(term.matches(labels) for term in pod.node_affinity):
            yield f"{pod.key} has no affinity to {node.name}"
        if not tolerates_all(pod.tolerations, node.taints):
            yield f"{pod.key} does not tolerate {node.name}"
        if not volumes:
            return
        if node.unschedulable:
            yield f"{node.name} takes no pods"
        if pod.zones is not None and labels.get(ZONE, "") not in pod.zones:
            yield f"{pod.key} has no volume in {node.zone}"
        was = self.now[pod.node or ""].lifecycle
        if node.lifecycle is Lifecycle.SPOT and was is not Lifecycle.SPOT:
            yield f"{pod.key} would change from {was} to spot"

    def _residents(self, spaces: tuple[str, ...]) -> Iterator[tuple[Pod, str]]:
        """The pods of these namespaces with their nodes in the plan."""
        for space in self.by_space if "*" in spaces else spaces:
            for pod in self.by_space.get(space, ()):
                yield pod, self.place[pod.key]

    def apart(self) -> Iterator[str]:
        for owner, name in list(self._residents(("*",))):
            for term in owner.pod_anti_affinity:
                domain = self.labels[name].get(term.topology_key)
                for other, where in self._residents(term.namespaces or (owner.namespace,)):
                    if other.key == owner.key or domain is None or not {owner.key, other.key} & self.moved:
                        continue
                    if self.labels[where].get(term.topology_key) == domain and term.selects(owner, other):
                        yield f"{owner.key} wants to be apart from {other.key}"

    def together(self) -> Iterator[str]:
        for owner, name in list(self._residents(("*",))):
            for term in owner.pod_affinity:
                if owner.key not in self.moved and not self._was_together(owner, term):
                    continue
                domain = self.labels[name].get(term.topology_key)
                if domain is None or not any(
                    self.labels[where].get(term.topology_key) == domain and term.selects(owner, other)
                    for other, where in self._residents(term.namespaces or (owner.namespace,))
                ):
                    yield f"{owner.key} wants to be with another pod"

    def _was_together(self, owner: Pod, term: PodTerm) -> bool:
        """Whether the affinity term was satisfied before."""
        at = self.then[owner.node or ""].get(term.topology_key)
        return at is not None and any(
            self.then[other.node or ""].get(term.topology_key) == at and term.selects(owner, other)
            for other, _ in self._residents(term.namespaces or (owner.namespace,))
        )

    def spread(self) -> Iterator[str]:
        for key in self.moved:
            pod = self.pods[key]
            for spread in pod.topology_spread:
                if spread.hard and self._skew(pod, spread) > spread.max_skew:
                    yield f"{key} is spread badly over {spread.topology_key}"

    def _skew(self, pod: Pod, spread: Spread) -> int:
        rule = (pod.namespace, spread, pod.node_selector, pod.node_affinity)
        if rule not in self.counted:
            self.counted[rule] = self._spread_counts(pod, spread)
        counts = self.counted[rule]
        mine = self.labels[self.place[pod.key]].get(spread.topology_key, "")
        return counts[mine] - min(counts.values(), default=0)

    def _spread_counts(self, pod: Pod, spread: Spread) -> Counter[str]:
        """How many pods of the rule each domain holds, domains that hold none included."""
        counts: Counter[str] = Counter()
        for labels in self.labels.values():
            domain = labels.get(spread.topology_key)
            eligible = pod.node_selector.matches(labels) and (
                not pod.node_affinity or any(term.matches(labels) for term in pod.node_affinity)
            )
            if domain is not None and eligible:
                counts[domain] += 0
        for other, name in self._residents((pod.namespace,)):
            domain = self.labels[name].get(spread.topology_key)
            if domain is not None and domain in counts and spread.selects(pod, other):
                counts[domain] += 1
        return counts
