"""Roll-ups are sums of intervals: whatever happened in whatever order, a reading through them equals one without."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import clock
from costs import rollups, services, totals
from costs.models import Interval, LedgerSlot
from costs.totals import cover
from tests.costs.conftest import DAY, observe, price
from tests.personas import Persona

pytestmark = pytest.mark.django_db
NOW = DAY + timedelta(days=3, hours=17, minutes=20)


def build_all(persona: Persona) -> None:
    with clock.at(NOW):
        rollups.make_slots(persona.organization)
    with clock.at(NOW + timedelta(seconds=61)):
        for slot_id in rollups._due(persona.organization.id):
            assert rollups.build(slot_id)


def plain(persona: Persona, start: object, end: object) -> totals.Totals:
    rows = Interval.objects.for_org(persona.organization)
    return totals.add_up(totals.facts_of(rows, start, end), start, end)


def same(one: totals.Totals, other: totals.Totals) -> bool:
    for mine, theirs in ((one.shares, other.shares), (one.things, other.things)):
        assert set(mine) == set(theirs)
        for key, line in mine.items():
            want = theirs[key]
            assert (line.awake, line.asleep, line.intervals, line.unpriced) == (
                want.awake,
                want.asleep,
                want.intervals,
                want.unpriced,
            ), key
            assert abs(line.spent - want.spent) < Decimal("1e-8")
            assert abs(line.saved - want.saved) < Decimal("1e-8")
    return True


HISTORY = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.floats(-20, 89),
        st.sampled_from(["awake", "asleep", "gone"]),
        st.sampled_from(["", "Comp"]),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(HISTORY, HISTORY, st.integers(-30, 80), st.integers(1, 90))
def test_reading_through_roll_ups_equals_adding_up(
    alice: Persona, early: list, late: list, begin: int, length: int
) -> None:
    """Events before the roll-ups were built, and late ones after, that outdate what they touch."""
    Interval.objects.for_org(alice.organization).delete()
    rollups.forget(alice.organization.id)
    machines = [uuid4() for _ in range(3)]
    with clock.at(NOW):
        for n, machine in enumerate(machines[:2]):
            price(alice, machine, str(n + 1), "0.1")
            price(alice, machine, "0.5", "0.2", hour=30)
        for n, (which, hour, phase, team) in enumerate(early):
            observe(alice, machines[which], "m", hour + n / 1e5, phase, team=team, cause="idle")
    build_all(alice)
    start, end = DAY + timedelta(hours=begin), DAY + timedelta(hours=begin + length)
    with clock.at(NOW + timedelta(minutes=2)):
        end = min(end, clock.now())
        assert same(totals.between(alice.actor, start, end), plain(alice, start, end))
        for n, (which, hour, phase, team) in enumerate(late):
            observe(alice, machines[which], "m", hour + n / 1e5 + 5e-6, phase, team=team, cause="hand")
        assert same(totals.between(alice.actor, start, end), plain(alice, start, end))
    build_all(alice)
    with clock.at(NOW + timedelta(minutes=4)):
        assert not rollups.stale(alice.organization.id)
        assert same(totals.between(alice.actor, start, end), plain(alice, start, end))


def test_a_change_while_a_slot_is_summed_is_not_lost(alice: Persona, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = uuid4()
    with clock.at(NOW):
        price(alice, machine, "2")
        observe(alice, machine, "m", 10, "awake")
        rollups.make_slots(alice.organization)
    real = totals.add_up

    def and_then_somebody_writes(*args: object) -> totals.Totals:
        found = real(*args)
        monkeypatch.setattr(totals, "add_up", real)
        with clock.at(NOW + timedelta(seconds=70)):
            observe(alice, machine, "m", 12, "asleep")
        return found

    monkeypatch.setattr(totals, "add_up", and_then_somebody_writes)
    slot = LedgerSlot.objects.for_org(alice.organization).order_by("start").first()
    assert slot is not None
    with clock.at(NOW + timedelta(seconds=61)):
        assert rollups.build(slot.id) is False
    with clock.at(NOW + timedelta(seconds=80)):
        assert totals.between(alice.actor, DAY, DAY + timedelta(days=1)).spent == 4
        assert rollups.build(slot.id) is True
        assert totals.between(alice.actor, DAY, DAY + timedelta(days=1)).spent == 4


def test_the_usual_event_outdates_nothing(alice: Persona) -> None:
    machine = uuid4()
    with clock.at(NOW):
        price(alice, machine, "2")
        observe(alice, machine, "m", 10, "awake")
    build_all(alice)
    with clock.at(NOW + timedelta(minutes=5)):
        services.record_event(
            actor=alice.actor,
            organization_id=alice.organization.id,
            resource_kind="lamp",
            resource_id=machine,
            resource_label="m",
            phase="asleep",
            at=clock.now(),
            key="now",
            source="t",
        )
        assert not rollups.stale(alice.organization.id)
        observe(alice, machine, "m", 40, "asleep")
        assert len(list(rollups.stale(alice.organization.id))) == 5  # the interval that began at ten became shorter


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12)), max_size=12), st.integers(0, 20), st.integers(1, 30))
def test_a_cover_has_neither_gaps_nor_overlaps(slots: list, begin: int, length: int) -> None:
    hour = timedelta(hours=1)
    start, until = DAY + begin * hour, DAY + (begin + length) * hour
    told = [(n, DAY + a * hour, DAY + (a + size) * hour) for n, (a, size) in enumerate(slots)]
    usable = [s for s in told if s[1] >= start and s[2] <= until]
    found = cover(start, until, usable)
    edges = [start, *(right for _, right, _ in found)]
    assert [left for left, _, _ in found] == edges[:-1]
    assert edges[-1] == until
    by_id = {n: (a, b) for n, a, b in told}
    for left, right, ids in found:
        if ids:
            assert by_id[ids[0]][0] == left
            assert by_id[ids[-1]][1] == right
            assert all(by_id[a][1] == by_id[b][0] for a, b in pairwise(ids))


@pytest.mark.parametrize("micro", [0, 1, 499_999, 500_000, 999_499, 999_500, 999_999])
def test_moments_are_read_to_the_microsecond(alice: Persona, micro: int) -> None:
    at = datetime(2026, 3, 29, 0, 59, 59, micro, tzinfo=UTC)
    row = Interval(
        organization=alice.organization,
        resource_kind="cloud_node",
        resource_id=UUID(int=7),
        resource_label="n",
        phase="awake",
        started_at=at,
        ended_at=at + timedelta(microseconds=1),
        price=Decimal(1),
        awake_price=Decimal(1),
    )
    row.save(force_insert=True)
    (fact,) = totals.facts_of(Interval.objects.for_org(alice.organization), at, at + timedelta(days=1))
    assert (fact[7], fact[8]) == (totals.micros_of(at), totals.micros_of(at) + 1)


def test_a_month_is_summed_from_its_days_and_only_from_such_as_may_be_read(alice: Persona) -> None:
    """Sums of the days 18 to 20 March are one; when a day is outdated the month is too, and waits for it."""
    machine = uuid4()
    with clock.at(NOW):
        price(alice, machine, "2", "0.5")
        observe(alice, machine, "m", 10, "awake")
        observe(alice, machine, "m", 30, "asleep")
    build_all(alice)
    start, end = DAY, DAY + timedelta(days=3)
    month = LedgerSlot.objects.for_org(alice.organization).get(grain=rollups.SPAN)
    assert (month.start, month.end) == (start, end)
    assert same(totals.rolled([month.id]), plain(alice, start, end))
    with clock.at(NOW + timedelta(minutes=5)):
        observe(alice, machine, "m", 40, "awake")
        assert rollups.build(month.id) is False
        assert same(totals.between(alice.actor, start, end), plain(alice, start, end))
    build_all(alice)
    assert same(totals.rolled([month.id]), plain(alice, start, end))


def test_a_longer_slot_leaves_the_last_shorter_one_to_its_readers(alice: Persona) -> None:
    with clock.at(NOW):
        price(alice, machine := uuid4(), "2")
        observe(alice, machine, "m", 10, "awake")
    ends = {}
    for day in range(4):
        with clock.at(NOW + timedelta(days=day)):
            rollups.make_slots(alice.organization)
        with clock.at(NOW + timedelta(days=day, seconds=61)):
            for slot_id in rollups._due(alice.organization.id):
                assert rollups.build(slot_id)
        slots = LedgerSlot.objects.for_org(alice.organization)
        ends = {g: [*slots.filter(grain=g).order_by("end").values_list("end", flat=True)] for g in ("span", "part")}
    assert ends["span"] == [DAY + timedelta(days=5), DAY + timedelta(days=6)]
    assert ends["part"] == [NOW.replace(hour=16, minute=0) + timedelta(days=day) for day in (2, 3)]
