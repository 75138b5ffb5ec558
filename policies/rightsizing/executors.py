"""What the operations `workload.resize` and `workload.size_rollback` do.

Both may be killed at any instruction. What a workload goes back to is committed before the first write and travels in
the same request as the change; whoever resumes reads first, and an apply that is repeated changes nothing. After the
change the workload is watched; when it does harm, it gets back what it had, and what was unset is unset again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from clusters.models import Cluster
from clusters.providers.kube import Contested, KubeApi, Resource
from clusters.sleeping import gateway
from clusters.sleeping.kinds import Object, annotations_of, labels_of, spec_of
from clusters.sleeping.observe import resource_of
from core import clock
from core.providers import InvalidRequest, NotFound, PermissionDenied
from operations.models import Operation
from operations.registry import BaseExecutor, OperationFailed, RunAgain, RunContext
from policies.rightsizing import facts, judging, patching, reporting, services
from policies.rightsizing.enums import IN_PLACE, MANAGER, RESIZE, ROLLBACK, ROLLOUT, Outcome
from policies.rightsizing.models import SizeChange, SizedWorkload

LOOK_SECONDS = 15.0
WATCH_SECONDS = 600.0
UNDO_SECONDS = 900.0
PROBE = "curfew.dev/latency-probe"
PROBE_TARGET = re.compile(r"([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?:[a-z0-9-]{1,15})(/[^\s?#]{0,200})?")
MOST_LATENCIES = 20
PODS = Resource("", "v1", "pods")


class _Sizer(BaseExecutor):
    """What both directions have in common."""

    queue = "cloud"
    permission = services.OPERATE
    lease_seconds = 60
    max_attempts = 8

    def run(self, context: RunContext) -> Mapping[str, Any]:
        operation = context.operation
        rows = Cluster.objects.for_org(operation.organization_id).select_related("account")
        cluster = rows.filter(id=operation.payload["cluster"]).first()
        if cluster is None:
            raise OperationFailed("The cluster was disconnected.", code="gone", next_step="Nothing to do.")
        with gateway.open_kube(cluster) as kube:
            return self.go(context, cluster, kube)

    def go(self, context: RunContext, cluster: Cluster, kube: KubeApi) -> Mapping[str, Any]:
        raise NotImplementedError

    def finished(self, operation: Operation) -> None:
        services.ended(operation)

    # the hands

    @staticmethod
    def place(change: SizeChange) -> tuple[str, str, str]:
        namespace, kind, name = change.workload.key.split("/", 2)
        return namespace, kind, name

    def live(self, kube: KubeApi, change: SizeChange) -> Object | None:
        namespace, kind, name = self.place(change)
        return kube.get(resource_of(kind), namespace, name)

    def pods(self, kube: KubeApi, obj: Object) -> list[Object]:
        namespace = str((obj.get("metadata") or {}).get("namespace"))
        return kube.list(PODS, fields=f"metadata.namespace={namespace}")

    def put(
        self, context: RunContext, kube: KubeApi, change: SizeChange, values: patching.Snapshot, memory: str
    ) -> None:
        """Write the template; the fence is checked between the look and the change."""
        obj = self.live(kube, change)
        if obj is None:
            return
        namespace, kind, name = self.place(change)
        wanted = patching.manifest(obj, values, memory)
        context.renew()
        kube.apply(resource_of(kind), namespace, name, wanted, manager=MANAGER, force=True)

    def put_in_place(self, context: RunContext, kube: KubeApi, change: SizeChange, values: patching.Snapshot) -> bool:
        """Resize every running pod; False when the server or a node refuses, which the template then answers for."""
        obj = self.live(kube, change)
        if obj is None:
            return True
        for pod in judging.pods_of(obj, self.pods(kube, obj)):
            meta = pod["metadata"]
            context.renew()
            try:
                kube.resize(str(meta["namespace"]), str(meta["name"]), patching.pod_boxes(pod, values))
            except (InvalidRequest, PermissionDenied, NotFound):
                return False
        return True

    def undo(self, context: RunContext, kube: KubeApi, change: SizeChange) -> str:
        """Give back what the workload had; "" when done, else why not. Somebody else's newer values stand."""
        obj = self.live(kube, change)
        if obj is None:
            return "the workload is gone"
        now = patching.snapshot(obj)
        if change.method == IN_PLACE:
            self.put_in_place(context, kube, change, change.before)
            return ""
        mine = {name: values for name, values in change.after.items() if name in now}
        if any(now[name] not in (values, change.before[name]) for name, values in mine.items()):
            return "somebody changed it since, and theirs stands"
        self.put(context, kube, change, {name: change.before[name] for name in mine}, "")
        return ""

    def settle(self, context: RunContext, kube: KubeApi, change: SizeChange) -> None:
        """Wait for the roll-out of the way back; after a quarter of an hour it is left to the cluster."""
        if change.method == IN_PLACE:
            return
        obj = self.live(kube, change)
        began = datetime.fromisoformat(context.state["undone"])
        if obj is not None and not judging.settled(obj) and (clock.now() - began).total_seconds() < UNDO_SECONDS:
            context.progress(95, "Wait for the pods of the former size")
            raise RunAgain(LOOK_SECONDS)

    @staticmethod
    def latency(kube: KubeApi, obj: Object) -> float | None:
        """How fast the workload's probe answers, the better of two tries; None without one, or when it fails."""
        found = PROBE_TARGET.fullmatch(annotations_of(obj).get(PROBE, ""))
        if found is None:
            return None
        namespace = str((obj.get("metadata") or {}).get("namespace"))
        tries = [kube.time_service(namespace, found[1], found[3] or "/") for _ in range(2)]
        known = [seconds for seconds in tries if seconds is not None]
        return min(known) if known else None


