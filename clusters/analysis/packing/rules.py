"""Which rules bind which pods: what must share a node, what must not, what keeps its zone, and what must not move.

`Rules` looks at the whole cluster once. Rules about the host name become *tokens*: a pod brings tokens to its node,
`caps` limits how many of a token a node may hold, and `apart` names tokens that exclude each other. Rules about any other
key are turned into "keeps the value it has today", which is always satisfiable since it is today's state.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from clusters.analysis.facts import HOSTNAME, ClusterFacts, Node, Pod, PodTerm, Selector, Spread
from clusters.analysis.packing.model import StuckReason

Token = int
_Rule = TypeVar("_Rule", PodTerm, Spread)
Stuck = dict[str, tuple[StuckReason, str]]


class Rules:
    """Everything that ties pods to each other, to zones and to their nodes."""

    def __init__(self, facts: ClusterFacts) -> None:
        self.nodes: dict[str, Node] = {node.name: node for node in facts.nodes}
        self.topology: dict[str, dict[str, str]] = {name: node.topology() for name, node in self.nodes.items()}
        self.pods = [pod for pod in facts.pods if pod.node in self.nodes]
        self.caps: dict[Token, int] = {}
        self.apart: dict[Token, Token] = {}
        self.tokens: dict[str, Counter[Token]] = defaultdict(Counter)
        self.keeps: dict[str, dict[str, str]] = defaultdict(dict)
        self.tied: dict[str, set[str]] = defaultdict(set)
        self.broken: Stuck = {}
        self._matcher = _Matcher(self.pods)
        self._next_token = 0
        self._read_ports()
        for anti, owners in _distinct(self.pods, lambda pod: pod.pod_anti_affinity):
            self._read_anti_affinity(anti, owners)
        for term, owners in _distinct(self.pods, lambda pod: pod.pod_affinity):
            self._read_affinity(term, owners)
        for spread, owners in _distinct(self.pods, lambda pod: pod.topology_spread):
            if spread.hard:
                self._read_spread(spread, owners)

    def tokens_for_copy(self, pod: Pod) -> Counter[Token]:
        """What another pod with the same labels and ports brings along, such as a daemonset's pod on a new node."""
        return self.tokens.get(pod.key, Counter())

    def _token(self) -> Token:
        self._next_token += 1
        return self._next_token

    def _read_ports(self) -> None:
        known: dict[int, Token] = {}
        for pod in self.pods:
            for port in pod.host_ports:
                if port not in known:
                    known[port] = self._token()
                    self.caps[known[port]] = 1
                self.tokens[pod.key][known[port]] += 1

    def _read_anti_affinity(self, term: PodTerm, owners: list[Pod]) -> None:
        matched = self._matcher.term(owners[0], term)
        if term.topology_key != HOSTNAME:
            self._keep_domain(term.topology_key, [*owners, *matched])
            self._break_where_together(term.topology_key, owners, matched)
            return
        own, other = self._token(), self._token()
        self.apart[own], self.apart[other] = other, own
        for pod in owners:
            self.tokens[pod.key][own] += 1
        for pod in matched:
            self.tokens[pod.key][other] += 1
        self._break_where_together(HOSTNAME, owners, matched)

    def _break_where_together(self, topology_key: str, owners: list[Pod], matched: list[Pod]) -> None:
        """Owners that share a domain with what they want to be apart from: their rule is broken already."""
        present: dict[str | None, set[str]] = defaultdict(set)
        for pod in matched:
            present[self._domain(pod, topology_key)].add(pod.key)
        for owner in owners:
            domain = self._domain(owner, topology_key)
            others = present.get(domain, set()) - {owner.key}
            if domain is not None and others:
                for key in (owner.key, *others):
                    self.broken[key] = (StuckReason.RULES_BROKEN, "anti-affinity")

    def _read_affinity(self, term: PodTerm, owners: list[Pod]) -> None:
        matched = self._matcher.term(owners[0], term)
        if term.topology_key != HOSTNAME:
            self._keep_domain(term.topology_key, [*owners, *matched])
        present: dict[str | None, list[str]] = defaultdict(list)
        for pod in matched:
            present[self._domain(pod, term.topology_key)].append(pod.key)
        for owner in owners:
            domain = self._domain(owner, term.topology_key)
            others = present.get(domain, [])
            if domain is None or not others:
                self.broken[owner.key] = (StuckReason.RULES_BROKEN, "affinity")
            elif term.topology_key == HOSTNAME:
                for key in others:
                    self.tied[owner.key].add(key)
                    self.tied[key].add(owner.key)

    def _read_spread(self, spread: Spread, owners: list[Pod]) -> None:
        matched = self._matcher.spread(owners[0], spread)
        counts = Counter(self._domain(pod, spread.topology_key) for pod in matched)
        if spread.topology_key == HOSTNAME:
            if max(counts.values(), default=0) > spread.max_skew:
                for pod in owners:
                    self.broken[pod.key] = (StuckReason.RULES_BROKEN, "topology spread")
                return
            token = self._token()
            self.caps[token] = spread.max_skew
            for pod in matched:
                self.tokens[pod.key][token] += 1
            return
        self._keep_domain(spread.topology_key, [*owners, *matched])
        for group in _by_placement(owners).values():
            domains = self.spread_domains(group[0], spread)
            seen = [counts.get(domain, 0) for domain in domains]
            if seen and max(seen) - min(seen) > spread.max_skew:
                for pod in group:
                    self.broken[pod.key] = (StuckReason.RULES_BROKEN, "topology spread")

    def spread_domains(self, pod: Pod, spread: Spread) -> set[str]:
        """The domains that count for this pod: those of the nodes that its selector and affinity accept."""
        return {
            labels[spread.topology_key]
            for labels in self.topology.values()
            if spread.topology_key in labels and accepts(pod, labels)
        }

    def _keep_domain(self, topology_key: str, pods: Sequence[Pod]) -> None:
        for pod in pods:
            domain = self._domain(pod, topology_key)
            if domain is None:
                self.broken[pod.key] = (StuckReason.RULES_BROKEN, f"its node has no {topology_key}")
            else:
                self.keeps[pod.key][topology_key] = domain

    def _domain(self, pod: Pod, topology_key: str) -> str | None:
        return self.topology[pod.node or ""].get(topology_key)


