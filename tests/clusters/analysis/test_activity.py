"""The heatmap: zones, clock changes, thresholds, and what a grid learned from real teams would have cost them."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusters.analysis.activity import Activity, ActivitySample, activity
from hibernation.schedule import Grid
from tests.clusters.analysis.real_data import rows

pytestmark = pytest.mark.unit
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def week_of(busy, *, weeks: int = 4, start: datetime = MONDAY, zone=UTC, step: int = 30) -> list[ActivitySample]:
    """Samples every half hour; `busy(local)` says whether the cluster is used then."""
    samples = []
    for n in range(weeks * 7 * 24 * 60 // step):
        at = start + timedelta(minutes=step * n)
        awake = busy(at.astimezone(zone))
        samples.append(ActivitySample(at, 50.0 if awake else 0.0, 0.6 if awake else 0.02))
    return samples


def office(local: datetime) -> bool:
    return local.weekday() < 5 and 8 <= local.hour < 18


OFFICE_GRID = ("0" * 7 + "1" * 12 + "0" * 5,) * 5 + ("0" * 24,) * 2


def test_office_hours_are_found():
    result = activity(week_of(office), UTC)
    assert result.grid == OFFICE_GRID
    assert Grid(result.grid).awake_hours() == 60
    assert result.blue_hours == 108
    assert result.monthly_savings(Decimal(2)) == Decimal("939.21")  # 2 x 108 x 4.348
    assert result.monthly_savings(None) is None
    assert {(cell.heat, cell.busy) for cell in result.cells if cell.blue} == {(0.0, 0)}
    assert {(cell.heat, cell.busy) for cell in result.cells if not cell.blue} == {(1.0, 4), (0.0, 0)}


@pytest.mark.parametrize("start", [datetime(2026, 3, 16, tzinfo=UTC), datetime(2026, 10, 12, tzinfo=UTC)])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])
def test_clock_changes_do_not_shift_the_grid(zone, start):
    """Four weeks over a change: the people's wall clock stays, UTC moves."""
    local = ZoneInfo(zone)
    result = activity(week_of(office, start=start, zone=local), local)
    assert result.grid == OFFICE_GRID
    in_utc = activity(week_of(office, start=start, zone=local), UTC)
    assert (in_utc.grid != OFFICE_GRID) or zone == "UTC"


def test_a_repeated_hour_is_observed_twice_and_a_skipped_one_not():
    autumn = activity(week_of(office, start=datetime(2026, 10, 12, tzinfo=UTC), zone=BERLIN), BERLIN)
    spring = activity(week_of(office, start=datetime(2026, 3, 16, tzinfo=UTC), zone=BERLIN), BERLIN)
    at = 6 * 24 + 2  # Sunday 02:00
    assert (autumn.cells[at].observed, spring.cells[at].observed) == (5, 3)


def test_not_enough_data_says_how_much_there_is():
    result = activity(week_of(office)[: 5 * 48], UTC)
    assert (result.grid, result.blue_hours, result.message) == (None, 0, "not enough data yet (have 5 days, need 14)")
    assert result.monthly_savings(Decimal(9)) is None
    assert not any(cell.blue for cell in result.cells)
    assert activity([], UTC).days == 0
    empty = activity([ActivitySample(s.at) for s in week_of(office)], UTC)
    assert empty.grid is None


def test_one_signal_is_enough():
    cpu_only = [ActivitySample(s.at, cpu=s.cpu) for s in week_of(office)]
    api_only = [ActivitySample(s.at, s.api_requests) for s in week_of(office)]
    assert activity(cpu_only, UTC).grid == activity(api_only, UTC).grid == OFFICE_GRID


def test_either_signal_keeps_an_hour_awake():
    """A nightly build burns CPU without anybody calling the API."""
    samples = [ActivitySample(s.at, s.api_requests, 0.7 if s.at.hour == 2 else s.cpu) for s in week_of(office)]
    assert activity(samples, UTC).grid[6] == "0111" + "0" * 20


def test_a_flat_signal_has_no_blue_zone_unless_it_is_almost_nothing():
    flat = [ActivitySample(s.at, cpu=0.4 + 0.01 * (s.at.hour % 3)) for s in week_of(office)]
    result = activity(flat, UTC)
    assert (result.blue_hours, result.message) == (
        0,
        "activity is the same around the clock: no hour stands out as idle",
    )
    dead = activity([ActivitySample(s.at, cpu=0.01) for s in week_of(office)], UTC)
    assert dead.blue_hours == 168


