"""Import of downscaler strings."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest

from hibernation.schedule import ALWAYS_ASLEEP, ALWAYS_AWAKE, InvalidSchedule, from_uptime_string

pytestmark = pytest.mark.unit
REFERENCE = (
    Path(__file__).resolve().parents[3]
    / "shared"
    / "data"
    / "schedule_strings"
    / "ref"
    / "downscaler_annotations.csv.gz"
)


def paint(days, start, end, base=ALWAYS_ASLEEP, *, awake=True):
    return base.paint(days, start, end, awake=awake)


@pytest.mark.parametrize(
    ("kind", "text", "zone", "grid"),
    [
        ("uptime", "Mon-Fri 08:00-20:00 Europe/Berlin", "Europe/Berlin", paint(range(5), 480, 1200)),
        ("uptime", "mon-FRI 8:00-20:00 Etc/GMT+1", "Etc/GMT+1", paint(range(5), 480, 1200)),
        ("uptime", "Sun-Thu 08:00-20:00 Asia/Jerusalem", "Asia/Jerusalem", paint([6, 0, 1, 2, 3], 480, 1200)),
        ("uptime", "Saturday 09:00-14:00 Asia/Kolkata", "Asia/Kolkata", paint([5], 540, 840)),
        (
            "uptime",
            "Mon-Fri 08:30-21:00 Asia/Kolkata,Sat 09:00-14:00 Asia/Kolkata",
            "Asia/Kolkata",
            paint([5], 540, 840, paint(range(5), 510, 1260)),
        ),
        ("uptime", "Mon-Sun 08:00-01:00 Europe/Stockholm", "Europe/Stockholm", paint(range(7), 480, 1500)),
        ("uptime", "Mon-Fri 08:00-00:00 UTC", "UTC", paint(range(5), 480, 1440)),
        ("downtime", "Mon-Fri 19:00-08:00 UTC", "UTC", paint(range(5), 1140, 1920, ALWAYS_AWAKE, awake=False)),
        ("downtime", "Mon-Sun 00:00-24:00 Europe/Berlin", "Europe/Berlin", ALWAYS_ASLEEP),
        (
            "downtime",
            "Mon-Fri 20:00-08:00 UTC, Sat-Sun 00:00-24:00 UTC",
            "UTC",
            paint([5, 6], 0, 1440, paint(range(5), 1200, 1920, ALWAYS_AWAKE, awake=False), awake=False),
        ),
        ("uptime", "always", "UTC", ALWAYS_AWAKE),
        ("uptime", "never", "UTC", ALWAYS_ASLEEP),
        ("downtime", "Always", "UTC", ALWAYS_ASLEEP),
        ("downtime", "never", "UTC", ALWAYS_AWAKE),
    ],
)
def test_what_a_string_means(kind, text, zone, grid):
    imported = from_uptime_string(text, kind=kind)
    assert (imported.zone, imported.grid) == (zone, grid)


def test_friday_night_ends_on_saturday_morning():
    grid = from_uptime_string("Mon-Fri 19:00-08:00 UTC", kind="downtime").grid
    assert [
        grid.awake_at(4, 18 * 60),
        grid.awake_at(4, 19 * 60),
        grid.awake_at(5, 7 * 60),
        grid.awake_at(5, 8 * 60),
    ] == [True, False, False, True]
    assert grid.awake_at(0, 3 * 60), "Monday before 08:00 belongs to Sunday's night, which is not listed"


@pytest.mark.parametrize(
    ("kind", "awake"),
    [("uptime", (450, 1110)), ("downtime", (450, 1110))],
)
def test_odd_minutes_are_rounded_towards_awake_and_noted(kind, awake):
    text = (
        "Mon-Sun 07:55-18:05 Europe/London"
        if kind == "uptime"
        else "Mon-Sun 00:00-07:55 Europe/London,Mon-Sun 18:05-24:00 Europe/London"
    )
    imported = from_uptime_string(text, kind=kind)
    assert imported.grid == paint(range(7), *awake)
    assert imported.notes == (
        "07:55 was rounded to 07:30: cells are half hours.",
        "18:05 was rounded to 18:30: cells are half hours.",
    )


def test_notes_tell_of_nights_and_of_what_was_left_out():
    assert from_uptime_string("Mon-Fri 22:00-02:00 UTC").notes == (
        "22:00-02:00 crosses midnight: each night belongs to the day on which it starts.",
    )
    short = from_uptime_string("Mon 10:05-10:20 UTC", kind="downtime")
    assert short.grid == ALWAYS_AWAKE
    assert short.notes[-1] == "10:05-10:20 is shorter than a cell and was left out."
    late = from_uptime_string("Mon 23:40-02:10 UTC", kind="downtime")
    assert late.grid == paint([1], 0, 120, ALWAYS_AWAKE, awake=False)


def test_a_string_without_a_zone_takes_the_default():
    assert from_uptime_string("Mon-Fri 08:00-20:00", default_zone="Asia/Tokyo").zone == "Asia/Tokyo"
    with pytest.raises(InvalidSchedule, match="names no time zone"):
        from_uptime_string("Mon-Fri 08:00-20:00")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        (" , ", "empty"),
        ("Mon-Fri", "Cannot read 'Mon-Fri'"),
        ("Mon-Fri 08:00-20:00 UTC; Sat 09:00-10:00 UTC", "Cannot read"),
        ("Mon-Fry 08:00-20:00 UTC", "'Fry' in"),
        ("Mon-Fri 08:00-25:00 UTC", "25:00 in .* is not a time of day"),
        ("Mon-Fri 08:00-24:30 UTC", "24:30"),
        ("Mon-Fri 08:61-20:00 UTC", "08:61"),
        ("Mon-Fri 24:00-08:00 UTC", "starts at 24:00"),
        ("Sat-Sun 03:00-03:00 UTC", "starts and ends at the same time"),
        ("Mon-Fri 08:00-20:00 Europe/Berln", "Did you mean Europe/Berlin"),
        ("Mon-Fri 08:00-20:00 UTC,Sat 08:00-20:00 Asia/Tokyo", "Asia/Tokyo and UTC; make two schedules"),
        ("2019-01-01T00:00:00+00:00-2019-01-02T12:34:56+00:00", "into the calendar"),
    ],
)
def test_what_cannot_be_read_is_named(text, words):
    with pytest.raises(InvalidSchedule, match=words):
        from_uptime_string(text)


def test_every_string_found_in_the_wild():
    if not REFERENCE.exists():
        pytest.skip(f"the reference strings {REFERENCE} are not here")
    with gzip.open(REFERENCE, "rt", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    hours = [from_uptime_string(row["value"], kind=row["kind"]).grid.awake_hours() for row in rows]
    assert hours == [60, 119, 60, 60, 50, 0, 67.5, 50, 77, 108, 63, 77, 68]
