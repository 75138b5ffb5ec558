"""What each container of a workload should request, and every reason to leave it as it is. Pure.

Amounts are thousandths of a core and bytes. A recommendation is made for the template: all replicas count as one.

- **p95**: p95 of the last fourteen days' CPU and the highest memory of a day, each with the headroom on top.
- **vpa**: as the Vertical Pod Autoscaler 1.7 says by its documentation: p90 of the decaying histograms (memory: of the
  daily peaks), 15 % on top, lower and upper bounds from p50 and p95 with its confidence factors.
- **measured**: CPU as `measured` chooses it, memory as p95 does.

A container that was killed for lack of memory gets at least 1.2 times what it had, or 100 MiB more.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from clusters.analysis.usage_days import edge
from clusters.histograms import ContainerUse
from policies.enums import Profile
from policies.rightsizing import measured

MIB = 1024**2
LEAST_CPU, LEAST_MEMORY = 10, 32 * MIB
VPA_LEAST_CPU, VPA_LEAST_MEMORY = 25, 250 * 10**6  # a pod, divided between its containers
VPA_MARGIN = 1.15
SAME_WITHIN = 0.10
LEAST_SAMPLES = 100
LEAST_AGE = timedelta(hours=24)
OOM_FACTOR, OOM_MORE = 1.2, 100 * MIB
OOM_REMEMBERED = timedelta(days=14)
DAY_SECONDS = 86_400.0
KINDS = ("Deployment", "StatefulSet")
_JVM = re.compile(r"(^|[/_.-])(java|jdk|jre|openjdk|temurin|corretto|jvm|tomcat|jetty|wildfly|keycloak|kafka|zookeeper"
                  r"|elasticsearch|opensearch|cassandra|solr|logstash|jenkins|spring|quarkus)([/_.:@0-9-]|$)", re.IGNORECASE)  # fmt: skip


class Why(StrEnum):
    """Why a figure stays."""

    EXEMPT = "exempt"
    KIND = "kind"
    YOUNG = "young"
    NO_USAGE = "no_usage"
    CLOSE = "close"
    HPA = "hpa"
    JVM = "jvm"
    SAVES_LITTLE = "saves_little"


WORDS = {
    Why.KIND: "only Deployments and StatefulSets are changed",
    Why.NO_USAGE: "its use was never measured",
    Why.CLOSE: "what it requests is within 10 % of what it needs",
}


@dataclass(frozen=True, slots=True)
class Hold:
    """A reason to leave something as it is, as a code and in words."""

    why: Why
    words: str


@dataclass(frozen=True, slots=True)
class Box:
    """One container as its template has it; None is unset."""

    name: str
    image: str = ""
    cpu: int | None = None
    memory: int | None = None
    cpu_limit: int | None = None
    memory_limit: int | None = None
    use: ContainerUse | None = None
    killed_at: datetime | None = None
    killed_with: int = 0  # the memory that it had when it was killed last


@dataclass(frozen=True, slots=True)
class Subject:
    """A workload. `scales_on` are the resources that a HorizontalPodAutoscaler compares with requests."""

    namespace: str
    kind: str
    name: str
    replicas: int
    boxes: tuple[Box, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    scales_on: tuple[str, ...] = ()
    exempt: str = ""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Rules:
    """What the policy says."""

    profile: Profile = Profile.P95
    headroom: int = 20  # per cent
    minimum_monthly: float = 10.0


@dataclass(frozen=True, slots=True)
class Prices:
    """Dollars a month of a thousandth of a core and of a byte on this cluster's nodes; None when none has a price."""

    cpu: float | None = None
    memory: float | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Size:
    """One resource of one container. `wanted` is None when nothing can be said; `to` is what it would become."""

    old: int | None
    wanted: int | None = None
    lower: int | None = None
    upper: int | None = None
    basis: str = ""
    hold: Hold | None = None

    @property
    def to(self) -> int | None:
        return self.old if self.hold is not None or self.wanted is None else self.wanted

    @property
    def up(self) -> bool:
        return self.to is not None and self.to > (self.old or 0)

    @property
    def down(self) -> bool:
        return self.to is not None and self.old is not None and self.to < self.old


