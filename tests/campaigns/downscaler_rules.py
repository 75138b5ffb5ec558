"""How py-kube-downscaler decides whether a time lies in an `uptime` string: its rules, written anew from what its
documentation and behaviour say (https://github.com/caas-team/py-kube-downscaler, `helper.py`, commit 01600dc).

- A span is `Day-Day HH:MM-HH:MM Zone`; the zone may hold letters, `/` and `_` only, so `Etc/GMT+1` or
  `America/Port-au-Prince` raise an error and the workload is left alone.
- A time matches when its weekday (the calendar day on the zone's clock) is in the range and
  `from <= minute of the day < to`. A span whose end lies before its start can match nothing.
- There are no holidays, no orders of people (beside annotations edited by hand) and no pre-warm.

A grid is written down as its owner would: one span for each awake run, and a run over midnight as one overnight span.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date

_ZONE = re.compile(r"[a-zA-Z/_]+")


def rejects_zone(zone: str) -> bool:
    return _ZONE.fullmatch(zone) is None


def spans_as_written(rows: Sequence[str]) -> list[tuple[int, int, int]]:
    """`(weekday, from minute, to minute)` per awake run of the week; a run over one midnight ends before it starts."""
    cell = 1440 // len(rows[0])
    written: list[tuple[int, int, int]] = []
    for weekday, row in enumerate(rows):
        start = None
        for position, paint in enumerate(row + "0"):
            if paint == "1" and start is None:
                start = position
            elif paint == "0" and start is not None:
                written.append((weekday, start * cell, position * cell))
                start = None
    return _joined(written)


def _joined(runs: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """An evening until 24:00 and the next morning from 00:00 (ending by noon and before the evening's hour) are written
    as one overnight span, such as 20:00-02:00."""
    mornings = {weekday: end for weekday, start, end in runs if start == 0 and end <= 720}
    joined, used = [], set()
    for weekday, start, end in runs:
        following = (weekday + 1) % 7
        if end == 1440 and start > mornings.get(following, 1440):
            joined.append((weekday, start, mornings[following]))
            used.add((following, 0, mornings[following]))
        else:
            joined.append((weekday, start, end))
    return [run for run in joined if run not in used]


def matches(written: Sequence[tuple[int, int, int]], weekday: int, minute: int) -> bool:
    return any(day == weekday and start <= minute < end for day, start, end in written)


def wall_matches(rows: Sequence[str], dates: Sequence[date], minutes: Sequence[int]) -> bytes:
    """The matcher's answer for every minute given of every date, one byte each."""
    written = spans_as_written(rows)
    week = [bytes(matches(written, weekday, minute) for minute in minutes) for weekday in range(7)]
    return b"".join(week[day.weekday()] for day in dates)
