"""Recorded clusters: the trace that a folder holds, whatever its form.

A folder has either our own form (nodes.csv, pods.csv, workloads.csv, usage.csv; docs/agent-protocol.md has the columns)
or one of the public sets told apart by their columns. What a set does not say stays unknown; what had to be derived
stands in `Trace.notes`.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TextIO

MIB = 1024 * 1024
Row = dict[str, str]
Pair = tuple[int | None, int | None]
UsageRow = tuple[float, str, str, str, Pair]  # seconds, namespace ("" for a node), pod or node, container, used
GPU = "nvidia.com/gpu"
GPU_SHARE = "curfew.dev/gpu-milli"


class BadTrace(ValueError):
    """The folder holds no trace that can be replayed; the text says why."""


@dataclass(slots=True)
class TraceNode:
    """A node; amounts in millicores, bytes and pieces."""

    name: str
    amounts: dict[str, int]
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class TraceBox:
    """A container with what it asks for."""

    name: str
    requests: dict[str, int]
    limits: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class TracePod:
    """A pod and its life in seconds of the trace; `gpu_models` are those that it may run on, none for any."""

    namespace: str
    name: str
    boxes: list[TraceBox]
    node: str = ""
    created: float = 0.0
    scheduled: float | None = 0.0
    deleted: float | None = None
    priority_class: str = ""
    gpu_models: frozenset[str] = frozenset()

    def lives_at(self, moment: float) -> bool:
        return self.created <= moment and (self.deleted is None or moment < self.deleted)


@dataclass(slots=True)
class TraceWorkload:
    """A Deployment, or a CronJob when it has a schedule."""

    namespace: str
    name: str
    replicas: int
    boxes: list[TraceBox]
    kind: str = "Deployment"
    schedule: str = ""
    hpa: tuple[int, int] | None = None


@dataclass(slots=True)
class Trace:
    """One recorded cluster. `usage` may be called anew; its rows are in the order of time."""

    name: str
    nodes: list[TraceNode] = field(default_factory=list)
    pods: list[TracePod] = field(default_factory=list)
    workloads: list[TraceWorkload] = field(default_factory=list)
    usage: Callable[[], Iterator[UsageRow]] | None = None
    placed: bool = True
    notes: list[str] = field(default_factory=list)


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a CSV file, packed or not. Raises BadTrace."""
    try:
        with _open(path) as file:
            yield from csv.DictReader(file)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as bad:
        raise BadTrace(f"{path}: {bad}") from bad


def _columns(path: Path) -> frozenset[str]:
    try:
        with _open(path) as file:
            return frozenset(next(csv.reader(file), []))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as bad:
        raise BadTrace(f"{path}: {bad}") from bad


def _whole(text: str | None) -> int | None:
    try:
        return round(float(text)) if text not in (None, "") else None
    except (ValueError, OverflowError):
        return None


def _known(**found: int | None) -> dict[str, int]:
    return {name.replace("_", "-"): value for name, value in found.items() if value is not None}


def _gpus(count: int | None, model: str) -> tuple[dict[str, int], dict[str, str]]:
    if not count:
        return {}, {}
    return {GPU: count, GPU_SHARE: 1000 * count}, {"nvidia.com/gpu.product": model} if model else {}


def _by_name(folder: Path) -> dict[str, Path]:
    found = {p.name.removesuffix(".gz").removesuffix(".csv"): p for p in sorted(folder.glob("*.csv*"))}
    return {name: path for name, path in found.items() if path.name.endswith((".csv", ".csv.gz"))}


def load(folder: Path) -> Trace:
    """Return the trace of a folder, or of its subfolder `dev`. Raises BadTrace."""
    files = _by_name(folder)
    if not files and (folder / "dev").is_dir():
        return load(folder / "dev")
    if not files:
        raise BadTrace(f"{folder} holds no .csv or .csv.gz file")
    columns = {name: _columns(path) for name, path in files.items()}
    name = folder.parent.name if folder.name == "dev" else folder.name
    for fits, convert in _CONVERTERS:
        if all(wanted <= columns.get(file, frozenset()) for file, wanted in fits.items()):
            return convert(name, files)
    raise BadTrace(f"{folder}: the columns of {', '.join(sorted(files))} are of no form that can be replayed")


def _ours(name: str, files: dict[str, Path]) -> Trace:
    trace = Trace(name)
    for row in rows(files["nodes"]) if "nodes" in files else ():
        gpu, labels = _gpus(_whole(row.get("gpu")), row.get("gpu_model") or "")
        amounts = _known(
            cpu=_whole(row.get("cpu_m")), memory=_whole(row.get("memory_bytes")), pods=_whole(row.get("pods"))
        )
        for column, label in _LABELS.items():
            if row.get(column):
                labels[label] = row[column]
        trace.nodes.append(TraceNode(row["name"], amounts | gpu, labels))
    for row in rows(files["pods"]) if "pods" in files else ():
        trace.pods.append(_our_pod(row))
    if "workloads" in files:
        trace.workloads = _our_workloads(files["workloads"])
    if "usage" in files:
        path = files["usage"]
        trace.usage = lambda: _our_usage(path)
    return trace


