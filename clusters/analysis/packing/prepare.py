"""From facts to a packing problem: what may move, in classes of equals, and what it may be put on.

The search works on numbers only. An *item* is a pod, or pods that must share a node. Items that no rule tells apart form
a class. A *shape* is a kind of node: existing nodes that no class tells apart (as many as there are), or an offer (any
number). A *home* is a node that stays whatever happens, because something on it cannot move or because it is paid for
anyway; its free room is for nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from clusters.analysis.facts import (
    HOSTNAME,
    ZONE,
    ClusterFacts,
    Lifecycle,
    Node,
    Pod,
    Resources,
    add_up,
    tolerates_all,
)
from clusters.analysis.packing.model import NodeOffer, StuckPod, StuckReason
from clusters.analysis.packing.rules import Rules, Token, accepts

Amount = tuple[int, int, int, int]  # CPU milli, memory bytes, pods, GPUs


@dataclass(slots=True)
class ItemClass:
    """Items that are the same to every rule. `pods[i]` are the pods of item i, `origin[i]` the node it runs on."""

    need: Amount
    tokens: tuple[tuple[Token, int], ...]
    single: bool
    pods: list[tuple[Pod, ...]] = field(default_factory=list)
    origin: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Shape:
    """A kind of node. `nodes` are the existing ones (then there are only so many), `offer` is what can be bought."""

    price: float
    room: Amount
    held: Counter[Token]
    nodes: list[Node]
    offer: NodeOffer | None
    overhead: Resources
    accepts: tuple[int, ...] = ()


@dataclass(slots=True)
class Home:
    """A node that stays. `room` and `held` are what the pods that stay on it leave and bring."""

    node: Node
    room: Amount
    held: Counter[Token]
    accepts: frozenset[int] = frozenset()


@dataclass(slots=True)
class Problem:
    """What the search works on, and what the plan is written from."""

    classes: list[ItemClass]
    shapes: list[Shape]
    homes: list[Home]
    caps: Mapping[Token, int]
    apart: Mapping[Token, Token]
    stuck: list[StuckPod]
    pending: list[str]
    staying: dict[str, list[Pod]]


def prepare(facts: ClusterFacts, offers: Sequence[NodeOffer]) -> Problem:
    """Sort out what may move and what to."""
    rules = Rules(facts)
    placed = facts.pods_by_node()
    stuck = _stuck_pods(facts, rules, placed)
    classes, signatures = _classes(facts, rules, stuck)
    problem = Problem(
        classes=classes,
        shapes=[],
        homes=[],
        caps=rules.caps,
        apart=rules.apart,
        stuck=[stuck[key] for key in sorted(stuck)],
        pending=sorted(pod.key for pod in facts.pods if pod.node not in rules.nodes),
        staying={name: [pod for pod in pods if pod.key in stuck or _bound(pod)] for name, pods in placed.items()},
    )
    _add_nodes(problem, facts, rules, signatures, stuck)
    _add_offers(problem, facts, rules, signatures, offers)
    return problem


def _bound(pod: Pod) -> bool:
    """Comes and goes with its node."""
    return pod.daemonset or pod.mirror


# What must not move ----------------------------------------------------------------------------------------------


def _stuck_pods(facts: ClusterFacts, rules: Rules, placed: Mapping[str, list[Pod]]) -> dict[str, StuckPod]:
    stuck: dict[str, StuckPod] = {}
    budgets = _budget_reasons(facts, rules)
    for node in facts.nodes:
        pods = placed[node.name]
        whole = _whole_node(node, pods)
        labels = rules.topology[node.name]
        for pod in pods:
            if _bound(pod):
                continue
            why = (whole, "") if whole else _own_reason(pod) or budgets.get(pod.key) or rules.broken.get(pod.key)
            if why is None and not _may_run(pod, node, labels):
                why = (StuckReason.RULES_BROKEN, "node selector, affinity, taint or volume zone")
            if why is not None:
                stuck[pod.key] = StuckPod(pod.key, node.name, why[0], why[1])
    _tie(rules, stuck)
    return stuck


def _whole_node(node: Node, pods: Sequence[Pod]) -> StuckReason | None:
    if node.do_not_disrupt:
        return StuckReason.NODE_DO_NOT_DISRUPT
    if node.hourly_price is None:
        return StuckReason.UNPRICED
    if len(pods) > node.max_pods or not add_up([pod.requests for pod in pods]).at_most(node.allocatable):
        return StuckReason.NODE_OVERFULL
    ports = Counter(port for pod in pods for port in pod.host_ports)
    if max(ports.values(), default=0) > 1:
        return StuckReason.NODE_OVERFULL
    return None


def _own_reason(pod: Pod) -> tuple[StuckReason, str] | None:
    if pod.do_not_disrupt:
        return (StuckReason.DO_NOT_DISRUPT, "")
    if pod.local_volume:
        return (StuckReason.LOCAL_VOLUME, "")
    if not pod.owner:
        return (StuckReason.NO_CONTROLLER, "")
    return None


def _budget_reasons(facts: ClusterFacts, rules: Rules) -> dict[str, tuple[StuckReason, str]]:
    selected: dict[str, list[str]] = defaultdict(list)
    blocked: dict[str, str] = {}
    by_space: dict[str, list[Pod]] = defaultdict(list)
    for pod in rules.pods:
        by_space[pod.namespace].append(pod)
    for budget in facts.budgets:
        pods = [pod for pod in by_space[budget.namespace] if budget.selector.matches(pod.labels)]
        owners = {pod.workload: pod.owner_replicas for pod in pods}
        replicas = [count for count in owners.values() if count is not None]
        expected = sum(replicas) if len(replicas) == len(owners) else None
        full = budget.allowed(len(pods), expected) <= 0
        for pod in pods:
            selected[pod.key].append(budget.name)
            if full:
                blocked[pod.key] = budget.name
    reasons = {key: (StuckReason.BUDGET, name) for key, name in blocked.items()}
    for key, names in selected.items():
        if len(names) > 1:
            reasons[key] = (StuckReason.TWO_BUDGETS, ", ".join(sorted(names)))
    return reasons


def _tie(rules: Rules, stuck: dict[str, StuckPod]) -> None:
    """What must share a node with a stuck pod, or with a daemonset's, is stuck as well."""
    where = {pod.key: pod for pod in rules.pods}
    queue = [*stuck, *(key for key in rules.tied if _bound(where[key]))]
    while queue:
        key = queue.pop()
        for other in rules.tied.get(key, ()):
            if other not in stuck and not _bound(where[other]):
                stuck[other] = StuckPod(other, where[other].node or "", StuckReason.TOGETHER, key)
                queue.append(other)


