"""Which recommendations are acted on now: up at once, down at night, few at a time. Pure.

What is too small is raised as soon as it is seen. What is too large waits for the hours that the policy names, is made
smaller at most once a week, and not while something else of the cluster is still being watched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

MOST_AT_ONCE = 3
DOWN_EVERY = timedelta(days=7)
UP_EVERY = timedelta(hours=6)
MOST_A_DAY = 3
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Past:
    """What was done to a workload before: moments of its changes, newest first; until when it is held, and why."""

    changes: tuple[datetime, ...] = ()
    last_template_change: datetime | None = None
    held_until: datetime | None = None
    held_why: str = ""
    active: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """One change to be made now: by container the new requests."""

    row: Row
    wanted: Mapping[str, Mapping[str, int]]
    up: bool


def in_hours(local: datetime, start: int, end: int) -> bool:
    """Whether a moment is within the hours from `start` to `end`, over midnight too; equal hours are all day."""
    if start == end:
        return True
    return start <= local.hour < end if start < end else local.hour >= start or local.hour < end


def wanted(row: Row, *, ups: bool = True, downs: bool = True) -> dict[str, dict[str, int]]:
    """The new requests of a row's containers, only what grows, only what shrinks, or both."""
    found: dict[str, dict[str, int]] = {}
    for box in row["boxes"]:
        for name in ("cpu", "memory"):
            size = box[name]
            old, to = size["old"], size["to"]
            if to is None or to == old or size["hold"]:
                continue
            if (ups and to > (old or 0)) or (downs and old is not None and to < old):
                found.setdefault(box["name"], {})[name] = to
    return found


def orders(
    rows: Iterable[Row], past: Mapping[str, Past], now: datetime, *, night: bool, under_way: int
) -> tuple[list[Order], dict[str, str]]:
    """What is ordered now, and by key why the others wait."""
    found: list[Order] = []
    waiting: dict[str, str] = {}
    room = MOST_AT_ONCE - under_way
    for row in _ordered([row for row in rows if row["changes"]]):
        before = past.get(row["key"], Past())
        why = _not_now(before, now)
        ups, downs = wanted(row, downs=False), wanted(row, ups=False)
        up = bool(ups) and _rested(before.changes[:1], now, UP_EVERY)
        chosen = ups if up else downs
        if not why and not up:
            why = _no_down(downs, before, now, night=night)
        if not why and room <= 0:
            why = f"{MOST_AT_ONCE} changes are under way"
        if why:
            waiting[row["key"]] = why
            continue
        found.append(Order(row, chosen, up))
        room -= 1
    return found, waiting


def _ordered(rows: Sequence[Row]) -> list[Row]:
    """What was killed first, then what is too small, then what saves most."""
    return sorted(rows, key=lambda r: (not r["urgent"], not r["up"], -(r["saves"] or 0.0), r["key"]))


def _rested(changes: Sequence[datetime], now: datetime, pause: timedelta) -> bool:
    return not changes or now - changes[0] >= pause


def _not_now(before: Past, now: datetime) -> str:
    if before.active:
        return "it is being changed"
    if before.held_until is not None and before.held_until > now:
        return before.held_why or "it is held"
    if sum(now - at < timedelta(days=1) for at in before.changes) >= MOST_A_DAY:
        return f"it was changed {MOST_A_DAY} times within a day: somebody else may be changing it back"
    return ""


def _no_down(downs: Mapping[str, Any], before: Past, now: datetime, *, night: bool) -> str:
    if not downs:
        return "it was changed within six hours"
    last = (before.last_template_change,) if before.last_template_change else ()
    if not _rested(last, now, DOWN_EVERY):
        return "it was made smaller or larger within a week"
    return "" if night else "it waits for the hours in which the policy makes things smaller"