def accepts(pod: Pod, labels: Mapping[str, str]) -> bool:
    """Whether the pod's node selector and node affinity accept a node with these labels."""
    if not pod.node_selector.matches(labels):
        return False
    return not pod.node_affinity or any(term.matches(labels) for term in pod.node_affinity)


def _distinct(pods: Sequence[Pod], rules_of: Callable[[Pod], tuple[_Rule, ...]]) -> Iterator[tuple[_Rule, list[Pod]]]:
    """Each different rule with the pods that have it; the same words in two namespaces are two rules."""
    found: dict[tuple[str, _Rule], list[Pod]] = defaultdict(list)
    for pod in pods:
        for rule in dict.fromkeys(rules_of(pod)):
            found[(pod.namespace, rule)].append(pod)
    for (_, rule), owners in found.items():
        yield rule, owners


def _by_placement(pods: Sequence[Pod]) -> dict[tuple[Selector, tuple[Selector, ...]], list[Pod]]:
    groups: dict[tuple[Selector, tuple[Selector, ...]], list[Pod]] = defaultdict(list)
    for pod in pods:
        groups[(pod.node_selector, pod.node_affinity)].append(pod)
    return groups


class _Matcher:
    """Finds the pods that a term speaks of, looking at each different set of labels of a namespace once."""

    def __init__(self, pods: Sequence[Pod]) -> None:
        self._groups: dict[str, dict[frozenset[tuple[str, str]], list[Pod]]] = defaultdict(lambda: defaultdict(list))
        for pod in pods:
            self._groups[pod.namespace][frozenset(pod.labels.items())].append(pod)

    def term(self, owner: Pod, term: PodTerm) -> list[Pod]:
        spaces = term.namespaces or (owner.namespace,)
        return self._select(list(self._groups) if "*" in spaces else spaces, term.selector)

    def spread(self, owner: Pod, spread: Spread) -> list[Pod]:
        return self._select((owner.namespace,), spread.selector)

    def _select(self, spaces: Sequence[str], selector: Selector) -> list[Pod]:
        return [
            pod
            for space in spaces
            for group in self._groups.get(space, {}).values()
            if selector.matches(group[0].labels)
            for pod in group
        ]