# Classes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Signature:
    """What decides on which kind of node an item may be: the same for whole classes."""

    members: tuple[Hashable, ...]
    keeps: tuple[tuple[str, str], ...]
    spot: bool


def _classes(
    facts: ClusterFacts, rules: Rules, stuck: Mapping[str, StuckPod]
) -> tuple[list[ItemClass], list[tuple[_Signature, tuple[Pod, ...], int]]]:
    """Group the items. The second list names, for each class, its signature, its pods and its place in the first."""
    groups: dict[Hashable, ItemClass] = {}
    signatures: list[tuple[_Signature, tuple[Pod, ...], int]] = []
    for item in _items(rules, stuck):
        amount = add_up([pod.requests for pod in item])
        need = (amount.cpu_milli, amount.memory_bytes, len(item), amount.gpus)
        tokens: Counter[Token] = Counter()
        for pod in item:
            tokens.update(rules.tokens.get(pod.key, {}))
        ordered = tuple(sorted(tokens.items())) if tokens else ()
        signature = _signature(item, rules)
        key = (need, ordered, signature)
        found = groups.get(key)
        if found is None:
            single = any(rules.apart.get(token) in tokens for token in tokens)
            found = groups[key] = ItemClass(need, ordered, single)
            signatures.append((signature, item, len(groups) - 1))
        found.pods.append(item)
        found.origin.append(item[0].node or "")
    return list(groups.values()), signatures