@dataclass(frozen=True, slots=True)
class BoxAdvice:
    """What a container should have. `urgent`: it was killed for lack of memory."""

    name: str
    cpu: Size
    memory: Size
    urgent: bool = False
    notes: tuple[str, ...] = ()

    @property
    def changes(self) -> bool:
        return self.cpu.up or self.cpu.down or self.memory.up or self.memory.down


@dataclass(frozen=True, slots=True)
class Advice:
    """A workload's recommendation. Money is dollars a month for all its replicas, None without a price: `saves` is what
    the change comes to (below zero: it costs more), `potential` what the recommendation without any hold would save."""

    key: str
    replicas: int
    boxes: tuple[BoxAdvice, ...]
    saves: float | None
    potential: float | None
    hold: Hold | None = None

    @property
    def changes(self) -> bool:
        return self.hold is None and any(box.changes for box in self.boxes)

    @property
    def up(self) -> bool:
        return self.hold is None and any(box.cpu.up or box.memory.up for box in self.boxes)

    @property
    def down(self) -> bool:
        return self.hold is None and any(box.cpu.down or box.memory.down for box in self.boxes)


def advise(subject: Subject, rules: Rules, prices: Prices, now: datetime) -> Advice:
    """The recommendation for one workload."""
    if subject.exempt:
        hold = Hold(Why.EXEMPT, subject.exempt)
        return Advice(subject.key, subject.replicas, tuple(_still(b, hold) for b in subject.boxes), 0.0, 0.0, hold)
    boxes = tuple(_box(box, subject, rules, now) for box in subject.boxes)
    potential = _money(boxes, subject.replicas, prices, held=False)
    if subject.kind not in KINDS:
        hold = Hold(Why.KIND, WORDS[Why.KIND])
        boxes = tuple(_all_held(box, hold) for box in boxes)
        return Advice(subject.key, subject.replicas, boxes, 0.0, potential, hold)
    saves = _money(boxes, subject.replicas, prices, held=True)
    downs = _only_downs(boxes)
    worth = _money(downs, subject.replicas, prices, held=True)
    if any(b.cpu.down or b.memory.down for b in boxes) and (worth is None or worth < rules.minimum_monthly):
        boxes = tuple(_without_downs(box, worth, rules) for box in boxes)
        saves = _money(boxes, subject.replicas, prices, held=True)
    return Advice(subject.key, subject.replicas, boxes, saves, potential)


def _still(box: Box, hold: Hold) -> BoxAdvice:
    return BoxAdvice(box.name, Size(box.cpu, hold=hold), Size(box.memory, hold=hold))


def _money(boxes: Sequence[BoxAdvice], replicas: int, prices: Prices, *, held: bool) -> float | None:
    """Dollars a month that the boxes' recommendations save, with or without what is held. Requests that were not set
    count as nothing saved: they reserved nothing."""
    if prices.cpu is None or prices.memory is None:
        return None
    total = 0.0
    for box in boxes:
        for size, price in ((box.cpu, prices.cpu), (box.memory, prices.memory)):
            to = size.to if held else size.wanted
            if to is not None:
                total += ((size.old or 0) - to) * price
    return total * replicas


def _only_downs(boxes: Sequence[BoxAdvice]) -> list[BoxAdvice]:
    kept = []
    for box in boxes:
        cpu = box.cpu if box.cpu.down else Size(box.cpu.old)
        memory = box.memory if box.memory.down else Size(box.memory.old)
        kept.append(BoxAdvice(box.name, cpu, memory))
    return kept


def _without_downs(box: BoxAdvice, worth: float | None, rules: Rules) -> BoxAdvice:
    words = (
        "no price is known, so it cannot be told what it saves"
        if worth is None
        else f"it saves ${worth:,.2f} a month, less than the ${rules.minimum_monthly:,.0f} that the policy asks for"
    )
    hold = Hold(Why.SAVES_LITTLE, words)
    return BoxAdvice(
        box.name,
        _held(box.cpu, hold) if box.cpu.down else box.cpu,
        _held(box.memory, hold) if box.memory.down else box.memory,
        box.urgent,
        box.notes,
    )


