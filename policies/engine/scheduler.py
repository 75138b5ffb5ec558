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
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from clusters.analysis.facts import ZONE, ClusterFacts, Node, Pod, PodTerm, Spread, Taint, tolerates_all

_CORDON = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")


class Scheduler:
    """A cluster whose pods are placed one by one. With a `seed`, equally good nodes are chosen by chance and only some of
    the nodes that pass are compared, as the real one does in large clusters."""

    def __init__(self, facts: ClusterFacts, seed: int | None = None) -> None:
        self.random = None if seed is None else random.Random(seed)  # noqa: S311  not for secrets
        self.nodes: dict[str, Node] = {}
        self.labels: dict[str, dict[str, str]] = {}
        self.on: dict[str, dict[str, Pod]] = {}
        self.free: dict[str, list[int]] = {}
        self.spaces: dict[str, dict[str, Pod]] = defaultdict(dict)
        self.wary: dict[str, Pod] = {}
        self.kinds: dict[tuple[str, str], Pod] = {}
        self._known: dict[object, dict[str, bool]] = {}
        self._size: dict[str, tuple[float, float]] = {}
        self._soft: dict[str, tuple[Taint, ...]] = {}
        for node in facts.nodes:
            self.add_node(node)
        for pod in facts.pods:
            if pod.node in self.nodes:
                self.bind(pod, pod.node)
                self._learn(pod)

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
        for known in (self.nodes, self.labels, self.on, self.free):
            del known[name]
        return pods

    def bind(self, pod: Pod, name: str) -> None:
        pod = pod if pod.node == name else replace(pod, node=name)
        self.on[name][pod.key] = pod
        self.spaces[pod.namespace][pod.key] = pod
        if pod.pod_anti_affinity:
            self.wary[pod.key] = pod
        self._use(name, pod, -1)

    def unbind(self, pod: Pod) -> None:
        name = pod.node or ""
        del self.on[name][pod.key], self.spaces[pod.namespace][pod.key]
        self.wary.pop(pod.key, None)
        self._use(name, pod, 1)

    def _use(self, name: str, pod: Pod, sign: int) -> None:
        free, need = self.free[name], pod.requests
        for r, amount in enumerate((need.cpu_milli, need.memory_bytes, 1, need.gpus)):
            free[r] += sign * amount

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

    def feasible(self, pod: Pod) -> list[str]:
        """The nodes that take it, in no particular order."""
        need = pod.requests
        names = [
            name
            for name, free in self.free.items()
            if need.cpu_milli <= free[0] and need.memory_bytes <= free[1] and free[2] >= 1 and need.gpus <= free[3]
        ]
        known = self._known.setdefault((pod.tolerations, pod.node_selector, pod.node_affinity, pod.zones), {})
        for name in names:
            if name not in known:
                known[name] = self._open(pod, name)
        names = [name for name in names if known[name]]
        if pod.host_ports:
            names = [name for name in names if not self._port_taken(pod, name)]
        for blocked in (self._apart(pod), self._spread(pod)):
            names = [name for name in names if not any(self.labels[name].get(k) in v for k, v in blocked)]
        for term in pod.pod_affinity:
            domains = self._together(pod, term)
            if domains is not None:
                names = [name for name in names if self.labels[name].get(term.topology_key) in domains]
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
            for other in self.spaces.get(space, {}).values():
                if term.selector.matches(other.labels):
                    yield other

    def _apart(self, pod: Pod) -> list[tuple[str, set[str]]]:
        """Topology keys with the domains that an anti-affinity term closes, its own or that of a running pod."""
        blocked: dict[str, set[str]] = defaultdict(set)
        for term in pod.pod_anti_affinity:
            for other in self._selected(pod, term):
                self._block(blocked, term.topology_key, other)
        for other in self.wary.values():
            for term in other.pod_anti_affinity:
                if term.selects(other, pod):
                    self._block(blocked, term.topology_key, other)
        return list(blocked.items())

    def _block(self, blocked: dict[str, set[str]], key: str, other: Pod) -> None:
        domain = self.labels[other.node or ""].get(key)
        if domain is not None:
            blocked[key].add(domain)

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
        counts: Counter[str] = Counter()
        eligible = set()
        for name, labels in self.labels.items():
            domain = labels.get(spread.topology_key)
            if domain is not None and _accepts(pod, labels):
                counts[domain] += 0
                eligible.add(name)
        for other in self.spaces.get(pod.namespace, {}).values():
            if other.node in eligible and spread.selector.matches(other.labels):
                counts[self.labels[other.node or ""][spread.topology_key]] += 1
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