def _items(rules: Rules, stuck: Mapping[str, StuckPod]) -> Iterable[tuple[Pod, ...]]:
    seen: set[str] = set()
    where = {pod.key: pod for pod in rules.pods}
    for pod in rules.pods:
        if pod.key in seen or pod.key in stuck or _bound(pod):
            continue
        group, queue = [], [pod.key]
        seen.add(pod.key)
        while queue:
            key = queue.pop()
            group.append(where[key])
            for other in sorted(rules.tied.get(key, ())):
                if other not in seen and not _bound(where[other]):
                    seen.add(other)
                    queue.append(other)
        yield tuple(group)


def _signature(item: tuple[Pod, ...], rules: Rules) -> _Signature:
    keeps: dict[str, str] = {}
    for pod in item:
        keeps |= rules.keeps.get(pod.key, {})
    members = tuple((pod.node_selector, pod.node_affinity, pod.tolerations, pod.zones) for pod in item)
    node = rules.nodes[item[0].node or ""]
    return _Signature(tuple(dict.fromkeys(members)), tuple(sorted(keeps.items())), node.lifecycle is Lifecycle.SPOT)


def _may_run(pod: Pod, node: Node, labels: Mapping[str, str]) -> bool:
    """Selector, affinity, taints and volume zones; the cordon's own taint does not count for who is there already."""
    if pod.zones is not None and labels.get(ZONE, "") not in pod.zones:
        return False
    taints = tuple(taint for taint in node.taints if taint.key != "node.kubernetes.io/unschedulable")
    return accepts(pod, labels) and tolerates_all(pod.tolerations, taints)


def _suits(signature: _Signature, pods: tuple[Pod, ...], node: Node, labels: Mapping[str, str]) -> bool:
    if node.lifecycle is Lifecycle.SPOT and not signature.spot:
        return False
    if any(labels.get(key) != value for key, value in signature.keeps):
        return False
    return all(_may_run(pod, node, labels) for pod in pods)


# Shapes ----------------------------------------------------------------------------------------------------------


def _add_nodes(
    problem: Problem,
    facts: ClusterFacts,
    rules: Rules,
    signatures: Sequence[tuple[_Signature, tuple[Pod, ...], int]],
    stuck: Mapping[str, StuckPod],
) -> None:
    relevant = _relevant_keys(facts)
    shapes: dict[Hashable, Shape] = {}
    suited: dict[Hashable, frozenset[int]] = {}
    for node in facts.nodes:
        staying = problem.staying[node.name]
        room = _room(node, staying)
        held = _held(rules, staying)
        labels = rules.topology[node.name]
        visible = tuple(sorted((key, value) for key, value in labels.items() if key in relevant))
        closed = node.unschedulable or node.hourly_price is None
        place = (visible, node.taints, node.lifecycle is Lifecycle.SPOT, closed)
        if place not in suited:
            suited[place] = frozenset(
                index for sig, pods, index in signatures if not closed and _suits(sig, pods, node, labels)
            )
        stays = any(pod.key in stuck for pod in staying) or node.lifecycle is Lifecycle.RESERVED
        if stays or node.do_not_disrupt or node.hourly_price is None:
            problem.homes.append(Home(node, room, held, suited[place]))
            continue
        key = (place, room, tuple(sorted(held.items())), node.hourly_price)
        if key not in shapes:
            overhead = add_up([pod.requests for pod in staying])
            shapes[key] = Shape(float(node.hourly_price), room, held, [], None, overhead, tuple(sorted(suited[place])))
        shapes[key].nodes.append(node)
    problem.shapes.extend(shapes.values())


