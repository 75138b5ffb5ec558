"""Draining nodes before the model of the scheduler: for one action, and for a whole plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from clusters.analysis.facts import ClusterFacts, Node, Pod, Taint
from policies.engine.actions import Action
from policies.engine.scheduler import Scheduler

CHANCES = (1, 2)  # seeds of choices by chance
SOFT = Taint("curfew.io/leaving", "", "PreferNoSchedule")


@dataclass(slots=True)
class Drain:
    """What became of one action: where the evicted pods went, in order, and which have no place at its end."""

    places: dict[str, str] = field(default_factory=dict)
    unschedulable: list[str] = field(default_factory=list)
    overdrawn: list[str] = field(default_factory=list)
    new_name: str = ""
    _undo: list[tuple[Pod, str | None]] = field(default_factory=list)
    _nodes: dict[str, Node] = field(default_factory=dict)
    _daemons: dict[str, list[Pod]] = field(default_factory=dict)

    def undo(self, cluster: Scheduler) -> None:
        """Put everything back where it was."""
        for name, node in self._nodes.items():
            cluster.add_node(node)
            for pod in self._daemons[name]:
                cluster.bind(pod, name)
        for pod, went in reversed(self._undo):
            if went is not None:
                cluster.unbind(replace(pod, node=went))
            cluster.bind(pod, pod.node or "")
        if self.new_name:
            cluster.remove_node(self.new_name)


def soften(cluster: Scheduler, names: Iterable[str]) -> None:
    """Ask the scheduler to put nothing onto these nodes while there is room elsewhere."""
    for name in names:
        cluster.change(name, taints=(*cluster.nodes[name].taints, SOFT))


def drain(cluster: Scheduler, action: Action, budgets: Mapping[str, Sequence[tuple[str, int]]] | None = None) -> Drain:
    """Cordon, buy, evict one by one, remove. `budgets` are those of each pod, with how many may wait at once."""
    result = Drain(_nodes={name: cluster.nodes[name] for name in action.nodes})
    for name in action.nodes:
        cluster.change(name, unschedulable=True)
    if action.new is not None:
        result.new_name = action.new_name
        cluster.add_with_daemons(action.new.as_node(action.new_name))
        cluster.change(action.new_name, unschedulable=action.opens_after > 0)
    pending: list[Pod] = []
    origin: dict[str, Pod] = {}
    for count, pod in enumerate(_in_order(cluster, action)):
        if action.new is not None and count == action.opens_after > 0:
            cluster.change(action.new_name, unschedulable=False)
        cluster.unbind(pod)
        origin[pod.key] = pod
        pending = _settle(cluster, [*pending, pod], result)
        if budgets:
            _check_budgets(budgets, pod, pending, result)
    if action.new is not None:
        cluster.change(action.new_name, unschedulable=False)
    pending = _settle(cluster, pending, result)
    for name in action.nodes:
        result._daemons[name] = cluster.remove_node(name)
    result.unschedulable = [pod.key for pod in _settle(cluster, pending, result)]
    result._undo = [(pod, result.places.get(key)) for key, pod in origin.items()]
    return result


def goes_well(cluster: Scheduler, action: Action) -> bool:
    """Whether every pod finds a place, as the scheduler would choose and as it might by chance. Changes nothing."""
    for seed in (None, *CHANCES) if action.moves else ():
        cluster.chance(seed)
        tried = drain(cluster, action)
        tried.undo(cluster)
        cluster.chance(None)
        if tried.unschedulable:
            return False
    return True


def _in_order(cluster: Scheduler, action: Action) -> list[Pod]:
    """The planned moves first, then what else is there by now."""
    there = {
        pod.key: pod for name in action.nodes for pod in cluster.on[name].values() if not (pod.daemonset or pod.mirror)
    }
    planned = [there.pop(move.pod) for move in action.moves if move.pod in there]
    return [*planned, *there.values()]


def _settle(cluster: Scheduler, pending: Iterable[Pod], result: Drain) -> list[Pod]:
    """Schedule what waits; answers what still waits. A pod that needs another one waits for it."""
    waiting = list(pending)
    while waiting:
        left = []
        for pod in waiting:
            name = cluster.schedule(pod)
            if name is None:
                left.append(pod)
            else:
                result.places[pod.key] = name
        if len(left) == len(waiting):
            break
        waiting = left
    return waiting


def _check_budgets(
    budgets: Mapping[str, Sequence[tuple[str, int]]], evicted: Pod, pending: Sequence[Pod], result: Drain
) -> None:
    """Nobody may be evicted while more of its budget's pods wait than the budget allows."""
    for name, most in budgets.get(evicted.key, ()):
        if sum(any(other == name for other, _ in budgets.get(pod.key, ())) for pod in pending) > most:
            result.overdrawn.append(name)


@dataclass(slots=True)
class Replay:
    """What a whole plan did: pods without a place, budgets that were overdrawn, pods that went elsewhere than expected, and
    actions that a second look held back."""

    unschedulable: list[str] = field(default_factory=list)
    overdrawn: list[str] = field(default_factory=list)
    held_back: list[Action] = field(default_factory=list)
    elsewhere: int = 0
    evictions: int = 0
    facts: ClusterFacts = field(default_factory=ClusterFacts)


def replay(
    facts: ClusterFacts, actions: Sequence[Action], seed: int | None = None, *, look_again: bool = False
) -> Replay:
    """Carry the actions out one after another. With a `seed` the scheduler chooses by chance.

    Without looking again, which is harder than it will be; or with the model asked once more before each action, as
    `due.confirm` does it, and the action left out if it would leave a pod without a place.
    """
    cluster, result = Scheduler(facts, seed), Replay()
    budgets = _allowed(facts)
    soften(cluster, (name for action in actions for name in action.nodes))
    chance = cluster.random
    for action in actions:
        if look_again and not goes_well(cluster, action):
            result.held_back.append(action)
            continue
        cluster.random = chance
        done = drain(cluster, action, budgets)
        expected = {move.pod: move.target for move in action.moves}
        result.unschedulable.extend(done.unschedulable)
        result.overdrawn.extend(done.overdrawn)
        result.evictions += len(done.places) + len(done.unschedulable)
        result.elsewhere += sum(expected.get(key, name) != name for key, name in done.places.items())
    result.facts = replace(cluster.facts(), budgets=facts.budgets, workloads=facts.workloads)
    return result


def _allowed(facts: ClusterFacts) -> dict[str, list[tuple[str, int]]]:
    found: dict[str, list[tuple[str, int]]] = {}
    for budget in facts.budgets:
        selected = [pod for pod in facts.pods if budget.selects(pod)]
        owners = {pod.workload: pod.owner_replicas for pod in selected}
        sizes = [size for size in owners.values() if size is not None]
        most = budget.allowed(len(selected), sum(sizes) if len(sizes) == len(owners) else None)
        for pod in selected:
            found.setdefault(pod.key, []).append((f"{budget.namespace}/{budget.name}", most))
    return found
