"""Idle judgement on labelled traces, beside the rules of other tools on the same traces.

    python -m bench.gpu_idle --traces 10000 --seed 1

A trace is two hours of heartbeats whose truth is known: what worked when. Every minute each rule says whether the
machine would be stopped. `busy_stopped` counts traces in which it would have been while something worked;
`idle_found` is the share of idle stretches (ten minutes or more) that were found within N minutes + 60 s.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gpu_fleet.idle import Rule, Sample, Word, judge

START = datetime(2031, 1, 1, tzinfo=UTC)
STEP = 30.0
LENGTH = 240
MINUTES = 3.0
KINDS = (
    "training",
    "loader_gaps",
    "compile",
    "download",
    "ssh",
    "jupyter",
    "second_gpu",
    "null_metrics",
    "lost_heartbeats",
    "nohup_cpu",
    "agent_backup",
    "idle",
)


@dataclass(frozen=True)
class Beat:
    """A heartbeat that arrived, with the truth: whether anything worked in the time that it covers."""

    sample: Sample
    busy: bool


def quiet(at: datetime, chance: random.Random, count: int, **facts: object) -> Sample:
    told = {
        "gpus": tuple(chance.uniform(0, 1.5) for _ in range(count)),
        "cpu": chance.uniform(0.2, 6),
        "disk": chance.uniform(0, 40_000),
        "net": chance.uniform(100, 8_000),
        "ssh": 0,
        "kernels": 0,
        "jobs": 0,
        **facts,
    }
    return Sample(at, STEP, **told)  # type: ignore[arg-type]


def make(kind: str, chance: random.Random) -> list[Beat]:
    """One trace: busy for a while, idle for a while, in turns."""
    gpus, beats, n = chance.choice((1, 1, 2, 4)), [], 0
    busy = chance.random() < 0.7 and kind != "idle"
    while n < LENGTH:
        length = chance.randint(20, 90)
        for _ in range(min(length, LENGTH - n)):
            at = START + timedelta(seconds=STEP * (n + 1) + chance.uniform(-2, 2))
            n += 1
            if kind == "lost_heartbeats" and chance.random() < 0.2:
                continue
            beats.append(Beat(_busy(kind, at, chance, gpus, n) if busy else quiet(at, chance, gpus), busy))
        busy = not busy and kind != "idle"
    return beats


def _busy(kind: str, at: datetime, chance: random.Random, gpus: int, n: int) -> Sample:
    high = tuple(chance.uniform(60, 100) for _ in range(gpus))
    none = tuple(0.0 for _ in range(gpus))
    if kind == "loader_gaps":
        # the GPUs wait for minutes at a time while data is read and prepared
        gap = n % 14 < 11
        return quiet(at, chance, gpus, gpus=none if gap else high, cpu=chance.uniform(120, 700), disk=5e7)
    facts: dict[str, dict[str, object]] = {
        "compile": {"gpus": none, "cpu": chance.uniform(300, 800)},
        "download": {"gpus": none, "net": chance.uniform(5e5, 8e7), "disk": chance.uniform(2e5, 8e7)},
        "ssh": {"gpus": none, "ssh": chance.randint(1, 2)},
        "jupyter": {"gpus": none, "kernels": 1},
        "second_gpu": {"gpus": (0.0,) * max(1, gpus - 1) + (chance.uniform(40, 100),)},
        "null_metrics": {"gpus": chance.choice([None, (None,) * gpus])},
        "nohup_cpu": {"gpus": none, "cpu": chance.uniform(60, 100)},
        "agent_backup": {"gpus": none, "jobs": 1, "disk": 3e7},
    }
    return quiet(at, chance, gpus, **facts.get(kind, {"gpus": high}))


def ours(seen: Sequence[Sample], now: datetime) -> bool:
    return judge(seen[-12:], now, Rule(minutes=MINUTES), interval=STEP).word is Word.IDLE


def last_sample(seen: Sequence[Sample], now: datetime) -> bool:
    """Load of the first GPU below 5 % in the newest sample of three minutes; a missing figure is zero."""
    old = [s for s in seen if s.at <= now - timedelta(minutes=MINUTES)]
    newest = seen[-1]
    load = (newest.gpus or (0.0,))[0] or 0.0
    return bool(old) and load < 5


def jobs_and_ssh(seen: Sequence[Sample], now: datetime) -> bool:
    """No registered job and no SSH session for three minutes."""
    window = [s for s in seen if s.at > now - timedelta(minutes=MINUTES)]
    return bool(window) and seen[0].at < now - timedelta(minutes=MINUTES) and not any(s.ssh for s in window)


def connections(seen: Sequence[Sample], now: datetime) -> bool:
    """No open connection (SSH or notebook) for three minutes."""
    window = [s for s in seen if s.at > now - timedelta(minutes=MINUTES)]
    old = seen[0].at < now - timedelta(minutes=MINUTES)
    return bool(window) and old and not any(s.ssh or s.kernels for s in window)


def utilization_window(seen: Sequence[Sample], now: datetime) -> bool:
    """No GPU above 5 % for three minutes; unknown is not above."""
    window = [s for s in seen if s.at > now - timedelta(minutes=MINUTES)]
    loads = [load for s in window for load in (s.gpus or ()) if load is not None]
    return bool(window) and seen[0].at < now - timedelta(minutes=MINUTES) and all(load <= 5 for load in loads)


RULES: dict[str, Callable[[Sequence[Sample], datetime], bool]] = {
    "curfew": ours,
    "last sample, first GPU": last_sample,
    "jobs and SSH": jobs_and_ssh,
    "open connections": connections,
    "GPU window": utilization_window,
}


def run(traces: int, seed: int) -> dict[str, dict[str, float]]:
    """Every rule on every trace."""
    found = {name: {"busy_stopped": 0, "idle": 0, "idle_found": 0} for name in RULES}
    for n in range(traces):
        chance = random.Random(seed * 1_000_003 + n)
        beats = make(KINDS[n % len(KINDS)], chance)
        lossy = KINDS[n % len(KINDS)] == "lost_heartbeats"
        for name, rule in RULES.items():
            _judge(beats, rule, found[name], lossy=lossy)
    return {
        name: {**told, "idle_share": round(told["idle_found"] / told["idle"], 4) if told["idle"] else 0.0}
        for name, told in found.items()
    }


def _judge(
    beats: Sequence[Beat], rule: Callable[[Sequence[Sample], datetime], bool], told: dict[str, float], *, lossy: bool
) -> None:
    samples = [beat.sample for beat in beats]
    stopped, began, hit = False, None, False
    for n, beat in enumerate(beats):
        now = beat.sample.at
        if beat.busy:
            began = None
        elif began is None:
            began, hit = now - timedelta(seconds=STEP), False
        idle = rule(samples[: n + 1][-40:], now)
        if idle and beat.busy:
            stopped = True
        if began is not None and not lossy:
            age = (now - began).total_seconds()
            hit = hit or (idle and age <= MINUTES * 60 + 60)
            if MINUTES * 60 + 60 < age <= MINUTES * 60 + 60 + STEP * 1.2 and not beat.busy:
                told["idle"] += 1
                told["idle_found"] += hit
    told["busy_stopped"] += stopped


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--traces", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    began = time.process_time()
    found = run(asked.traces, asked.seed)
    mine = found["curfew"]
    good = mine["busy_stopped"] == 0 and mine["idle_share"] >= 0.99
    print("PASS" if good else "FAIL")
    print(
        json.dumps(
            {"traces": asked.traces, "cpu_seconds": round(time.process_time() - began, 1), "rules": found}, indent=1
        )
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