def test_one_busy_weekend_keeps_those_hours_awake():
    def hackathon(local):
        return office(local) or (local.date() == (MONDAY + timedelta(days=5)).date() and 10 <= local.hour < 14)

    assert activity(week_of(hackathon, weeks=12), UTC).grid[5] == "0" * 9 + "1" * 6 + "0" * 9


def test_short_lulls_stay_awake_and_the_week_is_a_circle():
    def lunch(local):
        return office(local) and local.hour != 12

    assert activity(week_of(lunch), UTC).grid == OFFICE_GRID

    def around_midnight(local):
        return not (local.weekday() == 6 and local.hour >= 21) and not (local.weekday() == 0 and local.hour < 2)

    grid = activity(week_of(around_midnight), UTC).grid
    assert (grid[6][-3:], grid[0][:2]) == ("100", "01")


def test_hours_without_samples_stay_awake():
    samples = [s for s in week_of(office) if s.at.weekday() != 6]
    result = activity(samples, UTC)
    assert result.grid[6] == "1" * 24
    assert result.cells[-1].heat is None


def test_naive_moments_are_refused():
    with pytest.raises(ValueError, match="time zone"):
        activity([ActivitySample(datetime(2026, 1, 1), 1.0)], UTC)  # noqa: DTZ001


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.booleans(), min_size=24, max_size=24), min_size=7, max_size=7),
    st.sampled_from(("UTC", "Asia/Tokyo")),
)
def test_any_painted_week_is_learned(week, zone):
    """What runs by a grid gives that grid back, an hour wider on both sides, less idle runs under three hours."""
    local = ZoneInfo(zone)
    start = datetime(2026, 1, 5, tzinfo=local).astimezone(UTC)
    result = activity(week_of(lambda at: week[at.weekday()][at.hour], start=start, zone=local, weeks=3, step=60), local)
    flat = [cell for day in week for cell in day]
    if sum(flat) < 0.06 * 168 or all(flat):
        return  # hardly ever or always busy: the percentiles see no contrast in it
    wide = [flat[n - 1] or flat[n] or flat[(n + 1) % 168] for n in range(168)]
    # An hour sleeps when it lies in some window of three hours without activity in or next to it.
    asleep = {(n + k) % 168 for n in range(168) for k in range(3) if not any(wide[(n + m) % 168] for m in range(3))}
    assert "".join(result.grid) == "".join("0" if n in asleep else "1" for n in range(168))


def test_back_test_on_real_teams():
    """Learn from twelve weeks of commits, then count the commits of the next four that the blue hours would have hit.

    Commits stand for API activity, on the wall clock that most of them were made on. The module's text quotes these
    figures.
    """
    by_repo: dict[str, list[tuple[datetime, int]]] = {}
    for row in rows("team_activity_commits/dev/commits.csv.gz"):
        by_repo.setdefault(row["repo"], []).append((datetime.fromisoformat(row["utc"]), int(row["utc_offset_min"])))
    hits, blue = [], []
    for commits in by_repo.values():
        commits.sort()
        start = commits[0][0].replace(hour=0, minute=0, second=0)
        while start + timedelta(weeks=16) <= commits[-1][0]:
            middle = start + timedelta(weeks=12)
            learning = [(at, offset) for at, offset in commits if start <= at < middle]
            if len(learning) >= 12 * 16:
                zone = timezone(timedelta(minutes=Counter(offset for _, offset in learning).most_common(1)[0][0]))
                learned = _learn([at for at, _ in learning], start, middle, zone)
                later = [at.astimezone(zone) for at, _ in commits if middle <= at < middle + timedelta(weeks=4)]
                hits += [learned.grid[at.weekday()][at.hour] == "0" for at in later]
                blue.append(learned.blue_hours)
            start += timedelta(weeks=8)
    assert len(blue) == 80
    assert sum(hits) / len(hits) < 0.04
    assert 55 < sum(blue) / len(blue) < 65


def _learn(times: list[datetime], start: datetime, end: datetime, zone: timezone) -> Activity:
    counts = Counter((at - start) // timedelta(hours=1) for at in times)
    hours = (end - start) // timedelta(hours=1)
    return activity([ActivitySample(start + timedelta(hours=n), float(counts[n])) for n in range(hours)], zone)
