"""What the operations of an action do: add one node, take nodes away, let go of what an action left behind.

Each may be killed at any instruction. What is about to be held (a node that is closed, a machine that is bought) is
written down first; whoever resumes looks before it changes. A failure that passes is waited for within the action's own
time; then, and whenever maintenance, sleep or the policy forbids it on the way, the action is given up and what it holds
is let go. Waiting never holds a thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import Any

from clusters.models import Cluster
from clusters.providers.kube import KubeApi
from clusters.sleeping.observe import resource_of
from clusters.sleeping.waiting import is_ready
from clusters.sleeping.world import instance_of, place_of
from core import clock
from core.providers import ProviderError, Throttled
from operations.models import Operation
from operations.registry import BaseExecutor, OperationFailed, RunAgain, RunContext
from policies.document import Exemptions
from policies.enforcing import gateway, services
from policies.enforcing.draining import Closed, Drain
from policies.enforcing.enums import LAUNCH, RELEASE, REMOVE, Kind, Outcome
from policies.enforcing.models import NodeAction
from policies.enforcing.rules import policy_of, why_not
from policies.providers.machines import Bought, Machines, Miss, Pool
from policies.selectors import Applied

LOOK_AGAIN_SECONDS = 15.0
WAIT_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 30.0
DRAIN_SECONDS = 900.0
JOIN_SECONDS = 900.0
LAUNCH_SECONDS = 300.0
LEAVE_SECONDS = 600.0
MOST_TRIES = 12


class GivenUp(Exception):
    """Something forbids the action. Nothing was lost: what it holds is let go."""


class ActionExecutor(BaseExecutor):
    """What launches and removals have in common."""

    queue = "cloud"
    permission = "policies.manage"
    lease_seconds = 30
    max_attempts = 20
    does = Kind.LAUNCH
    patience = DRAIN_SECONDS

    def run(self, context: RunContext) -> Mapping[str, Any]:
        """Result: `outcome` and `words`; what was bought or taken away."""
        action = services.action_of(context.operation)
        if action is None:
            raise OperationFailed("The cluster was disconnected.", code="gone", next_step="Nothing to do.")
        cluster, policy = action.cluster, policy_of(action.cluster)
        try:
            with ExitStack() as stack:
                hands = self._open(stack, cluster, policy, context)
                if "giving_up" in context.state:
                    return self._give_up(context, action, hands, str(context.state["giving_up"]))
                try:
                    return self.go(context, action, cluster, policy, hands)
                except GivenUp as why:
                    context.checkpoint(giving_up=str(why)[:400])
                    return self._give_up(context, action, hands, str(why))
        except ProviderError as failure:
            self._bear(context, failure)
            raise

    def _open(self, stack: ExitStack, cluster: Cluster, policy: Applied | None, context: RunContext) -> Hands:
        kube = stack.enter_context(gateway.open_kube(cluster))
        machines = gateway.open_machines(cluster)
        if machines is None:
            raise OperationFailed("No AWS account is connected for this cluster.", code="no_account")
        exemptions = policy.document.exemptions if policy else Exemptions()
        return Hands(kube, machines, Drain(kube, exemptions, context.renew))

    def go(
        self, context: RunContext, action: NodeAction, cluster: Cluster, policy: Applied | None, hands: Hands
    ) -> Mapping[str, Any]:
        raise NotImplementedError

    def let_go(self, context: RunContext, action: NodeAction, hands: Hands) -> None:
        """Undo what the action holds."""
        release(context, action, hands)

    def _give_up(self, context: RunContext, action: NodeAction, hands: Hands, why: str) -> Mapping[str, Any]:
        context.progress(step=f"Giving up: {why}")
        self.let_go(context, action, hands)
        return {"outcome": Outcome.GIVEN_UP, "words": why, **self.told(action)}

    def told(self, action: NodeAction) -> dict[str, Any]:
        return {"ended": list(action.ended_nodes)} if action.kind == Kind.REMOVE else {}

    def _bear(self, context: RunContext, failure: ProviderError) -> None:
        """A failure that passes costs a pause, not an attempt, while the action has time; after that it is given up."""
        if not failure.transient:
            if "giving_up" not in context.state:
                context.checkpoint(giving_up=f"{failure.message} {failure.detail}".strip()[:400])
                raise RunAgain(0.0) from failure
            return
        worn = self.since(context, "began") > self.patience
        if worn and "giving_up" not in context.state:
            context.checkpoint(giving_up=f"Too long: {failure.message}"[:400])
        if worn and self.since(context, "gave_up") > self.patience:
            return  # the release operation goes on with it
        met = int(context.state.get("met") or 0) + 1
        context.checkpoint(met=met, last_failure=f"{failure.message} {failure.detail}".strip()[:300])
        asked = failure.retry_after if isinstance(failure, Throttled) and failure.retry_after else 0.0
        pause = WAIT_SECONDS * 2.0 ** min(met - 1, 6) / 4
        raise RunAgain(max(asked, min(LONGEST_PAUSE_SECONDS, pause))) from failure

    @staticmethod
    def since(context: RunContext, name: str) -> float:
        """Seconds since a stage was first entered."""
        key = f"{name}_at"
        if key not in context.state:
            context.checkpoint(**{key: clock.now().isoformat()})
        return (clock.now() - datetime.fromisoformat(context.state[key])).total_seconds()

    def stop_if_held(self, cluster: Cluster, policy: Applied | None, context: RunContext) -> None:
        """Maintenance, sleep, a policy that was switched off, somebody who cancels: give up."""
        cluster.refresh_from_db()
        if why := why_not(cluster, policy, self.does):
            raise GivenUp(why)
        if context.operation.cancel_requested_at is not None:
            raise GivenUp("Cancelled on request.")

    def finished(self, operation: Operation) -> None:
        services.finish(operation)

    def subject(self, operation: Operation) -> str:
        return "" if operation.result.get("outcome") != Outcome.DONE else f"{self.does}/{operation.payload['cluster']}"


class Hands:
    """The ways that one action has."""

    def __init__(self, kube: KubeApi, machines: Machines, drain: Drain) -> None:
        self.kube, self.machines, self.drain = kube, machines, drain


class LaunchNode(ActionExecutor):
    """Buy one machine, let it join its group, wait until its node is ready."""

    kind = LAUNCH
    label = "Add a node"
    queue = "fast"
    does = Kind.LAUNCH
    patience = LAUNCH_SECONDS

    def go(
        self, context: RunContext, action: NodeAction, cluster: Cluster, policy: Applied | None, hands: Hands
    ) -> Mapping[str, Any]:
        self.since(context, "began")
        self.stop_if_held(cluster, policy, context)
        machine = self._machine(context, action, cluster, hands)
        group = str(action.launch["group"])
        if not action.launch.get("settled"):
            now = hands.machines.look(machine.id)
            if now is not None and now.state == "pending":
                self._wait_for(context, "start", f"{machine.instance_type} {machine.id} starts", JOIN_SECONDS)
            if now is None or not now.alive:
                raise GivenUp(f"{machine.id} was ended by the cloud before it joined.")
            context.progress(50, f"{machine.id} joins {group}")
            context.renew()
            hands.machines.join(group, machine.id)
            services.keep(action, launch={**action.launch, "settled": True})
        node = self._node(hands, machine.id)
        if node is None:
            now = hands.machines.look(machine.id)
            if now is None or not now.alive:
                raise GivenUp(f"{machine.id} was ended by the cloud before it was ready.")
            self._wait_for(context, "join", f"{machine.id} becomes a node", JOIN_SECONDS)
        price = action.launch.get("prices", {}).get(str(action.launch.get("pool")))
        words = f"{machine.instance_type} ({machine.lifecycle}) in {machine.zone} is ready as {node}."
        return {"outcome": Outcome.DONE, "words": words, "node": node, "machine": machine.id, "hourly": price}

    def _wait_for(self, context: RunContext, name: str, words: str, most: float) -> None:
        if self.since(context, name) > most:
            raise GivenUp(f"Not waited for any longer: {words}.")
        if context.operation.step != words[:200]:
            context.progress(step=words)
        raise RunAgain(WAIT_SECONDS)

    @staticmethod
    def _node(hands: Hands, machine: str) -> str | None:
        for node in hands.kube.list(resource_of("Node")):
            if instance_of(node) == machine and is_ready(node):
                return place_of(node)[1]
        return None

    def _machine(self, context: RunContext, action: NodeAction, cluster: Cluster, hands: Hands) -> Bought:
        """The machine that was bought, by us or by a predecessor that was killed; or a new one."""
        known = action.launch.get("machine")
        if known:
            return Bought(**known)
        mark = str(action.id)
        if action.launch.get("buying"):
            found = hands.machines.bought(mark)
            if found is not None:
                return self._keep(action, found)
        elif not self._still_wanted(action, hands):
            raise GivenUp("The pods that waited wait no more.")
        return self._buy(context, action, cluster, hands, mark)

    @staticmethod
    def _keep(action: NodeAction, found: Bought, pool: Pool | None = None) -> Bought:
        told = {
            "id": found.id,
            "instance_type": found.instance_type,
            "zone": found.zone or (pool.zone if pool else ""),
            "lifecycle": found.lifecycle,
        }
        key = Pool(told["instance_type"], told["zone"], told["lifecycle"]).key
        services.keep(action, launch={**action.launch, "machine": told, "pool": key})
        return Bought(**told)

    @staticmethod
    def _still_wanted(action: NodeAction, hands: Hands) -> bool:
        """Look once more before money is spent."""
        if not action.pods:
            return True
        waiting = hands.kube.list(resource_of("Pod"), fields="spec.nodeName=")
        return bool({"/".join(place_of(pod)) for pod in waiting} & set(action.pods))

    def _buy(self, context: RunContext, action: NodeAction, cluster: Cluster, hands: Hands, mark: str) -> Bought:
        """Ask for the pools in the planned order, spot before on-demand; what has no capacity is remembered."""
        sources = hands.machines.sources(action.launch["groups"])
        tried = int(context.state.get("tried") or 0)
        words: list[str] = list(context.state.get("misses") or [])
        while tried < MOST_TRIES:
            refused = services.refused_pools(cluster, clock.now())
            pools = [p for key in action.launch["pools"] if (p := Pool.of(key)).key not in refused]
            if not pools:
                break
            alike = [pool for pool in pools if pool.lifecycle == pools[0].lifecycle]
            source = next((s for s in sources if s.room and _serves(s.subnets, alike)), None)
            if source is None:
                names = ", ".join(action.launch["groups"]) or "none"
                raise GivenUp(f"No group ({names}) has a launch template, room for one more and a subnet there.")
            tried += 1
            context.progress(
                10, f"Asking for {alike[0].instance_type} ({alike[0].lifecycle}) and {len(alike) - 1} more"
            )
            services.keep(action, launch={**action.launch, "buying": True, "group": source.group})
            context.checkpoint(tried=tried)
            found, misses = hands.machines.buy(
                source, alike, mark=mark, token=f"{action.id.hex}-{tried}", cheapest=bool(action.launch.get("cheapest"))
            )
            words += [miss.words for miss in misses]
            context.checkpoint(misses=words[-10:])
            self._remember(cluster, alike, misses, nothing=found is None)
            if found is not None:
                named = next((p for p in alike if p.instance_type == found.instance_type), None)
                return self._keep(action, found, named)
        said = words[-1] if words else "every pool was without capacity a moment ago"
        raise GivenUp(f"There is no capacity: {said}"[:400])

    @staticmethod
    def _remember(cluster: Cluster, asked: Sequence[Pool], misses: Sequence[Miss], *, nothing: bool) -> None:
        """Pools without capacity rest a while; a limit of the account rules out everything bought in the same way."""
        keys = {miss.pool.key for miss in misses}
        if nothing and (not keys or any(miss.limit for miss in misses)):
            keys = {pool.key for pool in asked}
        if keys:
            services.refuse_pools(cluster, keys, clock.now())


def _serves(subnets: Mapping[str, str], pools: Sequence[Pool]) -> bool:
    return any(not pool.zone or pool.zone in subnets.values() for pool in pools)


class RemoveNodes(ActionExecutor):
    """Wait, look again, buy what replaces them, close the nodes, move their pods, end the machines."""

    kind = REMOVE
    label = "Take nodes away"
    does = Kind.REMOVE
    patience = DRAIN_SECONDS

    def go(
        self, context: RunContext, action: NodeAction, cluster: Cluster, policy: Applied | None, hands: Hands
    ) -> Mapping[str, Any]:
        if "looked" not in context.state:
            self._look_again(context, action, cluster, policy, hands)
        self.since(context, "began")
        self.stop_if_held(cluster, policy, context)
        if action.launch.get("pools") and "replaced" not in context.state:
            self._replace(context, action, cluster, policy, hands)
        left = [name for name in action.nodes if name not in action.ended_nodes]
        for name in left:
            self._close(context, action, hands, name)
        if action.launch.get("opens_after") and "opened" not in context.state:
            self._move_first(context, action, hands, left)
        for number, name in enumerate(left):
            context.progress(20 + 60 * number // max(1, len(left)), f"Moving the pods of {name}")
            self._empty(context, action, hands, name)
            self._end(context, action, cluster, policy, hands, name)
        self._wait_until_gone(context, action, hands)
        count = len(action.ended_nodes)
        words = f"{count} node{'s' if count != 1 else ''} taken away: {', '.join(action.ended_nodes[:5])}."
        return {"outcome": Outcome.DONE, "words": words, **self.told(action)}

    def _look_again(
        self, context: RunContext, action: NodeAction, cluster: Cluster, policy: Applied | None, hands: Hands
    ) -> None:
        """Wait a little, plan anew, and go on only if the same nodes would still be taken away."""
        from policies.enforcing import looking

        if self.since(context, "asked") < LOOK_AGAIN_SECONDS:
            context.progress(step="Waiting, to look once more before anything happens")
            raise RunAgain(LOOK_AGAIN_SECONDS)
        self.stop_if_held(cluster, policy, context)
        assert policy is not None
        if why := looking.why_changed(cluster, policy, hands.kube, action):
            raise GivenUp(why)
        context.checkpoint(looked=True)

    def _replace(
        self, context: RunContext, action: NodeAction, cluster: Cluster, policy: Applied | None, hands: Hands
    ) -> None:
        """The node that takes their pods comes first; without it nothing is moved."""
        child = services.child_of(action)
        if child is None:
            assert policy is not None
            child = services.begin(
                cluster=cluster,
                policy=policy,
                kind=Kind.LAUNCH,
                reason=f"Instead of {', '.join(action.nodes[:3])}",
                launch={k: v for k, v in action.launch.items() if k not in ("receivers", "opens_after")},
                parent=action,
            )
        if child is None:
            raise GivenUp("The node that was to take their pods may not be bought now.")
        if child.ended_at is None:
            context.progress(10, "Waiting for the node that takes their pods")
            raise RunAgain(WAIT_SECONDS)
        if child.outcome != Outcome.DONE:
            raise GivenUp(f"The node that was to take their pods did not come: {child.words}")
        # the wait for a machine is not held against what follows
        context.checkpoint(replaced=str(child.id), began_at=clock.now().isoformat())

    def _move_first(self, context: RunContext, action: NodeAction, hands: Hands, left: Sequence[str]) -> None:
        """The first moves are to fill the room that is there already. The scheduler would rather use the new, empty node,
        so it is closed until they have left their nodes. It opens sooner when a pod finds no place without it."""
        from policies.enforcing import looking

        new = services.replacement_of(action)
        self._close(context, action, hands, new)
        first = frozenset(action.moves[: int(action.launch["opens_after"])])
        found = [hands.drain.step(name, action.moves, only=first) for name in left]
        if stop := next((one.stop for one in found if one.stop), ""):
            raise GivenUp(stop)
        patient = self.since(context, "first moves") <= DRAIN_SECONDS
        if patient and not all(one.empty for one in found) and not looking.anything_waits(hands.kube):
            count = sum(len(one.waiting) + len(one.refused) for one in found)
            context.progress(15, f"{count} pods move to other nodes before {new} takes any")
            raise RunAgain(WAIT_SECONDS)
        hands.drain.open(new, str(action.id))
        services.keep(action, cordoned=[n for n in action.cordoned if n != new])
        context.checkpoint(opened=True)

    @staticmethod
    def _close(context: RunContext, action: NodeAction, hands: Hands, name: str) -> None:
        """Cordon, and write it down first: whatever happens then, somebody will open or end it."""
        if name not in action.cordoned:
            services.keep(action, cordoned=[*action.cordoned, name])
        closed, words = hands.drain.close(name, str(action.id))
        if closed is Closed.FORBIDDEN:
            services.keep(action, cordoned=[n for n in action.cordoned if n != name])
            raise GivenUp(words)

    def _empty(self, context: RunContext, action: NodeAction, hands: Hands, name: str) -> None:
        """Evict until nothing is left. A budget that refuses is asked again with growing pauses, for a while."""
        left = hands.drain.step(name, action.moves)
        if left.stop:
            raise GivenUp(left.stop)
        if left.empty:
            return
        if self.since(context, f"drain {name}") > DRAIN_SECONDS:
            held = [f"{pod}: {words}" for pod, words in left.refused.items()]
            why = held[0] if held else f"{', '.join(left.waiting[:3])} did not end."
            raise GivenUp(f"{name} was not empty in {DRAIN_SECONDS / 60:.0f} minutes. {why}")
        refused = 0 if left.evicted or not left.refused else int(context.state.get("refused") or 0) + 1
        budget = next(iter(left.refused.values()), "")
        step = f"{name}: {len(left.waiting)} pods end, {len(left.refused)} are held by a budget"
        context.checkpoint(refused=refused)
        context.progress(step=f"{step} ({budget})" if budget else step)
        raise RunAgain(min(LONGEST_PAUSE_SECONDS, WAIT_SECONDS * 2.0 ** min(refused, 5)))

    def _end(
        self,
        context: RunContext,
        action: NodeAction,
        cluster: Cluster,
        policy: Applied | None,
        hands: Hands,
        name: str,
    ) -> None:
        """The last look, then the machine ends through its group, which wants one less from then on."""
        machine = str(action.machines.get(name, ""))
        if f"ending {name}" not in context.state:
            self.stop_if_held(cluster, policy, context)
            if machine and not hands.drain.is_here(name, machine) and hands.drain.is_here(name, ""):
                raise GivenUp(f"{name} is another machine now.")
            context.checkpoint(**{f"ending {name}": True})
        context.renew()
        if machine:
            hands.machines.end(machine)
        services.keep(
            action,
            ended_nodes=[*action.ended_nodes, name],
            cordoned=[n for n in action.cordoned if n != name],
        )

    def _wait_until_gone(self, context: RunContext, action: NodeAction, hands: Hands) -> None:
        here = [n for n in action.ended_nodes if hands.drain.is_here(n, str(action.machines.get(n, "")))]
        if here and self.since(context, "leaving") < LEAVE_SECONDS:
            context.progress(90, f"Waiting for {', '.join(here[:3])} to leave")
            raise RunAgain(WAIT_SECONDS)


class ReleaseNodes(BaseExecutor):
    """Open the nodes that an action left closed, and end the machine that it bought and that belongs to no group."""

    kind = RELEASE
    label = "Let go of what an action left"
    queue = "cloud"
    permission = "policies.manage"
    lease_seconds = 30
    max_attempts = 30

    def run(self, context: RunContext) -> Mapping[str, Any]:
        """Result: the nodes that were opened."""
        action = services.action_of(context.operation)
        if action is None:
            raise OperationFailed("The cluster was disconnected.", code="gone", next_step="Nothing to do.")
        before = list(action.cordoned)
        machines = gateway.open_machines(action.cluster)
        with gateway.open_kube(action.cluster) as kube:
            drain = Drain(kube, Exemptions(), context.renew)
            release(context, action, Hands(kube, machines, drain) if machines else None, drain)
        return {"opened": before}


def release(context: RunContext, action: NodeAction, hands: Hands | None, drain: Drain | None = None) -> None:
    """Undo what an action holds; safe to repeat."""
    way = drain or (hands.drain if hands else None)
    for name in list(action.cordoned):
        assert way is not None
        way.open(name, str(action.id))
        services.keep(action, cordoned=[n for n in action.cordoned if n != name])
    if action.launch.get("buying") and not action.launch.get("settled"):
        if hands is None:
            return
        known = action.launch.get("machine")
        found = hands.machines.look(known["id"]) if known else hands.machines.bought(str(action.id))
        context.renew()
        if found is not None and found.alive:
            hands.machines.end(found.id)
        services.keep(action, launch={**action.launch, "settled": True})
    elif action.kind == Kind.LAUNCH and context.state.get("giving_up") and action.launch.get("machine") and hands:
        context.renew()
        hands.machines.end(action.launch["machine"]["id"])


EXECUTORS = (LaunchNode, RemoveNodes, ReleaseNodes)