class Resize(_Sizer):
    """Write down, change, watch, and take back what does harm."""

    kind = RESIZE
    label = "Change what a workload requests"

    def go(self, context: RunContext, cluster: Cluster, kube: KubeApi) -> Mapping[str, Any]:
        change = services.change_of(context.operation)
        if change is None:
            held = self._begin(context, cluster, kube)
            if held:
                return {"held": held}
            change = services.change_of(context.operation)
            assert change is not None
        if "harm" in context.state:
            return self._back(context, kube, change, str(context.state["harm"]))
        if "applied" not in context.state:
            refused = services.why_not(cluster)
            if refused and self._untouched(kube, change):
                services.end_change(change=change, outcome=Outcome.NOT_MADE, why=refused, operation=context.operation)
                return {"held": refused}
            self._apply(context, kube, change)
        context.check_cancel()
        return self._watch(context, cluster, kube, change)

    def _begin(self, context: RunContext, cluster: Cluster, kube: KubeApi) -> str:
        """Look, and write down the way back. Returns why nothing is changed, "" when it may be."""
        context.check_cancel()
        payload = context.operation.payload
        why = services.why_not(cluster)
        if why:
            return why
        workload = SizedWorkload.objects.for_org(cluster.organization_id).get(id=context.operation.resource_id)
        namespace, kind, name = workload.key.split("/", 2)
        obj = kube.get(resource_of(kind), namespace, name)
        if obj is None:
            return "The workload is gone."
        held = self._held(cluster, obj, namespace, name)
        if held:
            services.hold(workload.id, cluster.organization_id, clock.now() + services.HELD_AFTER_REFUSAL, held)
            return held
        box = patching.differs(obj, payload["expected"])
        if box:
            return f"The requests of {box} were changed since they were judged."
        whole = patching.snapshot(obj)
        before = {box: whole[box] for box in payload["wanted"]}
        after = {box: patching.resized(before[box], sizes) for box, sizes in payload["wanted"].items()}
        if "change" not in context.state:
            context.checkpoint(change=str(uuid4()))
        in_place = bool(payload.get("in_place")) and kube.can_resize() and self._same_quality(whole, after)
        services.begin_change(
            operation=context.operation,
            change_id=UUID(context.state["change"]),
            method=IN_PLACE if in_place else ROLLOUT,
            before=before,
            after=after,
            baseline=judging.baseline(obj, self.pods(kube, obj), self.latency(kube, obj)),
        )
        return ""

    @staticmethod
    def _same_quality(whole: patching.Snapshot, after: patching.Snapshot) -> bool:
        """A pod's class of quality cannot change while it runs."""
        return patching.quality(list(whole.values())) == patching.quality(list({**whole, **after}.values()))

    @staticmethod
    def _held(cluster: Cluster, obj: Object, namespace: str, name: str) -> str:
        """Why the live object is left alone: exempt by now, or its requests belong to a GitOps tool."""
        ruling = reporting.ruling_of(cluster)
        template = spec_of(obj).get("template") or {}
        labels = {**labels_of(template), **labels_of(obj)}
        marks = {**annotations_of(template), **annotations_of(obj)}
        exempt = facts.why_exempt(ruling.exemptions, namespace, name, labels, marks)
        if exempt:
            return f"It is exempt: {exempt}."
        tool = patching.gitops(obj)
        if tool:
            return f"{tool} owns its requests and would change them back: change them in Git."
        return ""

    def _untouched(self, kube: KubeApi, change: SizeChange) -> bool:
        """Whether a predecessor that was killed had not yet changed anything."""
        obj = self.live(kube, change)
        if change.method == IN_PLACE or obj is None:
            return obj is None
        now = patching.snapshot(obj)
        return all(now.get(name) == values for name, values in change.before.items())

    def _apply(self, context: RunContext, kube: KubeApi, change: SizeChange) -> None:
        context.progress(20, "Change what it requests")
        if change.method == IN_PLACE and not self.put_in_place(context, kube, change, change.after):
            services.set_method(change, ROLLOUT)
        if change.method == ROLLOUT:
            memory = json.dumps({"change": str(change.id), "before": change.before}, separators=(",", ":"))
            try:
                self.put(context, kube, change, change.after, memory)
            except Contested as fight:
                raise OperationFailed(fight.message, code="contested", next_step="Ask its owner.") from None
        context.checkpoint(applied=clock.now().isoformat())

    def _watch(self, context: RunContext, cluster: Cluster, kube: KubeApi, change: SizeChange) -> Mapping[str, Any]:
        applied = datetime.fromisoformat(context.state["applied"])
        cluster.refresh_from_db()
        refused = services.why_not(cluster)
        if refused:
            why = f"not watched to the end: {refused}"
            services.end_change(change=change, outcome=Outcome.UNPROVEN, why=why, operation=context.operation)
            return {"unproven": why}
        obj = self.live(kube, change)
        if obj is None:
            services.end_change(
                change=change, outcome=Outcome.UNPROVEN, why="the workload is gone", operation=context.operation
            )
            return {"unproven": "the workload is gone"}
        if change.method == ROLLOUT:
            now_is = patching.snapshot(obj)
            if any(now_is.get(name) != values for name, values in change.after.items()):
                why = "somebody changed it back or to something else"
                services.end_change(change=change, outcome=Outcome.UNPROVEN, why=why, operation=context.operation)
                until = clock.now() + services.HELD_AFTER_REFUSAL
                services.hold(change.workload_id, change.organization_id, until, f"contested: {why}")
                return {"unproven": why}
        latencies = [*(context.state.get("latencies") or []), self.latency(kube, obj)][-MOST_LATENCIES:]
        look = judging.judge(
            obj, self.pods(kube, obj), change.baseline, applied_at=applied, now=clock.now(), latencies=latencies
        )
        if look.harm:
            context.checkpoint(harm=look.harm)
            return self._back(context, kube, change, look.harm)
        if look.settled and "settled" not in context.state:
            context.checkpoint(settled=clock.now().isoformat(), latencies=latencies)
        else:
            context.checkpoint(latencies=latencies)
        settled = context.state.get("settled")
        seen = (clock.now() - datetime.fromisoformat(settled)).total_seconds() if settled else 0.0
        if not settled or seen < WATCH_SECONDS:
            words = "Watch whether it does harm" if settled else "Wait for the pods of the new size"
            share = min(1.0, seen / WATCH_SECONDS) if WATCH_SECONDS else 1.0
            context.progress(round(40 + 55 * share), words)
            raise RunAgain(LOOK_SECONDS)
        services.end_change(change=change, outcome=Outcome.KEPT, operation=context.operation)
        return {"change": str(change.id), "method": change.method}

    def _back(self, context: RunContext, kube: KubeApi, change: SizeChange, why: str) -> Mapping[str, Any]:
        """Roll back: a kill in between repeats it, which changes nothing."""
        if "harm" not in context.state:
            context.checkpoint(harm=why)
        context.progress(80, f"Take it back: {why}"[:200])
        left = self.undo(context, kube, change)
        if left:
            services.end_change(
                change=change, outcome=Outcome.UNPROVEN, why=f"{why}; {left}", operation=context.operation
            )
            return {"unproven": f"{why}; {left}"}
        if "undone" not in context.state:
            context.checkpoint(undone=clock.now().isoformat())
        self.settle(context, kube, change)
        services.end_change(change=change, outcome=Outcome.ROLLED_BACK, why=why, operation=context.operation)
        return {"rolled_back": why}


class Rollback(_Sizer):
    """Give a workload back what it requested before one change."""

    kind = ROLLBACK
    label = "Give a workload its former size back"

    def go(self, context: RunContext, cluster: Cluster, kube: KubeApi) -> Mapping[str, Any]:
        rows = SizeChange.objects.for_org(cluster.organization_id).select_related("workload")
        change = rows.filter(id=context.operation.payload["change"]).first()
        if change is None:
            raise OperationFailed("The change is not known any more.", code="gone", next_step="Nothing to do.")
        if "undone" not in context.state:
            context.check_cancel()
            left = self.undo(context, kube, change)
            if left:
                raise OperationFailed(
                    f"It was not taken back: {left}.", code="contested", next_step="Change it by hand."
                )
            context.checkpoint(undone=clock.now().isoformat())
        self.settle(context, kube, change)
        services.end_change(change=change, outcome=Outcome.ROLLED_BACK, why="by hand", operation=context.operation)
        return {"rolled_back": str(change.id)}
