"""A model of the Kubernetes scheduler, pod by pod, and what it does while nodes are drained.

It knows the filters that decide where a pod may run: requests, pod limit, host ports, cordons, taints, node selector and
affinity, volume zones, pod affinity and anti-affinity (of those that run already, too), and hard topology spread. Of the
nodes that pass it takes the least requested and most evenly requested one, after those with a soft taint. It shares no
code with the packing problem that plans are looked for in. One difference is on purpose: a cordoned node still counts as a domain of a spread
constraint, as it does in a cluster, so a plan must hold while the node is being drained, and not only afterwards.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from clusters.analysis.facts import ZONE, ClusterFacts, Node, Pod, PodTerm, Selector, Spread, Taint, tolerates_all

_Labels = frozenset[tuple[str, str]]
_CORDON = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")


class Scheduler:
    """A cluster whose pods are placed one by one. With a `seed`, equally good nodes are chosen by chance and only some of
    the nodes that pass are compared, as the real one does in large clusters."""

    def __init__(self, facts: ClusterFacts, seed: int | None = None) -> None:
        self.random: random.Random | None = None
        self.chance(seed)
        self.nodes: dict[str, Node] = {}
        self.labels: dict[str, dict[str, str]] = {}
        self.on: dict[str, dict[str, Pod]] = {}
        self.free: dict[str, list[int]] = {}
        self.spaces: dict[str, dict[_Labels, dict[str, Pod]]] = defaultdict(lambda: defaultdict(dict))
        self.wary: dict[str, dict[tuple[str, PodTerm], Counter[str]]] = defaultdict(dict)
        self.kinds: dict[tuple[str, str], Pod] = {}
        self._known: dict[object, dict[str, bool]] = {}
        self._domains: dict[object, dict[str, str]] = {}
        self._size: dict[str, tuple[float, float]] = {}
        self._soft: dict[str, tuple[Taint, ...]] = {}
        for node in facts.nodes:
            self.add_node(node)
        for pod in facts.pods:
            if pod.node in self.nodes:
                self.bind(pod, pod.node)
                self._learn(pod)

    def chance(self, seed: int | None) -> None:
        """Choose by chance from now on, or as it is best (None)."""
        self.random = None if seed is None else random.Random(seed)  # noqa: S311  not for secrets

    def _learn(self, pod: Pod) -> None:
        """Remember what comes with each new node."""
        if not (pod.daemonset or pod.mirror):
            return
        kind = (pod.namespace, pod.workload or pod.name.removesuffix(f"-{pod.node}"))
        known = self.kinds.get(kind)
        larger = pod.requests if known is None else known.requests.larger_of(pod.requests)
        self.kinds[kind] = replace(known or pod, requests=larger)

    # State -----------------------------------------------------------------------------------------------------

    def add_node(self, node: Node) -> None:
        self.nodes[node.name] = node
        self._forget(node.name)
        self.labels[node.name] = node.topology()
        self.on[node.name] = {}
        self._domains.clear()
        most = node.allocatable
        self.free[node.name] = [most.cpu_milli, most.memory_bytes, node.max_pods, most.gpus]

    def add_with_daemons(self, node: Node) -> None:
        """A new node, with a pod of each daemonset that runs there."""
        self.add_node(node)
        for (space, name), pod in self.kinds.items():
            if _accepts(pod, self.labels[node.name]) and tolerates_all(pod.tolerations, node.taints):
                daemon = replace(pod, name=f"{name.rsplit('/', 1)[-1]}-{node.name}", namespace=space, node=node.name)
                self.bind(daemon, node.name)

    def change(self, name: str, **fields: Any) -> None:
        """Cordon, taint."""
        self.nodes[name] = replace(self.nodes[name], **fields)
        self._forget(name)

    def _forget(self, name: str) -> None:
        node = self.nodes[name]
        self._size[name] = (1 / max(node.allocatable.cpu_milli, 1), 1 / max(node.allocatable.memory_bytes, 1))
        self._soft[name] = tuple(taint for taint in node.taints if taint.effect == "PreferNoSchedule")
        for known in self._known.values():
            known.pop(name, None)

    def remove_node(self, name: str) -> list[Pod]:
        """It goes, with what is on it."""
        pods = list(self.on[name].values())
        for pod in pods:
            self.unbind(pod)
        self._domains.clear()
        for known in (self.nodes, self.labels, self.on, self.free):
            del known[name]
        return pods

    def bind(self, pod: Pod, name: str) -> None:
        pod = pod if pod.node == name else replace(pod, node=name)
        self.on[name][pod.key] = pod
        self.spaces[pod.namespace][frozenset(pod.labels.items())][pod.key] = pod
        self._use(name, pod, -1)

    def unbind(self, pod: Pod) -> None:
        name = pod.node or ""
        del self.on[name][pod.key]
        del self.spaces[pod.namespace][frozenset(pod.labels.items())][pod.key]
        self._use(name, pod, 1)

    def _use(self, name: str, pod: Pod, sign: int) -> None:
        free, need = self.free[name], pod.requests
        for r, amount in enumerate((need.cpu_milli, need.memory_bytes, 1, need.gpus)):
            free[r] += sign * amount
        for term in pod.pod_anti_affinity:
            domain = self.labels[name].get(term.topology_key)
            if domain is not None:
                for space in term.namespaces or (pod.namespace,):
                    owners = self.wary[space].setdefault((pod.namespace, term), Counter())
                    owners[domain] -= sign

    def facts(self) -> ClusterFacts:
        return ClusterFacts(
            tuple(self.nodes.values()), tuple(pod for pods in self.on.values() for pod in pods.values())
        )

    # Scheduling ------------------------------------------------------------------------------------------------

    def schedule(self, pod: Pod) -> str | None:
        """Bind the pod to the best node that takes it; None when none does."""
        names = self.feasible(pod)
        if not names:
            return None
        if self.random is not None:
            self.random.shuffle(names)
            names = names[: max(len(names) // 2, 1)]
        best = max(names, key=lambda name: self._score(pod, name))
        self.bind(pod, best)
        return best

    def takes(self, pod: Pod, name: str) -> bool:
        """Whether this node takes it."""
        return name in self.feasible(pod, (name,))

    def feasible(self, pod: Pod, among: Iterable[str] | None = None) -> list[str]:
        """The nodes that take it (of those in `among`), in no particular order."""
        need = pod.requests
        cpu, memory, gpus = need.cpu_milli, need.memory_bytes, need.gpus
        names = [
            name
            for name, free in (self.free.items() if among is None else [(name, self.free[name]) for name in among])
            if cpu <= free[0] and memory <= free[1] and free[2] >= 1 and gpus <= free[3]
        ]
        known = self._known.setdefault((pod.tolerations, pod.node_selector, pod.node_affinity, pod.zones), {})
        for name in names:
            if name not in known:
                known[name] = self._open(pod, name)
        names = [name for name in names if known[name]]
        if pod.host_ports:
            names = [name for name in names if not self._port_taken(pod, name)]
        for key, domains in (*self._apart(pod), *self._spread(pod)):
            names = [name for name in names if self.labels[name].get(key) not in domains]
        for term in pod.pod_affinity:
            wanted = self._together(pod, term)
            if wanted is not None:
                names = [name for name in names if self.labels[name].get(term.topology_key) in wanted]
        for spread in pod.topology_spread:
            if spread.hard:
                names = [name for name in names if spread.topology_key in self.labels[name]]
        return names

    def _open(self, pod: Pod, name: str) -> bool:
        node, labels = self.nodes[name], self.labels[name]
        taints = (*node.taints, _CORDON) if node.unschedulable else node.taints
        if taints and not tolerates_all(pod.tolerations, taints):
            return False
        if pod.zones is not None and labels.get(ZONE, "") not in pod.zones:
            return False
        return _accepts(pod, labels)

    def _port_taken(self, pod: Pod, name: str) -> bool:
        wanted = set(pod.host_ports)
        return any(wanted.intersection(other.host_ports) for other in self.on[name].values())

    def _selected(self, owner: Pod, term: PodTerm) -> Iterator[Pod]:
        spaces = term.namespaces or (owner.namespace,)
        for space in list(self.spaces) if "*" in spaces else spaces:
            yield from self._matching(space, term.selector)

    def _matching(self, space: str, selector: Selector) -> Iterator[Pod]:
        for pods in self.spaces.get(space, {}).values():
            first = next(iter(pods.values()), None)
            if first is not None and selector.matches(first.labels):
                yield from pods.values()

    def _apart(self, pod: Pod) -> list[tuple[str, set[str]]]:
        """Topology keys with the domains that an anti-affinity term closes, its own or that of a running pod."""
        blocked: dict[str, set[str]] = defaultdict(set)
        for term in pod.pod_anti_affinity:
            for other in self._selected(pod, term):
                domain = self.labels[other.node or ""].get(term.topology_key)
                if domain is not None:
                    blocked[term.topology_key].add(domain)
        for space in (pod.namespace, "*"):
            for (_, term), owners in self.wary.get(space, {}).items():
                if term.selector.matches(pod.labels):
                    blocked[term.topology_key].update(domain for domain, count in owners.items() if count > 0)
        return list(blocked.items())

    def _together(self, pod: Pod, term: PodTerm) -> set[str] | None:
        """The domains that the term asks for; None for the first pod of a group that wants to be with its own."""
        found = {self.labels[other.node or ""].get(term.topology_key) for other in self._selected(pod, term)}
        domains = {domain for domain in found if domain is not None}
        return None if not domains and term.selects(pod, pod) else domains

    def _spread(self, pod: Pod) -> list[tuple[str, set[str]]]:
        blocked = []
        for spread in pod.topology_spread:
            if spread.hard:
                counts = self._counts(pod, spread)
                least = min(counts.values(), default=0)
                own = 1 if spread.selects(pod, pod) else 0
                full = {domain for domain, n in counts.items() if n + own - least > spread.max_skew}
                blocked.append((spread.topology_key, full))
        return blocked

    def _counts(self, pod: Pod, spread: Spread) -> Counter[str]:
        key = (pod.node_selector, pod.node_affinity, spread.topology_key)
        domains = self._domains.get(key)
        if domains is None:
            domains = self._domains[key] = {
                name: labels[spread.topology_key]
                for name, labels in self.labels.items()
                if spread.topology_key in labels and _accepts(pod, labels)
            }
        counts: Counter[str] = Counter(dict.fromkeys(domains.values(), 0))
        for other in self._matching(pod.namespace, spread.selector):
            domain = domains.get(other.node or "")
            if domain is not None:
                counts[domain] += 1
        return counts

    def _score(self, pod: Pod, name: str) -> tuple[float, str]:
        free, (per_cpu, per_memory) = self.free[name], self._size[name]
        cpu = (free[0] - pod.requests.cpu_milli) * per_cpu
        memory = (free[1] - pod.requests.memory_bytes) * per_memory
        soft = self._soft[name]
        kept_away = soft and any(not any(t.tolerates(taint) for t in pod.tolerations) for taint in soft)
        return ((0 if kept_away else 3) + (cpu + memory) / 2 + 1 - abs(cpu - memory) / 2, name)


def _accepts(pod: Pod, labels: dict[str, str]) -> bool:
    if not pod.node_selector.matches(labels):
        return False
    return not pod.node_affinity or any(term.matches(labels) for term in pod.node_affinity)
