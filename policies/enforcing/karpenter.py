"""What a policy writes for Karpenter: its own NodePool and EC2NodeClass, and how nodes of every pool are disrupted. Pure.

Of pools that the policy did not make it sets `spec.disruption` and nothing else: their limits, requirements and weights stay
as they are. Karpenter reads cron in UTC, so budgets are turned from their zone; one that cannot be turned allows nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from clusters.sleeping.kinds import UNSET, Object, annotations_of, spec_of
from clusters.sleeping.objects import look, pointer, put
from clusters.sleeping.world import place_of
from policies.blueprint import Blueprint
from policies.document import Budget, Consolidation, Document
from policies.enums import Method, Reason
from policies.exchange import ANNOTATION, POOL_API, to_karpenter

POOL, CLASS = "NodePool", "EC2NodeClass"
DISRUPTION = ("spec", "disruption")
_REASONS = {Reason.EMPTY: "Empty", Reason.UNDERUTILIZED: "Underutilized", Reason.DRIFTED: "Drifted"}
_NOTHING = {"nodes": "0"}
_DAYS = {"SUN": 0, "MON": 1, "TUE": 2, "WED": 3, "THU": 4, "FRI": 5, "SAT": 6}
MINUTES_A_DAY = 1440


@dataclass(frozen=True, slots=True)
class Wanted:
    """One object as it is applied; `ours`: the policy makes it, and takes it away again."""

    kind: str
    name: str
    obj: Mapping[str, Any]
    ours: bool

    @property
    def title(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Change:
    """One field: what it is, and what it becomes (None: absent)."""

    path: str
    before: Any
    after: Any

    def values(self) -> dict[str, Any]:
        return {"path": self.path, "before": self.before, "after": self.after}


def wanted(
    document: Document,
    template: Blueprint | None,
    pools: Sequence[Object],
    *,
    cluster: str,
    zone: str,
    now: datetime,
    made: Sequence[str] = (),
) -> tuple[list[Wanted], list[str]]:
    """Everything the policy writes, and what it cannot. `made` are names of pools that it made before."""
    found: list[Wanted] = []
    notes: list[str] = []
    how = disruption(document.consolidation, zone, now, notes) if document.consolidation.enabled else None
    own = ""
    if document.autoscaling.enabled and template is not None:
        export = to_karpenter(template, cluster=cluster)
        own = str(export.pool["metadata"]["name"])
        taken = next((p for p in pools if place_of(p)[1] == own and own not in made), None)
        if taken is not None and ANNOTATION not in annotations_of(taken):
            notes.append(f"There is a NodePool {own} that this policy did not make: it keeps its requirements.")
            own = ""
        else:
            notes += export.notes
            pool = {**export.pool, "spec": {**export.pool["spec"], **({"disruption": how} if how else {})}}
            found += [
                Wanted(CLASS, str(export.node_class["metadata"]["name"]), export.node_class, True),
                Wanted(POOL, own, pool, True),
            ]
    others = [p for p in pools if place_of(p)[1] != own and place_of(p)[1] not in made]
    for pool in others if how else ():
        name = place_of(pool)[1]
        if "replicas" in spec_of(pool):
            notes.append(f"{name} has a fixed number of nodes, which Karpenter does not consolidate.")
            continue
        obj = {"apiVersion": POOL_API, "kind": POOL, "metadata": {"name": name}, "spec": {"disruption": how}}
        found.append(Wanted(POOL, name, obj, False))
    if own and others:
        names = ", ".join(sorted(place_of(p)[1] for p in others)[:5])
        notes.append(f"Karpenter may still launch from {names}: the template binds the pool {own} alone.")
    return found, notes


def disruption(card: Consolidation, zone: str, now: datetime, notes: list[str]) -> dict[str, Any]:
    """`spec.disruption` of a NodePool."""
    empty = card.method is Method.DELETE_EMPTY
    return {
        "consolidationPolicy": "WhenEmpty" if empty else "WhenEmptyOrUnderutilized",
        "consolidateAfter": f"{card.stabilization_minutes}m",
        "budgets": [_budget(b, card.zone or zone, now, notes) for b in card.budgets],
    }


def _budget(budget: Budget, zone: str, now: datetime, notes: list[str]) -> dict[str, Any]:
    reasons = {"reasons": [_REASONS[r] for r in budget.reasons]} if budget.reasons else {}
    if not budget.schedule:
        return {"nodes": budget.nodes, **reasons}
    turned = to_utc(budget.schedule, zone, now)
    if turned is None or budget.minutes <= 0:
        notes.append(f"{budget.schedule!r} in {zone} cannot be said in UTC, so nothing may be disrupted at all.")
        return {**_NOTHING, **reasons}
    return {"nodes": budget.nodes, "schedule": turned, "duration": f"{budget.minutes}m", **reasons}


def to_utc(schedule: str, zone: str, now: datetime) -> str | None:
    """A cron line of a zone's wall clock as it reads in UTC today; None when that cannot be said in one line.

    It changes with the clocks: what is written is looked at again and again, and written anew then.
    """
    try:
        offset = now.astimezone(ZoneInfo(zone)).utcoffset() or timedelta(0)
    except (ValueError, KeyError, OSError):
        return None
    shift = -int(offset.total_seconds() // 60)
    fields = schedule.split()
    if shift == 0:
        return schedule
    if len(fields) != 5:
        return None
    minute, hour, day, month, weekday = fields
    if hour == "*":
        return schedule if shift % 60 == 0 and (day, month, weekday) == ("*", "*", "*") else None
    minutes, hours = _numbers(minute, 60), _numbers(hour, 24)
    if minutes is None or hours is None:
        return None
    moved = {
        ((h * 60 + m + shift) // MINUTES_A_DAY, (h * 60 + m + shift) % MINUTES_A_DAY) for h in hours for m in minutes
    }
    days = {step for step, _ in moved}
    new_hours = sorted({at // 60 for _, at in moved})
    new_minutes = sorted({at % 60 for _, at in moved})
    if len(days) != 1 or len(new_hours) * len(new_minutes) != len(moved):
        return schedule_every_day(new_hours, new_minutes, moved, (day, month, weekday))
    step = days.pop()
    if step and (day, month) != ("*", "*"):
        return None
    if step and weekday != "*":
        known = _weekdays(weekday)
        if known is None:
            return None
        weekday = ",".join(map(str, sorted({(d + step) % 7 for d in known})))
    return f"{_list(new_minutes)} {_list(new_hours)} {day} {month} {weekday}"


def schedule_every_day(
    hours: Sequence[int], minutes: Sequence[int], moved: set[tuple[int, int]], rest: tuple[str, str, str]
) -> str | None:
    """Times that fall on two days in UTC can be said when every day is the same."""
    if rest == ("*", "*", "*") and len(hours) * len(minutes) == len({at for _, at in moved}):
        return f"{_list(minutes)} {_list(hours)} * * *"
    return None


def _list(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def _numbers(text: str, below: int) -> list[int] | None:
    """The numbers that a cron field names; None for what is not a plain list, range or step."""
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        low, _, high = span.partition("-")
        try:
            begin = 0 if span == "*" else int(low)
            end = below - 1 if span == "*" or (step and not high) else int(high or low)
            found.update(range(begin, end + 1, int(step or 1)))
        except ValueError:
            return None
    return sorted(found) if found and max(found) < below else None


def _weekdays(text: str) -> list[int] | None:
    plain = text.upper()
    for word, number in _DAYS.items():
        plain = plain.replace(word, str(number))
    found = _numbers(plain, 8)
    return None if found is None else sorted({day % 7 for day in found})


# what changes, and how it is given back


def fields(obj: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Every field that an apply sets, lists whole, without what names the object."""
    found = []
    for key, value in obj.items():
        spot = (*path, key)
        if spot in (("apiVersion",), ("kind",), ("metadata", "name")):
            continue
        if isinstance(value, dict) and value:
            found += fields(value, spot)
        else:
            found.append((spot, value))
    return found


def diff(old: Object | None, new: Object, asked: Mapping[str, Any]) -> list[Change]:
    """What an apply would change of what it asks for."""
    found = []
    for path, _ in fields(asked):
        before = look(old, path) if old is not None else UNSET
        after = look(new, path)
        if before != after:
            found.append(Change(pointer(path), None if before is UNSET else before, None if after is UNSET else after))
    return found


def remember(old: Object | None, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The former values of the fields that are asked for, by pointer; what was absent is left out."""
    if old is None:
        return {}
    held = {pointer(path): look(old, path) for path, _ in fields(asked)}
    return {path: value for path, value in held.items() if value is not UNSET}


def given_back(now: Object, asked: Mapping[str, Any], before: Mapping[str, Any]) -> tuple[Object, list[str]]:
    """The object as it was, and the fields that somebody else has changed since, which stay as they are."""
    import copy

    new, kept = copy.deepcopy(now), []
    for path, value in fields(asked):
        if look(now, path) != value:
            kept.append(pointer(path))
            continue
        put(new, path, before.get(pointer(path), UNSET))
    return new, kept
