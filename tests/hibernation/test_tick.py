"""The tick over simulated time: what is ordered, when, how often, and what is left alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from core.errors import Conflict, InvalidState
from core.sleepable import SleepableView, SleepState
from hibernation import services
from hibernation.enums import Order, Outcome
from hibernation.models import Assignment, Decision, Schedule
from operations.enums import Status
from operations.services import finish, request_operation
from tests.hibernation.conftest import KIND, MONDAY, OFFICE, Kilns, Time, make_schedule
from tests.personas import Persona

pytestmark = [pytest.mark.django_db, pytest.mark.integration]
AWAKE, ASLEEP = SleepState.AWAKE, SleepState.ASLEEP
HOUR = timedelta(hours=1)
Follow = Callable[..., SleepableView]


def only_row() -> Assignment:
    return Assignment.objects.all_orgs().get()


def test_a_week_gives_ten_orders(follow: Follow, kilns: Kilns, time: Time) -> None:
    view = follow(AWAKE)
    for _ in range(7 * 24 * 4):
        services.tick()
        time.go(minutes=15)
    given = [(at - MONDAY, word) for at, word, _ in kilns.orders]
    edges = [
        (timedelta(days=day, hours=hour), word) for day in range(5) for hour, word in ((9, "awake"), (18, "asleep"))
    ]
    assert given == [(timedelta(0), "asleep"), *edges]
    decisions = Decision.objects.all_orgs().order_by("at")
    assert [d.outcome for d in decisions] == [Outcome.ORDERED] * 11
    assert decisions[1].cause_text == "Mon 09:00 is painted green"
    assert kilns.state(view) == ASLEEP


@pytest.mark.parametrize("minutes", [1, 10, 120, 720])
def test_after_an_outage_over_an_edge_the_first_tick_is_right(
    minutes: int, follow: Follow, kilns: Kilns, time: Time
) -> None:
    view = follow(ASLEEP)
    rng = random.Random(minutes)
    for edge in (timedelta(days=1, hours=9), timedelta(days=1, hours=18), timedelta(days=4, hours=18)):
        time.to(MONDAY + edge - timedelta(seconds=rng.randint(1, minutes * 60 - 1)))
        services.tick()
        seen = len(kilns.orders)
        time.go(minutes=minutes)
        services.tick()
        at = time.now - MONDAY
        awake = at.days < 5 and HOUR * 9 <= at - timedelta(days=at.days) < HOUR * 18
        assert kilns.state(view) == (AWAKE if awake else ASLEEP)
        assert len(kilns.orders) - seen <= 1  # nothing stale: at most the one order that is right now
        services.tick()
        assert len(kilns.orders) - seen <= 1


def test_an_outage_over_two_edges_orders_nothing(follow: Follow, kilns: Kilns, time: Time) -> None:
    follow(ASLEEP)
    services.tick()
    time.go(hours=20)  # the whole of Monday's day was missed
    services.tick()
    assert kilns.orders == []


def test_but_a_change_by_hand_does_not_outlive_them(follow: Follow, kilns: Kilns, time: Time) -> None:
    view = follow(ASLEEP)
    services.tick()
    kilns.put(view, AWAKE)
    time.go(hours=20)
    services.tick()
    assert kilns.state(view) == ASLEEP


def test_a_change_by_hand_is_respected_until_the_next_transition(follow: Follow, kilns: Kilns, time: Time) -> None:
    view = follow(ASLEEP)
    services.tick()
    kilns.put(view, AWAKE)
    for _ in range(5):
        time.go(hours=1)
        services.tick()
    assert (kilns.orders, only_row().yielded) == ([], True)
    noted = Decision.objects.all_orgs().get()
    assert (noted.outcome, noted.desired) == (Outcome.RESPECTED, "asleep")
    assert "2031-06-09 09:00" in noted.cause_text
    time.to(MONDAY + HOUR * 18)
    services.tick()
    assert kilns.state(view) == ASLEEP


def test_saving_the_schedule_respects_it_too(
    follow: Follow, kilns: Kilns, time: Time, office: Schedule, alice: Persona
) -> None:
    view = follow(ASLEEP)
    services.tick()
    kilns.put(view, AWAKE)
    services.tick()
    services.save_schedule(actor=alice.actor, schedule_id=office.id, name="Hours", zone="UTC", grid=OFFICE)
    services.tick()
    assert kilns.orders == []
    services.save_schedule(actor=alice.actor, schedule_id=office.id, name="Hours", zone="UTC", grid=["1" * 24] * 7)
    services.tick()
    services.save_schedule(actor=alice.actor, schedule_id=office.id, name="Hours", zone="UTC", grid=OFFICE)
    services.tick()
    assert kilns.state(view) == ASLEEP


def test_prewarm_is_what_was_learned(alice: Persona, kilns: Kilns, time: Time) -> None:
    schedule = make_schedule(alice, prewarm=True)
    slow = kilns.add(alice.organization.id, ASLEEP, wake_seconds=600.0)
    new = kilns.add(alice.organization.id, ASLEEP)
    services.assign(actor=alice.actor, schedule_id=schedule.id, resources=[(KIND, slow.id), (KIND, new.id)])
    time.to(MONDAY + HOUR * 8)
    while time.now < MONDAY + HOUR * 9:
        services.tick()
        time.go(seconds=15)
    assert [(at - MONDAY, who) for at, _, who in kilns.orders] == [
        (timedelta(hours=8, minutes=30), new.id),
        (timedelta(hours=8, minutes=50), slow.id),
    ]


def test_three_tries_an_hour(follow: Follow, kilns: Kilns, time: Time) -> None:
    follow(AWAKE)
    kilns.refuse = InvalidState("The kiln is stuck.")
    for _ in range(4 * 60 * 2):
        services.tick()
        time.go(seconds=15)
    tried = [at - MONDAY for at, _, _ in kilns.orders]
    assert len(tried) == 6
    assert tried[:4] == [timedelta(0), timedelta(minutes=1), timedelta(minutes=6), timedelta(hours=1)]
    assert only_row().trouble == "The kiln is stuck."
    assert Decision.objects.all_orgs().filter(outcome=Outcome.REFUSED).count() == 6
    kilns.refuse = None
    time.go(hours=1)
    services.tick()
    services.tick()
    assert (only_row().settled, only_row().trouble) == (True, "")


def test_an_order_without_effect_is_counted_too(follow: Follow, kilns: Kilns, time: Time) -> None:
    follow(AWAKE)
    kilns.deaf = True
    for _ in range(4 * 30):
        services.tick()
        time.go(seconds=15)
    assert len(kilns.orders) == 3
    assert only_row().trouble == "Tried three times this hour without effect."


def test_what_is_busy_is_waited_for(follow: Follow, kilns: Kilns, time: Time) -> None:
    follow(AWAKE)
    kilns.refuse = Conflict("It is being woken.", code="operation_active")
    services.tick()
    services.tick()
    assert (len(kilns.orders), only_row().tries, Decision.objects.all_orgs().count()) == (1, 0, 0)
    kilns.refuse = None
    time.go(seconds=30)
    services.tick()
    assert len(kilns.orders) == 2


def test_maintenance_is_waited_out(follow: Follow, kilns: Kilns, time: Time) -> None:
    view = follow(AWAKE)
    kilns.refuse = InvalidState("Kiln 1 is in maintenance: automated actions are paused.", code="maintenance")
    for _ in range(4 * 90):
        services.tick()
        time.go(seconds=15)
    assert (only_row().tries, Decision.objects.all_orgs().count()) == (0, 0)
    assert "in maintenance" in only_row().trouble
    kilns.refuse = None
    time.go(seconds=30)
    services.tick()
    assert kilns.state(view) == ASLEEP


@pytest.mark.parametrize(("status", "again"), [(Status.FAILED, True), (Status.CANCELLED, False)])
def test_a_failed_order_is_repeated_and_a_cancelled_one_is_not(
    status: Status, again: bool, follow: Follow, kilns: Kilns, time: Time, alice: Persona
) -> None:
    view = follow(AWAKE)
    kilns.deaf = True
    services.tick()
    operation = request_operation(
        actor=alice.actor, kind="node.stop", resource_kind=KIND, resource_id=view.id, resource_label=view.name
    )
    Assignment.objects.all_orgs().update(operation_id=operation.id)
    finish(operation, status, error_code="stuck", error="The lid is open.")
    time.go(minutes=2)
    services.tick()
    assert len(kilns.orders) == (2 if again else 1)
    assert only_row().yielded is not again
    assert only_row().trouble == ("The lid is open." if again else "")


def test_two_ticks_at_once_give_one_order(follow: Follow, kilns: Kilns, time: Time) -> None:
    follow(AWAKE)
    kilns.deaf = True
    services.tick()
    Assignment.objects.all_orgs().update(attempt=0, tries=0, retry_at=None)  # the other read this before we wrote
    services.tick()
    assert len(kilns.orders) == 1


@pytest.mark.parametrize("state", [SleepState.UNMANAGED, SleepState.LOST, SleepState.FALLING, SleepState.WAKING])
def test_what_cannot_be_judged_is_left_alone(state: SleepState, follow: Follow, kilns: Kilns) -> None:
    follow(state)
    services.tick()
    assert kilns.orders == []


def test_an_override_holds_to_its_end_and_not_longer(follow: Follow, kilns: Kilns, time: Time, olga: Persona) -> None:
    view = follow(ASLEEP)
    services.tick()
    time.to(MONDAY + HOUR * 2)
    done = services.set_override(
        actor=olga.actor, kind=KIND, resource_id=view.id, order=Order.WAKE, until="4h", reason="Night bake"
    )
    assert done.until == MONDAY + HOUR * 6
    for _ in range(16):
        services.tick()
        assert kilns.state(view) == (AWAKE if time.now < MONDAY + HOUR * 6 else ASLEEP)
        time.go(minutes=20)
    assert [word for _, word, _ in kilns.orders] == ["awake", "asleep"]


def test_an_override_given_while_a_tick_runs_is_not_lost(
    follow: Follow, kilns: Kilns, time: Time, olga: Persona, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = follow(ASLEEP)
    services.tick()
    time.to(MONDAY + HOUR * 9)
    original = kilns.request_wake

    def during(actor: object, resource_id: object, **facts: object) -> object:
        monkeypatch.setattr(kilns, "request_wake", original)
        answer = original(actor, resource_id, **facts)  # type: ignore[arg-type]
        services.set_override(actor=olga.actor, kind=KIND, resource_id=view.id, order=Order.SLEEP, until="1h")
        return answer

    monkeypatch.setattr(kilns, "request_wake", during)
    services.tick()
    for _ in range(3):
        time.go(seconds=15)
        services.tick()
    assert kilns.state(view) == ASLEEP
    time.go(hours=1)
    services.tick()
    assert kilns.state(view) == AWAKE


def test_a_snooze_puts_the_sleep_off(follow: Follow, kilns: Kilns, time: Time, olga: Persona) -> None:
    view = follow(AWAKE)
    time.to(MONDAY + HOUR * 17)
    services.tick()
    assert services.snooze(actor=olga.actor, kind=KIND, resource_id=view.id, until="1h") == MONDAY + HOUR * 19
    time.to(MONDAY + HOUR * 18.5)
    services.tick()
    assert kilns.state(view) == AWAKE
    time.to(MONDAY + HOUR * 19)
    services.tick()
    assert kilns.state(view) == ASLEEP


def test_a_schedule_that_is_off_orders_nothing(
    follow: Follow, kilns: Kilns, time: Time, office: Schedule, alice: Persona
) -> None:
    view = follow(AWAKE)
    services.tick()
    assert kilns.state(view) == ASLEEP
    services.save_schedule(
        actor=alice.actor, schedule_id=office.id, name="Office", zone="UTC", grid=OFFICE, enabled=False
    )
    assert kilns.state(view) == AWAKE  # what slept because of it was woken
    kilns.put(view, ASLEEP)
    time.to(MONDAY + HOUR * 10)
    seen = len(kilns.orders)
    services.tick()
    assert len(kilns.orders) == seen


def test_the_questions_do_not_grow_with_the_assignments(
    alice: Persona, kilns: Kilns, office: Schedule, time: Time
) -> None:
    def follow_many(count: int) -> int:
        views = [kilns.add(alice.organization.id, ASLEEP) for _ in range(count)]
        Assignment.objects.all_orgs().bulk_create(
            Assignment(
                organization=alice.organization,
                schedule=office,
                resource_kind=KIND,
                resource_id=v.id,
                created_at=MONDAY,
            )
            for v in views
        )
        services.tick()
        with CaptureQueriesContext(connection) as seen:
            services.tick()
        return len(seen)

    assert follow_many(3) == follow_many(200) <= 4


def test_another_organization_is_never_ordered_about(
    alice: Persona, mallory: Persona, kilns: Kilns, office: Schedule
) -> None:
    theirs = kilns.add(mallory.organization.id, AWAKE)
    Assignment.objects.all_orgs().create(
        organization=alice.organization, schedule=office, resource_kind=KIND, resource_id=theirs.id, created_at=MONDAY
    )
    services.tick()
    assert kilns.orders == []
