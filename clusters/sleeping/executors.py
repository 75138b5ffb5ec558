"""What the operations `cluster.sleep` and `cluster.wake` do.

Both may be killed at any instruction. The snapshot is committed before the first change; each change carries its memory
in the same request; whoever resumes looks before it changes, so nothing is done twice and nothing is forgotten. Waiting
never holds a thread. One thing that cannot be changed does not stop the others: it is named in the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from clusters.models import Cluster
from clusters.providers.groups import Sizes
from clusters.sleeping import gateway, services, waiting
from clusters.sleeping.hands import Did, Hands
from clusters.sleeping.kinds import PHASE_WORDS, Phase
from clusters.sleeping.models import SleepSnapshot
from clusters.sleeping.observe import read_objects, read_world
from clusters.sleeping.plan import plan, replan_nodes, resting
from clusters.sleeping.snapshot import Decision, Entry, GroupEntry, entries_of, kept_values, read_entries
from clusters.sleeping.world import Kept, place_of
from core import clock
from core.providers import ProviderError
from operations.enums import Status
from operations.models import Operation
from operations.registry import BaseExecutor, OperationFailed, RunAgain, RunContext

WAIT_SECONDS = 5.0
DRAIN_SECONDS = 600.0
JOB_SECONDS = 600.0
SETTLE_SECONDS = 1200.0
NODES_SECONDS = 900.0
SYSTEM_SECONDS = 600.0
WAVE_SECONDS = 300.0
CHECKPOINT_EVERY = 10
BATCH = 20
MOST_FAILURES_KEPT = 50
MOST_STEPS_KEPT = 40
MOST_IN_A_ROW = 3


class ClusterOrder(BaseExecutor):
    """What both directions have in common."""

    queue = "cloud"
    permission = "clusters.operate"
    lease_seconds = 60

    def run(self, context: RunContext) -> Mapping[str, Any]:
        rows = Cluster.objects.for_org(context.operation.organization_id).select_related("account")
        cluster = rows.filter(id=context.operation.resource_id).first()
        if cluster is None:
            raise OperationFailed("The cluster was disconnected.", code="gone", next_step="Nothing to do.")
        with gateway.open_kube(cluster) as kube:
            hands = Hands(kube, gateway.open_groups(cluster), context.renew)
            return self.go(context, cluster, hands)

    def go(self, context: RunContext, cluster: Cluster, hands: Hands) -> Mapping[str, Any]:
        raise NotImplementedError

    def subject(self, operation: Operation) -> str:
        """Learned for each cluster; an order that found nothing to do teaches nothing."""
        return "" if operation.result.get("already") else str(operation.resource_id)

    def each(
        self,
        context: RunContext,
        hands: Hands,
        stage: str,
        entries: Sequence[Entry],
        act: Callable[[Entry], Did],
        words: str,
    ) -> None:
        """Act on each entry from where a predecessor stopped. What fails is noted and the rest goes on; only when several
        in a row fail for a reason that passes is the way itself broken, and the order waits."""
        begun: dict[str, int] = context.state.get("cursor") or {}
        start, broken = begun.get(stage, 0), 0
        done: dict[str, Did] = {}
        for number, entry in enumerate(entries[start:], start):
            if number % CHECKPOINT_EVERY == 0:
                context.check_cancel()
                context.checkpoint(cursor={**(context.state.get("cursor") or {}), stage: number})
                context.progress(step=f"{words}: {number} of {len(entries)}")
            if (number - start) % BATCH == 0:
                done = hands.together(entries[number : number + BATCH], act)
            ready = done.get(entry.title)
            passing = self.attempt(context, entry.title, lambda entry=entry, ready=ready: ready or act(entry))  # type: ignore[misc]
            broken = broken + 1 if passing is not None else 0
            if passing is not None and broken >= MOST_IN_A_ROW:
                raise passing
        if len(entries) > start:
            context.checkpoint(cursor={**(context.state.get("cursor") or {}), stage: len(entries)})

    def all_of(self, context: RunContext, steps: Sequence[tuple[str, Callable[[], Did]]]) -> None:
        """Attempt every step; when one failed for a reason that passes, all of them are tried again later."""
        failures = [self.attempt(context, title, act) for title, act in steps]
        passing = next((failure for failure in failures if failure is not None), None)
        if passing is not None:
            raise passing

    @staticmethod
    def attempt(context: RunContext, title: str, act: Callable[[], Did]) -> ProviderError | None:
        """One step. Its failure is noted until it succeeds, and returned when it may pass by itself."""
        failed = dict(context.state.get("failed") or {})
        try:
            did = act()
        except ProviderError as failure:
            if len(failed) < MOST_FAILURES_KEPT:
                failed[title] = f"{failure.message} {failure.detail}".strip()[:300]
                context.checkpoint(failed=failed)
            return failure if failure.transient else None
        if title in failed:
            del failed[title]
            context.checkpoint(failed=failed)
        if did in (Did.GONE, Did.KEPT):
            odd = dict(context.state.get("odd") or {})
            if len(odd) < MOST_FAILURES_KEPT:
                odd[title] = str(did)
            context.checkpoint(odd=odd)
        return None

    @staticmethod
    def since(context: RunContext, name: str) -> float:
        """Seconds since a stage was first entered."""
        key = f"{name}_at"
        if key not in context.state:
            context.checkpoint(**{key: clock.now().isoformat()})
        return (clock.now() - datetime.fromisoformat(context.state[key])).total_seconds()

    def wait(self, context: RunContext, name: str, words: str, most: float) -> None:
        """Look again in a moment, unless this took too long already; then it is noted and the order goes on."""
        if self.since(context, name) < most:
            if context.operation.step != words[:200]:
                context.progress(step=words)
            context.check_cancel()
            raise RunAgain(WAIT_SECONDS)
        notes = [*(context.state.get("notes") or []), f"Not waited for any longer: {words}"]
        context.checkpoint(notes=list(dict.fromkeys(notes)))

    def tell(self, context: RunContext, step: str, done: int, total: int) -> None:
        """Name the step, and note when it began."""
        if (context.operation.step, context.operation.steps_done) != (step, done):
            begun: list[list[Any]] = list(context.state.get("begun") or [])
            if len(begun) < MOST_STEPS_KEPT and step not in {words for _, words in begun}:
                context.checkpoint(begun=[*begun, [clock.now().isoformat(), step]])
            context.progress(round(95 * done / total), step, done=done, total=total)

    @staticmethod
    def summary(context: RunContext) -> dict[str, Any]:
        return {name: context.state[name] for name in ("failed", "odd", "notes") if context.state.get(name)}


class ClusterSleep(ClusterOrder):
    """Snapshot, then GitOps, autoscalers, cron jobs, workloads, the node scaler and the nodes."""

    kind = services.SLEEP
    label = "Put cluster to sleep"
    max_attempts = 8
    steps = 8

    def go(self, context: RunContext, cluster: Cluster, hands: Hands) -> Mapping[str, Any]:
        snapshot = self._snapshot(context, cluster, hands)
        entries = read_entries(snapshot.entries)
        for number, phase in enumerate(p for p in Phase if p is not Phase.NODES):
            mine = [e for e in entries if e.phase == phase]
            if mine:
                self.tell(context, PHASE_WORDS[phase], number + 1, self.steps)
            self.each(
                context, hands, phase, mine, lambda e: hands.sleep_object(e, str(snapshot.id)), PHASE_WORDS[phase]
            )
        failed = context.state.get("failed") or {}
        if failed and "again" not in context.state:
            context.checkpoint(again=True)
            for entry in (e for e in entries if e.title in failed and e.phase != Phase.NODES):
                self.attempt(context, entry.title, partial(hands.sleep_object, entry, str(snapshot.id)))
        self._drain(context, hands, entries)
        self._nodes(context, cluster, hands, snapshot, entries)
        left = self._settle(context, hands)
        return {
            "snapshot": str(snapshot.id),
            "objects": len(entries),
            "groups": len(snapshot.groups),
            "nodes_left": left,
            **self.summary(context),
        }

    def finished(self, operation: Operation) -> None:
        complete = operation.status == Status.SUCCEEDED
        left = operation.result.get("nodes_left") if complete else None
        services.finish_sleep(operation=operation, nodes_left=left, complete=complete)

    def _snapshot(self, context: RunContext, cluster: Cluster, hands: Hands) -> SleepSnapshot:
        """The open snapshot, or a new one: what is asleep by our hand already is taken over as its own memory tells."""
        known = services.open_snapshot(cluster)
        if known is not None:
            return known
        if "snapshot" not in context.state:
            context.checkpoint(snapshot=str(uuid4()))
        self.tell(context, "Write down what must be restored", 0, self.steps)
        world = read_world(hands.kube, hands.groups)
        found = plan(world, services.scope_of(services.rules_of(cluster)))
        mark = context.state["snapshot"]
        shrinking = {step.key for step in found.groups}
        groups = [GroupEntry.of(g) for g in world.groups]
        context.check_cancel()
        return services.take_snapshot(
            operation=context.operation,
            cluster=cluster,
            snapshot_id=UUID(mark),
            entries=entries_of(found, resting(world), mark),
            groups=sorted(groups, key=lambda g: (g.key not in shrinking, g.key)),
            kept=kept_values(found.kept),
            notes=found.notes,
        )

    def _drain(self, context: RunContext, hands: Hands, entries: Sequence[Entry]) -> None:
        """Wait until what was scaled to zero is gone, and for jobs that still run."""
        if context.state.get("drained"):
            return
        self.tell(context, "Wait for pods to end", 6, self.steps)
        failed = context.state.get("failed") or {}
        slept = {(e.kind, e.namespace, e.name) for e in entries if e.phase == Phase.WORKLOADS and e.title not in failed}
        pods, jobs = waiting.remaining(read_objects(hands.kube, ("Pod", "ReplicaSet", "Job")), slept)
        if pods:
            self.wait(context, "drain", f"Wait for {pods} pods to end", DRAIN_SECONDS)
        if jobs:
            self.wait(context, "jobs", f"Wait for {jobs} running jobs", JOB_SECONDS)
        context.checkpoint(drained=True)

    def _nodes(
        self, context: RunContext, cluster: Cluster, hands: Hands, snapshot: SleepSnapshot, entries: Sequence[Entry]
    ) -> None:
        """Decide from a fresh look which nodes leave, write it down, then shrink."""
        if context.state.get("shrunk"):
            return
        context.check_cancel()
        self.tell(context, PHASE_WORDS[Phase.NODES], 7, self.steps)
        pools = [e for e in entries if e.phase == Phase.NODES]
        self.each(
            context, hands, Phase.NODES, pools, lambda e: hands.sleep_object(e, str(snapshot.id)), "Close node pools"
        )
        world = read_world(hands.kube, hands.groups)
        groups, claims, staying = replan_nodes(world, services.scope_of(services.rules_of(cluster)))
        recorded = {g.key: g for g in map(GroupEntry.read, snapshot.groups)}
        groups = [step for step in groups if step.key in recorded]
        leaving = sorted({n for step in groups for n in step.nodes} | {c.node for c in claims if c.node})
        leaving = sorted({*leaving, *(context.state.get("leaving") or [])})
        context.checkpoint(leaving=leaving)
        decision = Decision(
            tuple(_merged(snapshot, groups)),
            tuple((c.name, c.uid) for c in claims),
            tuple(leaving),
            {name: reason.words for name, reason in staying.items()},
        )
        kept = [k for k in snapshot.kept if not k["what"].startswith("node/")]
        services.note_decision(
            snapshot, decision, kept + kept_values(Kept(f"node/{n}", r) for n, r in sorted(staying.items()))
        )
        steps: list[tuple[str, Callable[[], Did]]] = [
            (step.key, partial(hands.sleep_group, recorded[step.key], step, str(snapshot.id))) for step in groups
        ]
        steps += [(f"NodeClaim/{claim.name}", partial(hands.end_claim, claim.name, claim.uid)) for claim in claims]
        self.all_of(context, steps)
        failed = context.state.get("failed") or {}
        stuck = {node for step in groups if step.key in failed for node in step.nodes}
        stuck |= {claim.node for claim in claims if f"NodeClaim/{claim.name}" in failed}
        context.checkpoint(shrunk=True, leaving=sorted(set(leaving) - stuck))

    def _settle(self, context: RunContext, hands: Hands) -> list[str]:
        """Wait until the nodes have left; returns the names of those that are there."""
        leaving = set(context.state.get("leaving") or ())
        nodes = [place_of(n)[1] for n in read_objects(hands.kube, ("Node",))["Node"]]
        still = sorted(leaving & set(nodes))
        if still:
            self.wait(context, "settle", f"Wait for {len(still)} nodes to leave", SETTLE_SECONDS)
        return nodes


def _merged(snapshot: SleepSnapshot, groups: Sequence[Any]) -> list[Any]:
    """Steps of an earlier run of this sleep are kept beside new ones: a group that has shrunk is not in a new plan."""
    before = Decision.read(snapshot.decision)
    fresh = {step.key for step in groups}
    return [*(s for s in (before.groups if before else ()) if s.key not in fresh), *groups]


class ClusterWake(ClusterOrder):
    """Nodes, then the node scaler and the system, workloads wave by wave, cron jobs, autoscalers and GitOps."""

    kind = services.WAKE
    label = "Wake cluster"
    max_attempts = 20
    steps = 7

    def go(self, context: RunContext, cluster: Cluster, hands: Hands) -> Mapping[str, Any]:
        snapshot = services.open_snapshot(cluster)
        if snapshot is None:
            return {"already": True}
        entries = read_entries(snapshot.entries)
        by_phase = {phase: [e for e in entries if e.phase == phase] for phase in Phase}
        services.begin_wake(operation=context.operation, cluster=cluster)
        self._nodes(context, cluster, hands, snapshot, by_phase[Phase.NODES])
        self.tell(context, "Start the node scaler and the system", 2, self.steps)
        self.each(
            context, hands, Phase.NODE_SCALER, by_phase[Phase.NODE_SCALER], hands.wake_object, "Start the node scaler"
        )
        self._system(context, hands)
        self._waves(context, hands, by_phase[Phase.WORKLOADS])
        for number, phase in enumerate((Phase.CRON, Phase.SCALERS, Phase.GITOPS), 4):
            words = f"Undo: {PHASE_WORDS[phase].lower()}"
            if by_phase[phase]:
                self.tell(context, words, number, self.steps)
            self.each(context, hands, phase, by_phase[phase], hands.wake_object, words)
        steered = map(GroupEntry.read, snapshot.groups)
        self.all_of(context, [(group.key, partial(hands.unsteer, group)) for group in steered])
        if context.state.get("failed"):
            raise self._unfinished(context)
        waiting.refuse_short(context, hands, self._shrunk(snapshot))
        return {"snapshot": str(snapshot.id), "objects": len(entries), **self.summary(context)}

    def finished(self, operation: Operation) -> None:
        if not operation.result.get("already"):
            services.finish_wake(operation=operation, complete=operation.status == Status.SUCCEEDED)

    @staticmethod
    def _unfinished(context: RunContext) -> OperationFailed:
        """Something could not be restored: its name and the words of whoever refused; tried anew from the start."""
        failed: dict[str, str] = context.state["failed"]
        title, words = next(iter(failed.items()))
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        context.checkpoint(cursor={}, failed={}, waves=0)
        return OperationFailed(
            f"{title}{more} could not be restored: {words}",
            code="not_restored",
            transient=True,
            next_step="Mend the cause, then wake it again: what was restored stays so. Or take the restore file.",
        )

    def _nodes(
        self, context: RunContext, cluster: Cluster, hands: Hands, snapshot: SleepSnapshot, pools: Sequence[Entry]
    ) -> None:
        """Bounds and sizes first, then wait until machines have joined and are ready."""
        self.tell(context, "Bring nodes back", 0, self.steps)
        groups = [GroupEntry.read(raw) for raw in snapshot.groups]
        after = self._after(snapshot)
        if not context.state.get("resized"):
            order = str(context.operation.id)
            self.all_of(context, [(g.key, partial(hands.wake_group, g, after.get(g.key), order)) for g in groups])
            context.checkpoint(resized=True)
        self.each(context, hands, Phase.NODES, pools, hands.wake_object, "Open node pools")
        if context.state.get("joined"):
            return
        shrunk = self._shrunk(snapshot)
        self.since(context, "nodes")
        missing = waiting.missing_nodes(hands, shrunk)
        if missing:
            waiting.find_capacity(context, hands, shrunk, missing, may_buy=services.rules_of(cluster).on_demand)
            count = sum(missing.values())
            self.wait(context, "nodes", f"Wait for {count} node{'s' if count != 1 else ''} to join", NODES_SECONDS)
            waiting.refuse_none(context, hands, shrunk, missing)
        context.checkpoint(joined=True)

    @staticmethod
    def _after(snapshot: SleepSnapshot) -> dict[str, Sizes]:
        decision = Decision.read(snapshot.decision) or Decision()
        return {step.key: step.after for step in decision.groups}

    def _shrunk(self, snapshot: SleepSnapshot) -> list[GroupEntry]:
        after = self._after(snapshot)
        return [group for group in map(GroupEntry.read, snapshot.groups) if group.key in after]

    def _system(self, context: RunContext, hands: Hands) -> None:
        """Name service, network, certificates and webhooks answer before workloads are asked to start."""
        if context.state.get("system"):
            return
        down = waiting.system_down(hands)
        if down:
            self.wait(context, "system", f"Wait for {', '.join(down[:3])}", SYSTEM_SECONDS)
        context.checkpoint(system=True)

    def _waves(self, context: RunContext, hands: Hands, entries: Sequence[Entry]) -> None:
        """Workloads in the order that their annotations ask for; each wave is ready before the next."""
        waves = sorted({e.wave for e in entries})
        passed = int(context.state.get("waves") or 0)
        for number, wave in enumerate(waves[passed:], passed):
            mine = [e for e in entries if e.wave == wave]
            self.tell(context, f"Wake workloads, wave {number + 1} of {len(waves)}", 3, self.steps)
            self.each(context, hands, f"wave{wave}", mine, hands.wake_object, f"Wave {number + 1} of {len(waves)}")
            unready = waiting.unready(hands, mine)
            if unready:
                self.wait(context, f"wave{number}", f"Wait for {', '.join(unready[:3])}", WAVE_SECONDS)
            context.checkpoint(waves=number + 1)
