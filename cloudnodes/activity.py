"""Whether a node works, judged from what is known. Pure Python. Not knowing counts as busy: nothing is put to sleep on a guess."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cloudnodes.providers.metrics import Reading

SAMPLE_SECONDS = 30
# Looks further apart than this leave a gap of which nothing is known, so that idleness begins anew.
GAP = timedelta(seconds=3.5 * SAMPLE_SECONDS)
# Evidence older than this proves nothing about now.
FRESH = timedelta(seconds=3 * SAMPLE_SECONDS)
BUSY_GPU_PERCENT = 5.0
BUSY_CPU_PERCENT = 2.0
# A whole machine has its system's own work beside the node's: less than a quarter of one processor, and little traffic.
BUSY_HOST_PERCENT = 25.0
BUSY_HOST_NETWORK = 50_000.0
BUSY, IDLE, UNKNOWN = "busy", "idle", "unknown"
SILENT = "it tells nothing about its work"


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a node. `reading` None: it tells nothing; `runs` workflow runs under way on it."""

    at: datetime
    reading: Reading | None
    runs: int = 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """`verdict` busy, idle or unknown, and why, in words; `idle_since` only when idle."""

    verdict: str
    why: str
    idle_since: datetime | None = None


def judge(
    look: Look,
    *,
    before: Reading | None,
    before_at: datetime | None,
    idle_since: datetime | None,
    began: datetime | None,
    touched_at: datetime | None,
) -> Judgement:
    """Judge a look with the one before it. `began`: when the node came up; `touched_at`: when somebody last asked for it."""
    if look.runs:
        return Judgement(BUSY, f"{look.runs} workflow run{'s' if look.runs > 1 else ''} under way")
    if look.reading is None:
        return Judgement(UNKNOWN, SILENT)
    gapless = before is not None and before_at is not None and look.at - before_at <= GAP
    verdict, why = _work(look, before if gapless else None, before_at)
    if verdict != IDLE:
        return Judgement(verdict, why)
    known = [m for m in (idle_since if gapless else None, began, touched_at) if m is not None]
    since = max(known) if gapless and idle_since is not None else max([look.at, *known])
    return Judgement(IDLE, why, min(since, look.at))


def _work(look: Look, before: Reading | None, before_at: datetime | None) -> tuple[str, str]:
    now = look.reading or Reading()
    if now.running:
        return BUSY, f"{now.running:g} request{'s' if now.running != 1 else ''} under way"
    if now.gpu_percent is not None and now.gpu_percent >= BUSY_GPU_PERCENT:
        return BUSY, f"GPU at {now.gpu_percent:.0f}%"
    if now.done is not None and before is not None and before.done is not None and now.done != before.done:
        return BUSY, "it has served requests since the last look"
    if before is not None and now.began != before.began:
        return BUSY, "its service was restarted"
    used = _cpu(now, before, (look.at - before_at).total_seconds() if before_at else 0.0)
    if used is not None and used >= BUSY_CPU_PERCENT:
        return BUSY, f"processor at {used:.0f}%"
    if now.host_percent is not None and now.host_percent >= BUSY_HOST_PERCENT:
        return BUSY, f"its machine used {now.host_percent:.0f}% of a processor"
    if now.host_network is not None and now.host_network >= BUSY_HOST_NETWORK:
        return BUSY, f"its machine moved {now.host_network / 1000:.0f} kB/s over the network"
    return _proof(now, before, used)


def _proof(now: Reading, before: Reading | None, used: float | None) -> tuple[str, str]:
    """Nothing says busy: whether that is proven, since counters prove only what two looks can compare."""
    if now.done is not None and (before is None or before.done is None):
        return UNKNOWN, "looked at once only"
    if now.cpu_seconds is not None and used is None:
        return UNKNOWN, "looked at once only"
    proofs = ["no request"] if now.done is not None else []
    if used is not None:
        proofs.append(f"processor at {used:.1f}%")
    if now.gpu_percent is not None:
        proofs.append(f"GPU at {now.gpu_percent:.0f}%")
    if now.host_percent is not None and now.host_network is not None:
        proofs.append(
            f"its machine at {now.host_percent:.0f}% of a processor and {now.host_network / 1000:.0f} kB/s of network"
        )
    return (IDLE, ", ".join(proofs)) if proofs else (UNKNOWN, "its metrics say nothing about finished work")


def _cpu(now: Reading, before: Reading | None, seconds: float) -> float | None:
    if before is None or before.cpu_seconds is None or now.cpu_seconds is None or seconds <= 0:
        return None
    used = now.cpu_seconds - before.cpu_seconds
    return None if used < 0 else 100 * used / seconds


@dataclass(frozen=True, slots=True)
class Plan:
    """What automatic sleep does with an idle node: warn at, stop at; None: nothing."""

    warn_at: datetime | None
    stop_at: datetime | None


def plan(
    *,
    idle_since: datetime | None,
    idle_minutes: int | None,
    warn_minutes: int,
    keep_until: datetime | None,
    warned_at: datetime | None,
) -> Plan:
    """When to warn and to stop. A stop comes never sooner than `warn_minutes` after the warning was really given."""
    if idle_since is None or not idle_minutes:
        return Plan(None, None)
    stop = max([m for m in (idle_since + timedelta(minutes=idle_minutes), keep_until) if m is not None])
    ahead = timedelta(minutes=min(warn_minutes, idle_minutes))
    warn = max(idle_since, stop - ahead)
    if warned_at is not None and warned_at >= warn:
        stop = max(stop, warned_at + ahead)
    return Plan(warn, stop)