def _all_held(box: BoxAdvice, hold: Hold) -> BoxAdvice:
    cpu = box.cpu if box.cpu.hold else _held(box.cpu, hold)
    memory = box.memory if box.memory.hold else _held(box.memory, hold)
    return BoxAdvice(box.name, cpu, memory, box.urgent, box.notes)


def _held(size: Size, hold: Hold) -> Size:
    return Size(size.old, size.wanted, size.lower, size.upper, size.basis, hold)


def _box(box: Box, subject: Subject, rules: Rules, now: datetime) -> BoxAdvice:
    bump = _oom_floor(box, now)
    if box.use is None or (box.use.cpu.empty and box.use.memory.empty and not box.use.days.days()):
        hold = Hold(Why.NO_USAGE, WORDS[Why.NO_USAGE])
        memory = _judged(Size(box.memory, bump, basis="it was killed for lack of memory")) if bump else None
        return BoxAdvice(box.name, Size(box.cpu, hold=hold), memory or Size(box.memory, hold=hold), bool(bump))
    cpu, memory = recommend(box.use, rules, boxes=len(subject.boxes), now=now)
    cpu = Size(box.cpu, cpu.wanted, cpu.lower, cpu.upper, cpu.basis)
    memory = Size(box.memory, memory.wanted, memory.lower, memory.upper, memory.basis)
    if bump and bump > (memory.wanted or 0):
        memory = Size(box.memory, bump, memory.lower, memory.upper, "it was killed for lack of memory")
    notes = _notes(box)
    return BoxAdvice(
        box.name,
        _cpu_hold(_judged(cpu), box, subject, now),
        _memory_hold(_judged(memory), box, subject, now, urgent=bool(bump)),
        bool(bump),
        notes,
    )


def _judged(size: Size) -> Size:
    """Nothing to change within ten per cent; a request that is not set is set."""
    if size.wanted is None:
        return _held(size, Hold(Why.NO_USAGE, WORDS[Why.NO_USAGE]))
    if size.old is not None and abs(size.wanted - size.old) <= SAME_WITHIN * size.old:
        return _held(size, Hold(Why.CLOSE, WORDS[Why.CLOSE]))
    return size


def _young(box: Box, now: datetime) -> Hold | None:
    use = box.use
    assert use is not None
    age = now.timestamp() - use.first_at
    if age >= LEAST_AGE.total_seconds() and use.samples >= LEAST_SAMPLES:
        return None
    hours = max(0.0, age / 3600)
    return Hold(Why.YOUNG, f"seen {use.samples} times in {hours:.0f} h; it takes {LEAST_SAMPLES} times and 24 h")


def _cpu_hold(size: Size, box: Box, subject: Subject, now: datetime) -> Size:
    if size.hold is not None:
        return size
    if "cpu" in subject.scales_on:
        return _held(size, Hold(Why.HPA, "a HorizontalPodAutoscaler scales it by its CPU request"))
    young = _young(box, now)
    return _held(size, young) if young else size


def _memory_hold(size: Size, box: Box, subject: Subject, now: datetime, *, urgent: bool) -> Size:
    if size.hold is not None:
        return size
    if "memory" in subject.scales_on:
        return _held(size, Hold(Why.HPA, "a HorizontalPodAutoscaler scales it by its memory request"))
    young = None if urgent else _young(box, now)
    if young:
        return _held(size, young)
    if size.down and jvm(box.image):
        words = "a Java heap is sized by the memory limit when it starts; lower it together with -Xmx"
        return _held(size, Hold(Why.JVM, words))
    return size


def jvm(image: str) -> bool:
    """Whether an image looks like Java."""
    return bool(_JVM.search(image))


def _notes(box: Box) -> tuple[str, ...]:
    if jvm(box.image):
        return ("It looks like Java: it may need much more CPU while it starts than later.",)
    return ()


