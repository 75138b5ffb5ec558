"""The judge of the time oracle: evaluates a case step by step, by other means than the engine."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from hibernation.schedule import Action, DayKind, DayRule
from tests.campaigns.downscaler_rules import wall_matches
from tests.campaigns.time_cases import Case

ASLEEP, AWAKE, WARMING = 0, 1, 2
MARGIN_DAYS = 3


class WallTable:
    """A case's naive answer for every step of every wall-clock date around its year."""

    def __init__(self, case: Case, step: int) -> None:
        self.step, self.per_day = step, 1440 // step
        self.first = date(case.year, 1, 1) - timedelta(MARGIN_DAYS)
        self.dates = [self.first + timedelta(n) for n in range(366 + 2 * MARGIN_DAYS)]
        self.case = case
        self.minutes = range(0, 1440, step)
        self.tails = [self._tail_of(weekday) for weekday in range(7)]
        awake = bytes(self._awake(day, minute) for day in self.dates for minute in self.minutes)
        matches = wall_matches(case.rows, self.dates, self.minutes)
        ruled = bytes(self._ruled(day) for day in self.dates for _ in self.minutes)
        # One byte a step: bit 0 the judge, bit 1 the downscaler, bit 2 whether a date's rule plays a part.
        self.codes = bytes(a | m << 1 | r << 2 for a, m, r in zip(awake, matches, ruled, strict=True))

    def _cell(self, weekday: int, minute: int) -> bool:
        row = self.case.rows[weekday % 7]
        return row[minute * len(row) // 1440] == "1"

    def _tail_of(self, weekday: int) -> set[int]:
        """Minutes of a weekday that belong to the evening before."""
        if not self.case.nights or not self._cell(weekday - 1, 1439):
            return set()
        tail: set[int] = set()
        for minute in range(1440):
            if not self._cell(weekday, minute):
                return tail
            tail.add(minute)
            if minute >= 720:
                return set()  # reaches beyond noon: not a night
        return set()

    def _awake(self, day: date, minute: int) -> bool:
        """Ask whose minute this is, then what that date says of it."""
        rule, before = self._rule(day), self._rule(day - timedelta(1))
        weekday, nights = day.weekday(), self.case.nights
        spill = before is not None and before.kind is DayKind.CUSTOM and _within(before, minute + 1440)
        if not nights:
            return self._said(rule, weekday, minute) if rule else self._cell(weekday, minute) or spill
        own = (
            self._said(rule, weekday, minute)
            if rule
            else self._cell(weekday, minute) and minute not in self.tails[weekday]
        )
        if own or spill:
            return True
        evening_stays = before is None or before.kind is DayKind.SPRINT
        return evening_stays and minute in self.tails[weekday]

    def _said(self, rule: DayRule, weekday: int, minute: int) -> bool:
        if rule.kind is DayKind.CUSTOM:
            return _within(rule, minute)
        return rule.kind is DayKind.SPRINT

    def _rule(self, day: date) -> DayRule | None:
        rule = self.case.rules.get(day)
        return None if rule is None or rule.kind is DayKind.NORMAL else rule

    def _ruled(self, day: date) -> bool:
        return self._rule(day) is not None or self._rule(day - timedelta(1)) is not None


def _within(rule: DayRule, minute: int) -> bool:
    return any(start <= minute < end for start, end in rule.hours)


class Orders:
    """A case's orders evaluated step by step of one UTC year (with a margin ahead for the pre-warm)."""

    def __init__(self, case: Case, start: datetime, steps: int, step: int) -> None:
        self.forced: list[tuple[int, bool, datetime]] = []  # step, awake?, when it was ordered
        listed = [
            (o.by_person, o.made_at or o.start, place, o.start, o.expires, o.action is Action.WAKE)
            for place, o in enumerate(case.overrides)
        ]
        listed += [
            (True, s.made_at or s.sleep_at, place, s.sleep_at, s.until, True) for place, s in enumerate(case.snoozes)
        ]
        near: dict[int, list[tuple[bool, datetime, int, datetime, datetime, bool]]] = {}
        for order in listed:
            first = max(0, int((order[3] - start).total_seconds()) // (60 * step))
            last = min(steps, int((order[4] - start).total_seconds()) // (60 * step))
            for position in range(first, last):
                near.setdefault(position, []).append(order)
        for position in sorted(near):
            best = max(near[position], key=lambda order: order[:3])
            self.forced.append((position, best[5], best[1]))


def wall_index(zone: str, start: int, steps: int, step: int, first: date) -> list[int]:
    """For each UTC step, the position of its wall-clock date and time in a WallTable."""
    info, base, per_day = ZoneInfo(zone), first.toordinal(), 1440 // step
    index = []
    for second in range(start, start + steps * step * 60, step * 60):
        wall = datetime.fromtimestamp(second, info)
        index.append((wall.toordinal() - base) * per_day + (wall.hour * 60 + wall.minute) // step)
    return index


def changes_on_steps(zone: str, start: int, steps: int, step: int) -> bool:
    """Whether every change of the zone's offset falls on a step, so that a walk in steps misses no part of an hour."""
    if step == 1:
        return True
    info = ZoneInfo(zone)
    hours = range(start, start + steps * step * 60 + 86_400, 3600)
    offsets = [datetime.fromtimestamp(second, info).utcoffset() for second in hours]
    for second, before, after in zip(hours, offsets, offsets[1:], strict=False):
        if before == after:
            continue
        for minute in range(60):
            if datetime.fromtimestamp(second + minute * 60, info).utcoffset() != before:
                if minute % step:
                    return False
                break
    return True


def judge(case: Case, codes: bytes, orders: Orders, start: datetime, step: int, steps: int) -> bytes:
    """The state of every step: painted, then ordered, then warmed."""
    painted = codes.translate(_JUDGE_BIT)
    state = bytearray(painted)
    forced_asleep = bytearray(len(codes))
    for position, awake, _ in orders.forced:
        state[position] = AWAKE if awake else ASLEEP
        forced_asleep[position] = not awake
    ordered = {position: made for position, awake, made in orders.forced if awake}
    lead = case.lead_minutes // step
    rise = bytes(state).find(b"\x00\x01")
    while rise != -1:
        wake = rise + 1
        for position in range(rise, max(rise - lead, -1), -1):
            now = start + timedelta(minutes=position * step)
            known = bool(painted[wake]) or ordered[wake] <= now
            if state[position] != ASLEEP or forced_asleep[position] or not known:
                break
            state[position] = WARMING
        rise = state.find(b"\x00\x01", wake)
    return bytes(state[:steps])


_JUDGE_BIT = bytes(code & 1 for code in range(256))
MATCHER_BIT = bytes(code >> 1 & 1 for code in range(256))
RULE_BIT = bytes(code >> 2 & 1 for code in range(256))
