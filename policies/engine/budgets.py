"""Disruption budgets of nodes: how many may be taken away at once, at which times. What cannot be read allows nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from policies.enums import Reason


@dataclass(frozen=True, slots=True)
class NodeBudget:
    """At most `nodes` ("10%", rounded up, or "3") at once; with a schedule only for `duration` from each of its times.
    `reasons` are those that it speaks of, none means all."""

    nodes: str
    schedule: str = ""
    duration: timedelta | None = None
    reasons: frozenset[Reason] = frozenset()

    @property
    def words(self) -> str:
        return f"{self.nodes} nodes" + (f" from {self.schedule!r} for {self.duration}" if self.schedule else "")


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many nodes may be taken away now, by which budget. `unreadable` says which budget could not be read."""

    nodes: int
    because: str = ""
    unreadable: str = ""


class _Unreadable(Exception):
    pass


def allowance(
    budgets: Iterable[NodeBudget],
    now: datetime,
    zone: str,
    *,
    total: int,
    leaving: int = 0,
    not_ready: int = 0,
    reason: Reason | None = None,
) -> Allowance:
    """What the budgets in force leave: the strictest counts. `leaving` and `not_ready` nodes use it up already.

    A budget that cannot be read allows nothing, whatever it speaks of. Without a `reason` every budget counts.
    """
    best = total
    because = ""
    for budget in budgets:
        try:
            in_force = _in_force(budget, now, zone)
            most = _count(budget.nodes, total)
        except _Unreadable as bad:
            return Allowance(0, budget.words, f"{budget.words}: {bad}")
        concerned = reason is None or not budget.reasons or reason in budget.reasons
        if in_force and concerned and most < best:
            best, because = most, budget.words
    return Allowance(max(0, best - leaving - not_ready), because)


def _in_force(budget: NodeBudget, now: datetime, zone: str) -> bool:
    """Whether a time of the schedule lies within the last `duration`. The schedule is read in the zone's wall clock."""
    if not budget.schedule:
        if budget.duration is not None:
            raise _Unreadable("a duration needs a schedule")
        return True
    if budget.duration is None or budget.duration <= timedelta(0):
        raise _Unreadable("a schedule needs a duration")
    try:
        where = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise _Unreadable(f"{zone[:60]!r} is not a time zone") from None
    now = now.astimezone(UTC)
    try:
        begins = (now - budget.duration).astimezone(where)
        return next(CronSim(budget.schedule, begins)).astimezone(UTC) <= now
    except CronSimError as bad:
        raise _Unreadable(str(bad)) from None
    except StopIteration:
        raise _Unreadable("this never happens") from None
    except OverflowError:
        raise _Unreadable("the duration is too long") from None


def _count(nodes: str, total: int) -> int:
    text = nodes.strip()
    digits = text.removesuffix("%")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 9):
        raise _Unreadable(f"{nodes[:60]!r} is neither a number nor a percentage")
    if text.endswith("%"):
        if int(digits) > 100:
            raise _Unreadable("more than 100 %")
        return -(-int(digits) * total // 100)
    return int(digits)
