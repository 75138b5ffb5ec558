"""Recorded traces through the agent's own way of sending: as Kubernetes objects into the same store and outbox."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent.cluster.metrics import SampleWriter
from agent.cluster.outbox import SAMPLES_A_MESSAGE, Outbox, Samples
from agent.cluster.placing import place
from agent.cluster.store import Store
from agent.cluster.traces import BadTrace, Trace, TraceBox, TraceNode, TracePod, TraceWorkload, UsageRow, load, steps
from agent.wire.codec import iso, to_wire
from agent.wire.model import Cluster
from agent.wire.resources import RESOURCES

__all__ = ["BadTrace", "Replay"]
Object = dict[str, Any]
_RESOURCES = {r.name: r for r in RESOURCES}
_SPACE = uuid.UUID("6f3f7a52-6f0c-5c0e-9b1a-0d4b5f6a7c81")
DAY = 86_400.0


def _quantities(amounts: dict[str, int]) -> dict[str, str]:
    return {name: f"{value}m" if name == "cpu" else str(value) for name, value in amounts.items()}


@dataclass(slots=True)
class Replay:
    """Traces merged into one cluster, seen at one moment, with the usage up to its end shifted to end now."""

    traces: list[Trace]
    at: float | None = None
    days: float = 14.0
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    together: bool = False
    moments: dict[str, float] = field(default_factory=dict)

    @classmethod
    def load(cls, folders: list[Path], *, at: str = "busiest", days: float = 14.0) -> Replay:
        """Read the traces. `at` is a second of the trace, `busiest`, or `all`: every pod at once. Raises BadTrace."""
        try:
            second = None if at in {"busiest", "all"} else float(at)
        except ValueError:
            raise BadTrace(f"{at!r} is neither a number of seconds nor busiest nor all") from None
        made = cls([load(folder) for folder in folders], second, days, together=at == "all")
        made.moments = {t.name: busiest(t.pods) if second is None else second for t in made.traces}
        return made

    @property
    def name(self) -> str:
        return "+".join(trace.name for trace in self.traces)

    def summary(self) -> list[str]:
        """Return what is replayed and what had to be derived, a line each."""
        lines = []
        for t in self.traces:
            counts = f"{len(t.nodes)} nodes, {len(t.pods)} pods, {len(t.workloads)} workloads"
            seen = "all at once" if self.together else f"seen at {self.moments[t.name]:.0f} s"
            lines.append(f"{t.name}: {counts}, {seen}")
            lines += [f"{t.name}: {note}" for note in t.notes]
        return lines

    def objects(self) -> Iterator[tuple[str, Object]]:
        """Yield (resource, object) of everything that was there at the moment."""
        spaces: set[str] = set()
        for trace in self.traces:
            moment = self.moments[trace.name]
            alive = trace.pods if self.together else [p for p in trace.pods if p.lives_at(moment)]
            running = [p for p in alive if p.scheduled is not None and (self.together or p.scheduled <= moment)]
            nodes = {p.name: p.node for p in running} if trace.placed else place(trace, running)
            spaces |= {p.namespace for p in alive} | {w.namespace for w in trace.workloads}
            yield from (("nodes", self._node(node)) for node in trace.nodes)
            yield from (("pods", self._pod(pod, nodes.get(pod.name, ""), moment)) for pod in alive)
            for workload in trace.workloads:
                yield from self._workload(workload)
        yield from (("namespaces", {"metadata": self._meta(space, "")}) for space in sorted(spaces))

    def _meta(self, name: str, namespace: str, **more: Any) -> Object:
        made: Object = {"name": name, "uid": str(uuid.uuid5(_SPACE, f"{self.name}/{namespace}/{name}")), **more}
        return made | {"namespace": namespace} if namespace else made

    def _node(self, node: TraceNode) -> Object:
        amounts = _quantities(node.amounts)
        return {
            "metadata": self._meta(node.name, "", labels=node.labels),
            "spec": {},
            "status": {
                "capacity": amounts,
                "allocatable": amounts,
                "conditions": [{"type": "Ready", "status": "True", "reason": "Replayed"}],
            },
        }

    def _pod(self, pod: TracePod, node: str, moment: float) -> Object:
        def stamp(seconds: float) -> str:
            return iso(self.now - timedelta(seconds=moment - seconds))

        spec: Object = {"containers": [_box(box) for box in pod.boxes], "priorityClassName": pod.priority_class}
        scheduled: Object = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
        if node:
            spec["nodeName"] = node
            scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp(pod.scheduled or 0.0)}
        ready = {"type": "Ready", "status": "True" if node else "False"}
        return {
            "metadata": self._meta(pod.name, pod.namespace, creationTimestamp=stamp(pod.created)),
            "spec": spec,
            "status": {"phase": "Running" if node else "Pending", "conditions": [scheduled, ready]},
        }

    def _workload(self, workload: TraceWorkload) -> Iterator[tuple[str, Object]]:
        labels = {"app.kubernetes.io/name": workload.name}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [_box(box) for box in workload.boxes]}}
        metadata = self._meta(workload.name, workload.namespace, labels=labels)
        if workload.kind == "CronJob":
            jobs = {"spec": {"template": template}}
            yield "cronjobs", {"metadata": metadata, "spec": {"schedule": workload.schedule, "jobTemplate": jobs}}
            return
        spec = {"replicas": workload.replicas, "selector": {"matchLabels": labels}, "template": template}
        yield "deployments", {"metadata": metadata, "spec": spec}
        if workload.hpa:
            target = {"kind": "Deployment", "name": workload.name}
            low, high = workload.hpa
            yield (
                "horizontalpodautoscalers",
                {"metadata": metadata, "spec": {"scaleTargetRef": target, "minReplicas": low, "maxReplicas": high}},
            )

    def samples(self) -> Iterator[bytes]:
        """Yield packed usage samples of the last `days`, the last of each trace at this moment."""
        for trace in self.traces:
            if trace.usage is None:
                continue
            end = max((row[0] for row in trace.usage()), default=0.0)
            for seconds, found in steps(trace.usage()):
                if end - seconds <= self.days * DAY:
                    yield _sample(self.now - timedelta(seconds=end - seconds), found)

    def run(self, flush: Callable[[Outbox], bool], *, name: str = "") -> bool:
        """Fill a store, then send state and usage; `flush` delivers what the outbox holds. False when it could not."""
        store, samples = Store(), Samples(most=SAMPLES_A_MESSAGE)
        for kind, obj in self.objects():
            store.put(_RESOURCES[kind], obj)
        for resource in RESOURCES:
            store.report(resource.name, "ok")
        cluster = Cluster(
            uid=str(uuid.uuid5(_SPACE, f"{self.name}/{name}")),
            name=name or f"Replay of {self.name}",
            distribution="replay",
        )

        def head() -> dict[str, Any]:
            return {"cluster": to_wire(cluster), "sources": store.sources(), "agent": {"mode": "replay"}}

        outbox = Outbox(store, samples, head, clock=time.monotonic)
        if not flush(outbox):
            return False
        for packed in self.samples():
            samples.push(packed)
            if len(samples) == SAMPLES_A_MESSAGE and not flush(outbox):
                return False
        return flush(outbox)


def _box(box: TraceBox) -> Object:
    resources = {"requests": _quantities(box.requests), "limits": _quantities(box.limits)}
    return {"name": box.name, "resources": resources}


def busiest(pods: list[TracePod]) -> float:
    """Return the first moment at which most pods were running; 0 for a trace without pods."""
    steps_of = [(p.scheduled, 1) for p in pods if p.scheduled is not None]
    steps_of += [(p.deleted, -1) for p in pods if p.scheduled is not None and p.deleted is not None]
    best, best_at, running = 0, 0.0, 0
    for moment, step in sorted(steps_of):
        running += step
        if running > best:
            best, best_at = running, moment
    return best_at


def _sample(at: datetime, found: list[UsageRow]) -> bytes:
    writer = SampleWriter(at)
    writer.begin("nodes")
    for _, space, name, _, pair in found:
        if not space:
            writer.entry(name, pair)
    writer.end()
    writer.begin("pods")
    boxes: dict[str, dict[str, Any]] = {}
    for _, space, name, container, pair in found:
        if space:
            boxes.setdefault(f"{space}/{name}", {})[container] = pair
    for key, used in boxes.items():
        writer.entry(key, used)
    writer.end()
    return writer.done()