def _oom_floor(box: Box, now: datetime) -> int | None:
    """What a container needs that was killed for lack of memory, by VPA's rule; None when it was not, of late."""
    if box.killed_at is None or now - box.killed_at > OOM_REMEMBERED:
        return None
    had = max(float(box.killed_with), float(box.use.peak) if box.use else 0.0)
    return _memory(max(had * OOM_FACTOR, had + OOM_MORE)) if had else None


def recommend(use: ContainerUse, rules: Rules, *, boxes: int = 1, now: datetime) -> tuple[Size, Size]:
    """CPU and memory by the profile, without regard to what is requested now."""
    if rules.profile is Profile.VPA:
        return _vpa(use, boxes, now)
    factor = 1 + rules.headroom / 100
    memory = _peak(use, factor, rules.headroom)
    if rules.profile is Profile.MEASURED:
        lately = use.cpu.percentile(measured.LATELY)
        chosen = measured.choose(use.days.days(), lately, headroom=rules.headroom)
        if chosen is not None:
            return Size(None, max(LEAST_CPU, _milli(chosen.cores)), basis=chosen.words), memory
    cores, words = _p95(use)
    if cores is None:
        return Size(None), memory
    return Size(None, max(LEAST_CPU, _milli(cores * factor)), basis=f"{words} + {rules.headroom} %"), memory


def _p95(use: ContainerUse) -> tuple[float | None, str]:
    pool = measured.pool(use.days.days())
    if pool is not None:
        return edge(pool.quantile(0.95)), f"p95 of {min(measured.MOST_DAYS, len(use.days.days()))} days"
    return (None, "") if use.cpu.empty else (use.cpu.percentile(0.95), "p95, older samples counting less")


def _peak(use: ContainerUse, factor: float, headroom: int) -> Size:
    peaks = [day.memory for day in use.days.days()[-measured.MOST_DAYS :] if day.memory]
    if peaks:
        words = f"highest of {len(peaks)} days' peaks + {headroom} %"
        return Size(None, max(LEAST_MEMORY, _memory(max(peaks) * factor)), basis=words)
    if use.memory.empty:
        return Size(None)
    words = f"highest daily peak that is remembered + {headroom} %"
    return Size(None, max(LEAST_MEMORY, _memory(use.memory.percentile(1.0) * factor)), basis=words)


def _vpa(use: ContainerUse, boxes: int, now: datetime) -> tuple[Size, Size]:
    days = min((use.last_at - use.first_at) / DAY_SECONDS, use.samples / 1440)
    cpu = vpa_bounds(tuple(use.cpu.percentile(share) for share in (0.9, 0.5, 0.95)), days)
    memory = vpa_bounds(tuple(use.memory.percentile(share) for share in (0.9, 0.5, 0.95)), days)
    floor_cpu, floor_memory = math.ceil(VPA_LEAST_CPU / boxes), math.ceil(VPA_LEAST_MEMORY / boxes)
    basis = "p90 + 15 %, older samples counting less"
    return (
        _bounded([_milli(v) for v in cpu], floor_cpu, basis) if not use.cpu.empty else Size(None),
        _bounded([math.ceil(min(v, 1e18)) for v in memory], floor_memory, f"{basis}, daily peaks")
        if not use.memory.empty
        else Size(None),
    )


def _bounded(values: Sequence[int], floor: int, basis: str) -> Size:
    target, lower, upper = (max(floor, value) for value in values)
    return Size(None, target, lower, upper, basis)


def vpa_bounds(percentiles: Sequence[float], days: float) -> tuple[float, float, float]:
    """Target, lower and upper bound of (p90, p50, p95) with VPA's margin and confidence after so many days."""
    target, low, high = (VPA_MARGIN * value for value in percentiles)
    if days <= 0:
        return target, 0.0, math.inf
    return target, low * (1 + 0.001 / days) ** -2, high * (1 + 1 / days)


def _milli(cores: float) -> int:
    return math.ceil(min(cores, 1e9) * 1000 - 1e-6)


def _memory(amount: float) -> int:
    """Whole mebibytes, upwards."""
    return math.ceil(amount / MIB) * MIB
