"""Wall clocks: the assumption that the engine rests on, and instants of odd wall times."""

from __future__ import annotations

import importlib.resources
import struct
import zoneinfo
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from hibernation.schedule.zones import DAY, PROBE, first_instant, seconds, stretches, wall_second, zone_names

pytestmark = pytest.mark.unit
SINCE = int(datetime(1989, 12, 1, tzinfo=UTC).timestamp())


def compiled(name: str) -> bytes:
    for folder in zoneinfo.TZPATH:
        path = Path(folder) / name
        if path.is_file():
            return path.read_bytes()
    return importlib.resources.files("tzdata.zoneinfo").joinpath(*name.split("/")).read_bytes()


def listed_changes(data: bytes) -> list[tuple[int, int]]:
    """Instants and new offsets in the 64-bit part of a compiled zone file (RFC 8536)."""

    def counts(at: int) -> tuple[int, ...]:
        return struct.unpack(">6l", data[at + 20 : at + 44])

    isutc, isstd, leap, times, types, chars = counts(0)
    second = 44 + times * 5 + types * 6 + chars + leap * 8 + isstd + isutc
    _, _, _, times, types, _ = counts(second)
    body = second + 44
    instants = struct.unpack(f">{times}q", data[body : body + times * 8])
    kinds = data[body + times * 8 : body + times * 9]
    start = body + times * 9
    offsets = [struct.unpack(">l", data[start + n * 6 : start + n * 6 + 4])[0] for n in range(types)]
    return [
        (-(1 << 60), offsets[0]),
        *((instant, offsets[kind]) for instant, kind in zip(instants, kinds, strict=True)),
    ]


def test_no_zone_changes_its_offset_twice_within_a_probe():
    """`stretches` finds every change only because of this; new zone data that breaks it must fail here."""
    assert len(zone_names()) > 500
    for name in zone_names():
        changes = [change for change in listed_changes(compiled(name)) if change[0] > SINCE]
        real = [change for before, change in pairwise(changes) if change[1] != before[1]]
        gaps = [after[0] - before[0] for before, after in pairwise(real)]
        assert min(gaps, default=10 * PROBE) > 2 * PROBE, name


@pytest.mark.parametrize(
    "name",
    ["Europe/Berlin", "Africa/Casablanca", "Pacific/Apia", "America/St_Johns", "Asia/Pyongyang", "Antarctica/Troll"],
)
def test_stretches_are_the_changes_that_the_zone_file_lists(name):
    start, end = SINCE, int(datetime(2037, 1, 1, tzinfo=UTC).timestamp())
    listed = []
    offset = None
    for instant, new in listed_changes(compiled(name)):
        if new != offset and start < instant < end:
            listed.append((instant, new))
        offset = new
    found = stretches(name, start, end)
    assert [(begin, new) for begin, _, new in found[1:]] == listed
    assert (found[0][0], found[-1][1]) == (start, end)
    assert all(before[1] == after[0] for before, after in pairwise(found))


def test_first_instant_in_gap_fold_and_skipped_date():
    berlin = ZoneInfo("Europe/Berlin")

    def at(name: str, day: datetime) -> datetime:
        return datetime.fromtimestamp(first_instant(name, wall_second(day.date(), day.hour * 60 + day.minute)), UTC)

    gap = datetime(2025, 3, 30, 2, 30, tzinfo=berlin)
    assert at("Europe/Berlin", gap) == datetime(2025, 3, 30, 1, tzinfo=UTC)
    fold = datetime(2025, 10, 26, 2, 30, tzinfo=berlin)
    assert at("Europe/Berlin", fold) == datetime(2025, 10, 26, 0, 30, tzinfo=UTC)
    skipped = datetime(2011, 12, 30, 12, tzinfo=UTC)
    assert at("Pacific/Apia", skipped) == datetime(2011, 12, 30, 10, tzinfo=UTC)
    plain = datetime(2025, 6, 1, 12, tzinfo=berlin)
    assert at("Europe/Berlin", plain) == plain


def test_seconds_are_floored_and_exact_far_away():
    assert seconds(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == -1
    assert seconds(datetime(2100, 1, 1, tzinfo=UTC)) == 4_102_444_800
    assert seconds(datetime(1970, 1, 2, tzinfo=ZoneInfo("Asia/Kathmandu"))) == DAY - int(
        timedelta(hours=5, minutes=30).total_seconds()
    )