_LABELS = {
    "instance_type": "node.kubernetes.io/instance-type",
    "zone": "topology.kubernetes.io/zone",
    "region": "topology.kubernetes.io/region",
    "lifecycle": "karpenter.sh/capacity-type",
    "group": "karpenter.sh/nodepool",
}


def _our_box(row: Row) -> TraceBox:
    return TraceBox(
        row.get("container") or "app",
        _known(cpu=_whole(row.get("cpu_m")), memory=_whole(row.get("memory_bytes"))),
        _known(cpu=_whole(row.get("cpu_limit_m")), memory=_whole(row.get("memory_limit_bytes"))),
    )


def _our_pod(row: Row) -> TracePod:
    scheduled = _whole(row.get("scheduled_s"))
    return TracePod(
        row.get("namespace") or "default",
        row["name"],
        [_our_box(row)],
        node=row.get("node") or "",
        created=float(_whole(row.get("created_s")) or 0),
        scheduled=None if scheduled is None and not row.get("node") else float(scheduled or 0),
        deleted=float(deleted) if (deleted := _whole(row.get("deleted_s"))) is not None else None,
    )


def _our_workloads(path: Path) -> list[TraceWorkload]:
    found: dict[tuple[str, str], TraceWorkload] = {}
    for row in rows(path):
        key = (row.get("namespace") or "default", row["name"])
        low, high = _whole(row.get("hpa_min")), _whole(row.get("hpa_max"))
        workload = found.setdefault(
            key,
            TraceWorkload(
                *key,
                _whole(row.get("replicas")) or 0,
                [],
                kind="CronJob" if row.get("schedule") else "Deployment",
                schedule=row.get("schedule") or "",
                hpa=(low or 1, high) if high else None,
            ),
        )
        workload.boxes.append(_our_box(row))
    return list(found.values())


def _our_usage(path: Path) -> Iterator[UsageRow]:
    for row in rows(path):
        pair = (_whole(row.get("cpu_nanocores")), _whole(row.get("memory_bytes")))
        target = row.get("node") or row.get("pod") or ""
        space = "" if row.get("node") else row.get("namespace") or "default"
        yield float(row["t_seconds"]), space, target, row.get("container") or "app", pair


def _openb(name: str, files: dict[str, Path]) -> Trace:
    trace = Trace(name, placed=False)
    for row in rows(files["nodes"]):
        gpu, labels = _gpus(_whole(row["gpu"]), row["model"])
        memory = _whole(row["memory_mib"])
        amounts = _known(cpu=_whole(row["cpu_milli"]), memory=memory and memory * MIB)
        trace.nodes.append(TraceNode(row["sn"], amounts | gpu, labels))
    for row in rows(files["pods_default"]):
        memory = _whole(row["memory_mib"])
        asked = _known(cpu=_whole(row["cpu_milli"]), memory=memory and memory * MIB)
        count, share = _whole(row["num_gpu"]) or 0, _whole(row["gpu_milli"]) or 0
        if count:
            asked |= {GPU_SHARE: count * share} | ({GPU: count} if share >= 1000 else {})
        scheduled = _whole(row["scheduled_time"])
        trace.pods.append(
            TracePod(
                "openb",
                row["name"],
                [TraceBox("app", asked)],
                created=float(_whole(row["creation_time"]) or 0),
                scheduled=None if scheduled is None else float(scheduled),
                deleted=float(deleted) if (deleted := _whole(row["deletion_time"])) is not None else None,
                priority_class=row["qos"],
                gpu_models=frozenset(filter(None, row["gpu_spec"].split("|"))),
            )
        )
    trace.notes.append("the trace does not say which pod ran where: pods are placed by best fit")
    return trace


def _spot_nodes(name: str, files: dict[str, Path]) -> Trace:
    trace = Trace(name)
    for row in rows(files["nodes"]):
        gpu, labels = _gpus(_whole(row["gpu_capacity_num"]), row["gpu_model"])
        cores = _whole(row["cpu_num"])
        trace.nodes.append(TraceNode(f"spot-gpu-{row['node_name']}", _known(cpu=cores and cores * 1000) | gpu, labels))
    trace.notes.append("the set has nodes only, and does not say their memory: it stays unknown")
    return trace


def _machine(name: str, cores: int | None, memory: int | None) -> tuple[TraceNode, TracePod]:
    """A virtual machine as a node of its size with one pod that asks for all of it."""
    amounts = _known(cpu=cores and cores * 1000, memory=memory)
    return TraceNode(name, amounts), TracePod("machines", name, [TraceBox("app", dict(amounts))], node=name)


def _scaled(share: str, cores: int | None) -> int | None:
    """Return nanocores of a percentage of all cores."""
    return None if not cores or share == "" else max(0, round(float(share) * cores * 10_000_000))