def _add_offers(
    problem: Problem,
    facts: ClusterFacts,
    rules: Rules,
    signatures: Sequence[tuple[_Signature, tuple[Pod, ...], int]],
    offers: Sequence[NodeOffer],
) -> None:
    relevant = _relevant_keys(facts)
    copies = _copied_pods(rules)
    closed = _ClosedDomains(rules)
    best: dict[Hashable, Shape] = {}
    for offer in offers:
        node = offer.as_node("new")
        labels = node.topology()
        if closed.would_open(labels):
            continue
        bound = [pod for pod in copies if accepts(pod, labels) and tolerates_all(pod.tolerations, node.taints)]
        room, held = _room(node, bound), _held(rules, bound)
        if min(room) < 0:
            continue
        visible = tuple(sorted((key, value) for key, value in labels.items() if key in relevant))
        key = (visible, node.taints, offer.lifecycle is Lifecycle.SPOT, room, tuple(sorted(held.items())))
        known = best.get(key)
        if known is not None and known.price <= float(offer.hourly_price):
            continue
        suited = (
            tuple(sorted(index for sig, pods, index in signatures if _suits(sig, pods, node, labels)))
            if known is None
            else known.accepts
        )
        overhead = add_up([pod.requests for pod in bound])
        best[key] = Shape(float(offer.hourly_price), room, held, [], offer, overhead, suited)
    problem.shapes.extend(shape for shape in best.values() if shape.accepts)


def _room(node: Node, pods: Sequence[Pod]) -> Amount:
    left = node.allocatable - add_up([pod.requests for pod in pods])
    return (left.cpu_milli, left.memory_bytes, node.max_pods - len(pods), left.gpus)


def _held(rules: Rules, pods: Sequence[Pod]) -> Counter[Token]:
    held: Counter[Token] = Counter()
    for pod in pods:
        held.update(rules.tokens_for_copy(pod))
    return held


def _relevant_keys(facts: ClusterFacts) -> frozenset[str]:
    """The label keys that any pod asks about; nodes that differ in others only are the same."""
    keys = {ZONE}
    for pod in facts.pods:
        for selector in (pod.node_selector, *pod.node_affinity):
            keys.update(requirement.key for requirement in selector.requirements)
        keys.update(
            term.topology_key for term in (*pod.pod_affinity, *pod.pod_anti_affinity) if term.topology_key != HOSTNAME
        )
        keys.update(spread.topology_key for spread in pod.topology_spread if spread.topology_key != HOSTNAME)
    return frozenset(keys)


def _copied_pods(rules: Rules) -> list[Pod]:
    """One pod of each daemonset (and kind of static pod), with the largest requests of its pods."""
    kinds: dict[Hashable, list[Pod]] = defaultdict(list)
    for pod in rules.pods:
        if _bound(pod):
            name = pod.workload or pod.name.removesuffix(f"-{pod.node}")
            kinds[(pod.namespace, name)].append(pod)
    copies = []
    for pods in kinds.values():
        most = pods[0].requests
        for pod in pods[1:]:
            most = most.larger_of(pod.requests)
        first = pods[0]
        copies.append(first if most == first.requests else replace(first, requests=most))
    return copies


class _ClosedDomains:
    """Zones in which a spread rule counts nothing today, because no node there suits its pods.

    A new node there would be an empty domain, and every pod of that rule would suddenly be spread badly.
    """

    def __init__(self, rules: Rules) -> None:
        self._open: list[tuple[Pod, str, set[str]]] = []
        seen: set[Hashable] = set()
        for pod in rules.pods:
            for spread in pod.topology_spread:
                key = (pod.namespace, spread.topology_key, pod.node_selector, pod.node_affinity)
                if spread.hard and spread.topology_key != HOSTNAME and key not in seen:
                    seen.add(key)
                    self._open.append((pod, spread.topology_key, rules.spread_domains(pod, spread)))

    def would_open(self, labels: Mapping[str, str]) -> bool:
        return any(
            key in labels and labels[key] not in domains and accepts(pod, labels) for pod, key, domains in self._open
        )
