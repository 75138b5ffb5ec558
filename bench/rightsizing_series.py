"""Real CPU series for the back-test of rightsizing, from the data beside the repository: train and test parts.

Fourteen days are known and the next seven are the test, wherever a series is long enough (`weeks`); shorter sets are
split as `_cuts` says. Cores; alibaba_machines in shares of a machine, NAB, PlanetLab and Google in shares of one core.
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

from bench.support import ROOT

DATA = Path(os.environ.get("CURFEW_SHARED_DATA") or ROOT.parent / "shared" / "data")
DAY = 86_400.0
WEEKS = ("bitbrains", "materna")
SHORT = ("nab", "machines", "containers", "planetlab")
Sample = tuple[float, float]  # Unix seconds, cores
Line = tuple[str, float, float]  # name, Unix seconds, cores


@dataclass(frozen=True, slots=True)
class Fold:
    """What is known of a series, and the days after it; `hours` is how long the test lasts by its samples."""

    group: str
    name: str
    known: list[Sample]
    test: list[float]
    hours: float


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


def _planetlab() -> Iterator[Line]:
    for r in _rows("planetlab_2011/cpu_5min.csv.gz"):
        start = datetime.strptime(r["day"], "%Y%m%d").replace(tzinfo=UTC).timestamp()
        for number, value in enumerate(r["cpu_pct_288_samples_space_separated"].split()):
            yield r["vm"], start + 300 * number, float(value) / 100


READERS = {
    "bitbrains": _bitbrains,
    "materna": _materna,
    "machines": _machines,
    "containers": _containers,
    "nab": _nab,
    "planetlab": _planetlab,
}


def folds(group: str) -> list[Fold]:
    """The train and test parts of one set."""
    found = []
    for name, samples in sorted(series(group).items()):
        step = 60 if group == "containers" else 300
        for cut, end in _cuts(group, samples):
            known = [s for s in samples if s[0] < cut]
            test = [cores for at, cores in samples if cut <= at < end]
            if len(known) >= (1000 if group in WEEKS else 500) and len(test) >= 288:
                found.append(Fold(group, name, known, test, len(test) * step / 3600))
    return found


def _cuts(group: str, samples: list[Sample]) -> list[tuple[float, float]]:
    first = samples[0][0] // DAY * DAY
    if group in WEEKS:
        return [(first + k * DAY, first + (k + 7) * DAY) for k in (14, 21, 28)]
    if group == "nab":
        return [(samples[0][0] + 7 * DAY, samples[-1][0] + 1)]
    if group == "planetlab":  # the last of at least four days; they do not follow each other
        days = {at // DAY for at, _ in samples}
        return [(samples[-1][0] // DAY * DAY, samples[-1][0] + 1)] if len(days) > 3 else []
    return [(first + 5 * DAY, samples[-1][0] + 1)]
