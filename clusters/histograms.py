"""What each container of a cluster uses, as the analysis' decaying histograms, in a form that fits one column. Pure.

All replicas of a workload's container share one histogram: a recommendation is made for the template, not for a pod.
CPU takes every sample, memory the peak of each day; both are weighed as `clusters.analysis.usage_histogram` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from clusters.analysis.usage_days import UsageDays
from clusters.analysis.usage_histogram import CPU_BUCKETS, MEMORY_BUCKETS, UsageHistogram, cpu_weight
from clusters.figures import top_owner

FORGOTTEN_AFTER = timedelta(days=15)
DAY = 86_400
NANO = 1e9
Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PodFacts:
    """`namespace/Kind/workload` of a pod, and the cores that each of its containers requests."""

    owner: str
    cores: Mapping[str, float]


@dataclass(slots=True)
class ContainerUse:
    """One container of a workload. `peak` is the highest memory of the day `peak_day`, already counted for that day."""

    cpu: UsageHistogram = field(default_factory=lambda: UsageHistogram(CPU_BUCKETS))
    memory: UsageHistogram = field(default_factory=lambda: UsageHistogram(MEMORY_BUCKETS))
    first_at: float = 0.0
    last_at: float = 0.0
    samples: int = 0
    peak: float = 0.0
    peak_day: int = 0
    days: UsageDays = field(default_factory=UsageDays)

    def add(self, at: datetime, cpu: int | None, memory: int | None, cores: float) -> None:
        """Count one look: nanocores and bytes, None where it was not measured."""
        moment = at.timestamp()
        self.first_at = min(self.first_at or moment, moment)
        self.last_at = max(self.last_at, moment)
        self.samples += 1
        self.days.add(
            int(moment // DAY), None if cpu is None else cpu / NANO, None if memory is None else float(memory)
        )
        if cpu is not None:
            self.cpu.add(cpu / NANO, cpu_weight(cores), at)
        if memory is not None:
            self._add_memory(float(memory), int(moment // DAY))

    def _add_memory(self, memory: float, day: int) -> None:
        noon = datetime.fromtimestamp(day * DAY + DAY / 2, UTC)
        if day > self.peak_day:
            self.memory.add(memory, 1.0, noon)
            self.peak, self.peak_day = memory, day
        elif day == self.peak_day and memory > self.peak:
            self.memory.subtract(self.peak, 1.0, noon)
            self.memory.add(memory, 1.0, noon)
            self.peak = memory

    def dump(self) -> list[Any]:
        return [
            self.cpu.to_json(),
            self.memory.to_json(),
            self.first_at,
            self.last_at,
            self.samples,
            self.peak,
            self.peak_day,
            self.days.dump(),
        ]

    @classmethod
    def load(cls, kept: list[Any]) -> ContainerUse:
        """Raises ValueError for what `dump` did not write."""
        cpu, memory = (UsageHistogram.from_json(kept[n], kind) for n, kind in enumerate((CPU_BUCKETS, MEMORY_BUCKETS)))
        found = cls(cpu, memory, *kept[2:7])
        if len(kept) > 7:
            found.days = UsageDays.load(kept[7])
        return found


@dataclass(slots=True)
class Histograms:
    """Every container of a cluster by `namespace/Kind/workload/container`."""

    containers: dict[str, ContainerUse] = field(default_factory=dict)

    def add_sample(self, at: datetime, pods: Mapping[str, Mapping[str, Any]], facts: Mapping[str, PodFacts]) -> None:
        """Add one look: `pods` by key, then container, each (nanocores, bytes). Unknown pods are left out."""
        for key, boxes in pods.items():
            pod = facts.get(key)
            if pod is None:
                continue
            for name, used in boxes.items():
                use = self.containers.setdefault(f"{pod.owner}/{name}", ContainerUse())
                use.add(at, used[0], used[1], pod.cores.get(name, 0.0))

    def prune(self, now: datetime) -> None:
        """Forget containers that were not seen for long."""
        oldest = (now - FORGOTTEN_AFTER).timestamp()
        self.containers = {key: use for key, use in self.containers.items() if use.last_at >= oldest}

    def dump(self) -> dict[str, Any]:
        return {key: use.dump() for key, use in self.containers.items()}

    @classmethod
    def load(cls, kept: Mapping[str, Any]) -> Histograms:
        return cls({key: ContainerUse.load(value) for key, value in kept.items()})


def pod_facts(tables: Mapping[str, Mapping[str, Record]]) -> dict[str, PodFacts]:
    """Owner and requests of each pod of a report, by its key."""
    workloads, specs = tables.get("workloads") or {}, tables.get("specs") or {}
    cores = {
        key: {
            str(box.get("name", "")): int((box.get("requests") or {}).get("cpu", 0)) / 1000
            for box in spec.get("containers") or ()
        }
        for key, spec in specs.items()
    }
    return {
        key: PodFacts(
            "/".join((str(pod.get("namespace", "")), *top_owner(pod, workloads))),
            cores.get(str(pod.get("spec", "")), {}),
        )
        for key, pod in (tables.get("pods") or {}).items()
    }