def _materna(name: str, files: dict[str, Path]) -> Trace:
    trace = Trace(name)
    cores: dict[str, int | None] = {}
    for row in rows(files["vms"]):
        vm, memory = f"vm-{row['vm']}", _whole(row["mem_capacity_mib"])
        cores[row["vm"]] = _whole(row["cpu_cores"])
        made = _machine(vm, cores[row["vm"]], memory and memory * MIB)
        trace.nodes.append(made[0])
        trace.pods.append(made[1])

    def usage() -> Iterator[UsageRow]:
        found: list[tuple[float, str, Pair]] = []
        for row in rows(files["usage_5min"]):
            memory = _whole(row["mem_used_mib"])
            pair = (_scaled(row["cpu_pct"], cores.get(row["vm"])), None if memory is None else memory * MIB)
            found.append((_seconds(row["timestamp_local"]), f"vm-{row['vm']}", pair))
        yield from _both(found)

    trace.usage = usage
    trace.notes.append("each virtual machine is shown as a node with one pod; the trace's local time is read as UTC")
    return trace


def _bitbrains(name: str, files: dict[str, Path]) -> Trace:
    trace = Trace(name)
    speed: dict[str, tuple[int | None, float]] = {}
    for row in rows(files["vms"]):
        speed[row["vm"]] = (_whole(row["cpu_count"]), float(row["cpu_capacity_mhz"] or 0))
        made = _machine(f"vm-{row['vm']}", speed[row["vm"]][0], None)
        trace.nodes.append(made[0])
        trace.pods.append(made[1])

    def usage() -> Iterator[UsageRow]:
        found: list[tuple[float, str, Pair]] = []
        for row in rows(files["cpu_usage"]):
            cores, megahertz = speed.get(row["vm"], (None, 0.0))
            share = str(100 * float(row["cpu_usage_mhz"]) / megahertz) if megahertz and row["cpu_usage_mhz"] else ""
            stamp = _seconds(row["timestamp_utc"])
            found.append((stamp - stamp % 300, f"vm-{row['vm']}", (_scaled(share, cores), None)))
        yield from _both(found)

    trace.usage = usage
    trace.notes.append("each virtual machine is shown as a node with one pod; the unit of its memory is not known")
    return trace


def _both(found: list[tuple[float, str, Pair]]) -> Iterator[UsageRow]:
    """Yield each measurement for the machine's node and for its pod, in the order of time."""
    for seconds, vm, pair in sorted(found, key=itemgetter(0, 1)):
        yield seconds, "", vm, "", pair
        yield seconds, "machines", vm, "app", pair


def _seconds(text: str) -> float:
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _govuk(name: str, files: dict[str, Path]) -> Trace:
    trace = Trace(name)
    found: dict[tuple[str, str], TraceWorkload] = {}
    for row in rows(files["workloads"]):
        part = row["component"]
        own = part.startswith("worker")
        deployment = f"{row['app']}-{part.partition(':')[2] or part}" if own else row["app"]
        low, high = _whole(row["hpa_min"]), _whole(row["hpa_max"])
        workload = found.setdefault(
            (row["environment"], deployment),
            TraceWorkload(
                row["environment"], deployment, _whole(row["replicas"]) or 0, [], hpa=(low or 1, high) if high else None
            ),
        )
        workload.boxes.append(
            TraceBox(part.partition(":")[0], _govuk_amounts(row, "request"), _govuk_amounts(row, "limit"))
        )
    trace.workloads = list(found.values())
    for row in rows(files["cronjobs"]) if "cronjobs" in files else ():
        cron = TraceWorkload(
            row["environment"], f"{row['app']}-{row['job']}", 0, [], kind="CronJob", schedule=row["schedule"]
        )
        trace.workloads.append(cron)
    trace.notes.append("the set has workloads only: a namespace for each environment, no nodes and no pods")
    return trace


def _govuk_amounts(row: Row, which: str) -> dict[str, int]:
    memory = row[f"mem_{which}_mib"]
    return _known(cpu=_whole(row[f"cpu_{which}_m"]), memory=round(float(memory) * MIB) if memory else None)


def steps(usage: Iterable[UsageRow]) -> Iterator[tuple[float, list[UsageRow]]]:
    """Group usage rows by their moment."""
    for seconds, group in groupby(usage, key=itemgetter(0)):
        yield seconds, list(group)


Fits = dict[str, set[str]]
_CONVERTERS: tuple[tuple[Fits, Callable[[str, dict[str, Path]], Trace]], ...] = (
    ({"nodes": {"sn", "cpu_milli", "memory_mib", "gpu"}, "pods_default": {"num_gpu", "scheduled_time"}}, _openb),
    ({"nodes": {"node_name", "gpu_capacity_num", "cpu_num"}}, _spot_nodes),
    ({"usage_5min": {"vm", "timestamp_local", "cpu_pct"}, "vms": {"cpu_cores", "mem_capacity_mib"}}, _materna),
    ({"cpu_usage": {"vm", "cpu_usage_mhz"}, "vms": {"cpu_capacity_mhz"}}, _bitbrains),
    ({"workloads": {"environment", "app", "component", "cpu_request_m"}}, _govuk),
    ({"nodes": {"name", "cpu_m"}}, _ours),
    ({"workloads": {"name", "replicas"}}, _ours),
)
