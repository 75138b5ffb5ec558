"""Real CPU series for the back-test of rightsizing, from the data beside the repository, cut into days.

Cores; alibaba_machines in shares of a machine, NAB in shares of one core.
"""

from __future__ import annotations

import csv
import gzip
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from zlib import crc32

from bench.support import ROOT

DATA = Path(os.environ.get("CURFEW_SHARED_DATA") or ROOT.parent / "shared" / "data")
DAY = 86_400.0
WEEKS = ("bitbrains", "materna")
FIRST = {"bitbrains": 14, "materna": 14, "nab": 7, "machines": 4, "containers": 4}  # days known at first
LEAST = 100  # samples of a day that is tested
Sample = tuple[float, float]  # Unix seconds, cores
Line = tuple[str, float, float]  # name, Unix seconds, cores


@dataclass(frozen=True, slots=True)
class Walk:
    """A series day by day. Days from `first` on are tested, each by what was known before it; a sample stands for `step`
    seconds. `half` is 0 or 1, by the name alone: what is chosen on one half is judged on the other."""

    group: str
    name: str
    days: list[list[Sample]]
    first: int
    step: float

    @property
    def half(self) -> int:
        return crc32(self.name.encode()) % 2

    def tested(self) -> list[int]:
        return [day for day in range(self.first, len(self.days)) if len(self.days[day]) >= LEAST]


def available() -> bool:
    return (DATA / "bitbrains_2013").is_dir()


def _rows(path: str) -> Iterator[dict[str, str]]:
    for part in ("dev", "ref"):
        file = DATA / path.replace("/", f"/{part}/", 1)
        if file.exists():
            with gzip.open(file, "rt", encoding="utf-8") as opened:
                yield from csv.DictReader(opened)


def _at(text: str) -> float:
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def series(group: str) -> dict[str, list[Sample]]:
    """The series of one set, in the order of time."""
    found: dict[str, list[Sample]] = defaultdict(list)
    for name, at, cores in READERS[group]():
        found[name].append((at, cores))
    return {name: sorted(samples) for name, samples in found.items()}


def _bitbrains() -> Iterator[Line]:
    sizes = {r["vm"]: (int(r["cpu_count"]), float(r["cpu_capacity_mhz"])) for r in _rows("bitbrains_2013/vms.csv.gz")}
    for r in _rows("bitbrains_2013/cpu_usage.csv.gz"):
        cores, capacity = sizes[r["vm"]]
        yield r["vm"], _at(r["timestamp_utc"]), float(r["cpu_usage_mhz"]) / capacity * cores


def _materna() -> Iterator[Line]:
    cores = {r["vm"]: int(r["cpu_cores"]) for r in _rows("materna_2016/vms.csv.gz")}
    for r in _rows("materna_2016/usage_5min.csv.gz"):
        if r["cpu_pct"]:
            yield r["vm"], _at(r["timestamp_local"]), float(r["cpu_pct"]) / 100 * cores[r["vm"]]


def _machines() -> Iterator[Line]:
    for r in _rows("alibaba_machines_2018/machine_usage_5min.csv.gz"):
        yield r["machine"], float(r["t_seconds"]), float(r["cpu_pct_mean"]) / 100


def _containers() -> Iterator[Line]:
    for name in ("c_12104", "c_29247"):
        for r in _rows(f"alibaba_containers_1min/{name}.csv.gz"):
            yield name, _at(r["timestamp"]), float(r["cpu_cores_used"])


def _nab() -> Iterator[Line]:
    for r in _rows("nab_cloudwatch/series.csv.gz"):
        if "cpu" in r["series"]:
            yield r["series"], _at(r["timestamp"]), float(r["value"]) / 100


READERS = {
    "bitbrains": _bitbrains,
    "materna": _materna,
    "machines": _machines,
    "containers": _containers,
    "nab": _nab,
}


def walks(group: str) -> list[Walk]:
    """The series of one set that are long enough, cut into days."""
    found = []
    for name, samples in sorted(series(group).items()):
        start = samples[0][0] // DAY
        days: list[list[Sample]] = [[] for _ in range(int(samples[-1][0] // DAY - start) + 1)]
        for sample in samples:
            days[int(sample[0] // DAY - start)].append(sample)
        tested = range(FIRST[group], len(days))
        if any(len(days[day]) >= LEAST for day in tested):
            found.append(Walk(group, name, days, FIRST[group], 60.0 if group == "containers" else 300.0))
    return found
