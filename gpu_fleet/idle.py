"""When is a machine idle? Only when every known signal has said so for N minutes. Unknown counts as busy. Pure.

Samples carry the server's time of receipt, so a wrong clock on the machine changes nothing; rates cover the whole time
since the sample before, so nothing happens unseen between two of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

# So many usual intervals may lie between two samples; more is a gap in which anything may have happened.
GAP = 2.5
SHORTEST_GAP = timedelta(seconds=20)


class Word(StrEnum):
    """BUSY: something works. UNKNOWN: it cannot be told, so it is left alone. COUNTING: idle, not long enough yet."""

    BUSY = "busy"
    UNKNOWN = "unknown"
    COUNTING = "counting"
    IDLE = "idle"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Sample:
    """What one heartbeat told. None is unknown; a signal in `absent` does not exist on this machine.

    `gpus` is the highest load of each GPU in percent since the sample before; `cpu` percent of one core, `disk` and
    `net` bytes a second; `seconds` what the sample covers.
    """

    at: datetime
    seconds: float
    gpus: tuple[float | None, ...] | None = None
    cpu: float | None = None
    disk: float | None = None
    net: float | None = None
    ssh: int | None = None
    kernels: int | None = None
    jobs: int | None = None
    absent: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Rule:
    """Idle is at or below each of these for `minutes`."""

    minutes: float = 3.0
    gpu: float = 5.0
    cpu: float = 25.0
    disk: float = 1_000_000.0
    net: float = 100_000.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The word, why, since when it is idle, and when it would be put to sleep (None: not foreseeable)."""

    word: Word
    reasons: tuple[str, ...] = ()
    idle_since: datetime | None = None
    sleep_at: datetime | None = None


def judge(
    samples: Sequence[Sample],
    now: datetime,
    rule: Rule,
    *,
    interval: float = 30.0,
    since: datetime | None = None,
    kept_until: datetime | None = None,
) -> Verdict:
    """Judge a machine by its samples, oldest first. `since` is when it woke: nothing before counts."""
    if not samples or now - samples[-1].at > _gap(interval):
        return Verdict(Word.UNKNOWN, ("it was not heard lately",))
    unknown, busy = _unknown(samples[-1]), _busy(samples[-1], rule)
    if busy or unknown:
        return Verdict(Word.BUSY if busy else Word.UNKNOWN, tuple(busy or unknown))
    began = _idle_since(samples, rule, interval)
    if since is not None:
        began = max(began, since)
    if kept_until is not None and kept_until > now:
        return Verdict(Word.KEPT, ("somebody asked to keep it awake",), began, max(kept_until, began))
    sleep_at = began + timedelta(minutes=rule.minutes)
    return Verdict(Word.IDLE if now >= sleep_at else Word.COUNTING, (), began, sleep_at)


def _idle_since(samples: Sequence[Sample], rule: Rule, interval: float) -> datetime:
    """Start of the unbroken stretch of quiet samples that the last one belongs to."""
    began = samples[-1].at - timedelta(seconds=max(0.0, samples[-1].seconds))
    later = samples[-1]
    for sample in reversed(samples[:-1]):
        if later.at - sample.at > _gap(interval) or _busy(sample, rule) or _unknown(sample):
            return max(began, sample.at)
        began = sample.at - timedelta(seconds=max(0.0, sample.seconds))
        later = sample
    return began


def _gap(interval: float) -> timedelta:
    return max(SHORTEST_GAP, timedelta(seconds=interval * GAP))


def _unknown(sample: Sample) -> list[str]:
    """Signals that exist but were not told."""
    missing = [name for name in SIGNALS if name not in sample.absent and getattr(sample, name) is None]
    if "gpus" not in sample.absent and sample.gpus is not None and any(load is None for load in sample.gpus):
        missing.append("gpus")
    return [f"{SIGNALS[name]} is not known" for name in missing]


SIGNALS = {
    "gpus": "GPU load",
    "cpu": "CPU load",
    "disk": "disk traffic",
    "net": "network traffic",
    "ssh": "who is logged in",
    "kernels": "what Jupyter does",
    "jobs": "what the agent runs",
}


def _busy(sample: Sample, rule: Rule) -> list[str]:
    found = [
        f"GPU {n} at {load:.0f} %"
        for n, load in enumerate(sample.gpus or ())
        if load is not None and load > rule.gpu and "gpus" not in sample.absent
    ]
    if _above(sample, "cpu", rule.cpu):
        found.append(f"CPU at {sample.cpu:.0f} % of a core")
    if _above(sample, "disk", rule.disk):
        found.append(f"disk at {(sample.disk or 0) / 1e6:.1f} MB/s")
    if _above(sample, "net", rule.net):
        found.append(f"network at {(sample.net or 0) / 1e6:.1f} MB/s")
    for name, word in (("ssh", "SSH session"), ("kernels", "Jupyter kernel at work"), ("jobs", "job of the agent")):
        count = getattr(sample, name)
        if count and name not in sample.absent:
            found.append(f"{count} {word}{'s' if count > 1 and name != 'kernels' else ''}")
    return found


def _above(sample: Sample, name: str, limit: float) -> bool:
    value = getattr(sample, name)
    return value is not None and value > limit and name not in sample.absent
