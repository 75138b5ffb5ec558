"""Pages that answer: the year, why something is on, history, savings, bulk assignment, the past under a schedule."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from core.errors import Conflict, InvalidState
from core.sleepable import SleepableView, SleepState
from costs.models import Interval
from hibernation import selectors, services
from hibernation.enums import Order
from hibernation.models import Assignment, Schedule
from tests.hibernation.conftest import KIND, MONDAY, OFFICE, Kilns, Time, make_schedule
from tests.personas import Persona

pytestmark = [pytest.mark.django_db, pytest.mark.integration]
AWAKE, ASLEEP = SleepState.AWAKE, SleepState.ASLEEP
HOUR = timedelta(hours=1)
Follow = Callable[..., SleepableView]


def interval(alice: Persona, view: SleepableView, phase: str, start: datetime, end: datetime | None, **more) -> None:
    price = more.pop("price", Decimal(2) if phase == "awake" else Decimal("0.5"))
    Interval.objects.for_org(alice.organization).create(
        organization=alice.organization,
        resource_kind=view.kind,
        resource_id=view.id,
        resource_label=view.name,
        phase=phase,
        started_at=start,
        ended_at=end,
        price=price,
        awake_price=Decimal(2),
        **more,
    )


def why(persona: Persona, view: SleepableView) -> selectors.Why:
    return selectors.why(actor=persona.actor, kind=KIND, resource_id=view.id)


def decides(found: selectors.Why) -> list[str]:
    return [e.title for e in found.evidence if e.decides]


def test_days_of_the_year(office: Schedule, alice: Persona, client_of: Callable, time: Time) -> None:
    client, url = client_of(alice), f"/hibernation/{office.id}/"
    client.post(f"{url}days", {"first": "2031-06-12", "last": "2031-06-13", "kind": "sprint", "name": "Launch"})
    client.post(f"{url}days", {"first": "2031-06-14", "kind": "custom", "hours": "10-14, 20:30-02"})
    client.post(f"{url}holidays", {"country": "DE"})
    client.post(f"{url}days", {"first": "2031-10-03", "kind": ""})  # an imported holiday is painted over
    client.post(f"{url}days", {"first": "2031-06-13", "kind": ""})
    client.post(f"{url}holidays", {"country": "DE"})
    office.refresh_from_db()
    assert office.calendar["2031-06-12"] == {"kind": "sprint", "name": "Launch"}
    assert office.calendar["2031-06-14"] == {"kind": "custom", "hours": [[600, 840], [1230, 1560]]}
    assert office.calendar["2031-10-03"]["kind"] == "normal"
    assert "2031-06-13" not in office.calendar
    shown = client.get(f"{url}?year=2031&day=2031-06-14").content.decode()
    assert "14 June: awake 10:00–14:00, 20:30–02:00" in shown
    assert "12 June: Launch, awake around the clock" in shown
    assert shown.count('class="mday ') == 365
    assert 'value="10:00-14:00, 20:30-02:00"' in shown


@pytest.mark.parametrize(
    "wrong",
    [
        {"first": "2031-06-12", "last": "2031-06-01", "kind": "sprint"},
        {"first": "2031-06-12", "kind": "custom", "hours": "soon"},
        {"first": "2031-06-12", "kind": "custom"},
        {"first": "yesterday", "kind": "sprint"},
        {"first": "2031-06-12", "last": "2035-06-12", "kind": "sprint"},
    ],
)
def test_days_that_make_no_sense_change_nothing(
    wrong: dict, office: Schedule, alice: Persona, client_of: Callable
) -> None:
    answer = client_of(alice).post(f"/hibernation/{office.id}/days", wrong, follow=True)
    office.refresh_from_db()
    assert office.calendar == {}
    assert answer.context["messages"], "nothing was said"


def test_why_names_the_rule_that_decides(
    follow: Follow, kilns: Kilns, office: Schedule, alice: Persona, olga: Persona, time: Time
) -> None:
    view = follow(ASLEEP)
    services.tick()
    assert decides(why(alice, view)) == ["Week of Office"]
    services.set_days(actor=alice.actor, schedule_id=office.id, first=MONDAY.date(), kind="sprint", name="Launch")
    services.tick()
    assert decides(why(alice, view)) == ["Calendar"]
    services.set_override(actor=olga.actor, kind=KIND, resource_id=view.id, order=Order.SLEEP, until="1h", reason="Gas")
    found = why(alice, view)
    assert decides(found) == ["Order by hand"]
    assert "Gas" in next(e.words for e in found.evidence if e.decides)
    time.go(hours=1)
    services.tick()
    services.tick()
    kilns.put(view, ASLEEP)
    services.tick()
    assert decides(why(alice, view)) == ["Changed by somebody"]
    services.save_schedule(
        actor=alice.actor, schedule_id=office.id, name="Office", zone="UTC", grid=OFFICE, enabled=False
    )
    assert "switched off" in next(e.words for e in why(alice, view).evidence if e.decides)


def test_the_list_says_why_things_are_still_on(
    follow: Follow, kilns: Kilns, alice: Persona, client_of: Callable, time: Time
) -> None:
    follow(AWAKE, name="Held kiln", hourly_cost=Decimal(9))
    kilns.add(alice.organization.id, AWAKE, name="Free kiln")
    kilns.add(alice.organization.id, ASLEEP, name="Cold kiln")
    kilns.refuse = InvalidState("The lid is open.")
    services.tick()
    found = selectors.still_on(actor=alice.actor)
    assert [(one.view.name, one.why.split(". ")[-1]) for one in found] == [
        ("Held kiln", "It is not so yet: The lid is open."),
        ("Free kiln", "It follows no schedule."),
    ]
    shown = client_of(alice).get("/hibernation/").content.decode()
    assert "The lid is open." in shown
    assert "Cold kiln" not in shown


def test_why_of_what_cannot_be_switched(follow: Follow, kilns: Kilns, alice: Persona, time: Time) -> None:
    stuck = follow(AWAKE)
    kilns.refuse = InvalidState("The lid is open.")
    services.tick()
    found = why(alice, stuck)
    assert found.answer.endswith("It is not so yet: The lid is open.")
    assert "1 of 3 tries this hour" in next(e.words for e in found.evidence if e.title == "It did not work")
    free = kilns.add(alice.organization.id, AWAKE)
    assert decides(why(alice, free)) == ["No schedule"]
    held = kilns.add(alice.organization.id, AWAKE, protections=("is in maintenance since noon",))
    assert why(alice, held).answer == "Curfew may not switch it: it is in maintenance since noon."
    seen = follow(SleepState.UNMANAGED)
    found = why(alice, seen)
    assert found.answer.startswith("Curfew does not manage it")
    assert decides(found) == ["Not managed"], "what is painted does not decide over what is only seen"


def test_maintenance_is_respected(follow: Follow, kilns: Kilns, office: Schedule, time: Time) -> None:
    view = follow(AWAKE)
    kilns.views[view.id] = kilns.views[view.id].__class__(
        **{**{n: getattr(view, n) for n in view.__dataclass_fields__}, "protections": ("is in maintenance",)}
    )
    services.tick()
    assert kilns.orders == []
    assert Assignment.objects.all_orgs().get().trouble == "Curfew may not switch it: it is in maintenance."


def test_the_page_of_one_resource_wakes_and_snoozes(
    follow: Follow, kilns: Kilns, olga: Persona, client_of: Callable, time: Time
) -> None:
    view = follow(AWAKE)
    time.to(MONDAY + HOUR * 17)
    services.tick()
    client = client_of(olga)
    shown = client.get(f"/hibernation/why/{KIND}/{view.id}/").content.decode()
    assert "Snooze the next sleep" in shown
    client.post(f"/hibernation/resource/{KIND}/{view.id}/switch", {"order": "snooze", "for": "4h"})
    time.to(MONDAY + HOUR * 21)
    services.tick()
    assert kilns.state(view) == AWAKE
    client.post(f"/hibernation/resource/{KIND}/{view.id}/switch", {"order": "sleep", "for": "1h"})
    assert kilns.state(view) == ASLEEP


def test_every_page_names_the_next_curfew(follow: Follow, alice: Persona, client_of: Callable, time: Time) -> None:
    follow(AWAKE)
    time.to(MONDAY + HOUR * 10)
    services.tick()
    shown = client_of(alice).get("/hibernation/").content.decode()
    assert "Next curfew" in shown
    assert "18:00" in shown


def test_what_it_would_have_saved(follow: Follow, office: Schedule, alice: Persona, time: Time) -> None:
    view = follow(AWAKE, asleep_hourly_cost=Decimal("0.5"))
    time.to(MONDAY + timedelta(days=7))
    interval(alice, view, "awake", MONDAY, None)
    found = selectors.get_detail(actor=alice.actor, schedule_id=office.id, timezone="UTC").run.would_have
    assert found is not None
    assert (found.days, found.awake_hours, found.asleep_hours) == (7, 168, 168 - 45)
    assert found.saved == (168 - 45) * Decimal("1.5")


def test_without_history_no_number(follow: Follow, office: Schedule, alice: Persona, client_of: Callable) -> None:
    follow(AWAKE)
    shown = client_of(alice).get(f"/hibernation/{office.id}/").content.decode()
    assert "is not known: the ledger holds no hours" in shown


def test_savings_are_sums_of_intervals(
    kilns: Kilns, alice: Persona, bob: Persona, client_of: Callable, time: Time
) -> None:
    one, two = kilns.add(alice.organization.id), kilns.add(alice.organization.id)
    first = datetime(2031, 6, 1, tzinfo=MONDAY.tzinfo)
    interval(alice, one, "awake", first, first + 10 * HOUR, team="render")
    interval(alice, one, "asleep", first + 10 * HOUR, first + 24 * HOUR, team="render", cause="schedule")
    interval(alice, two, "asleep", first - 5 * HOUR, first + 2 * HOUR, person="ann", cause="hand")
    interval(alice, two, "awake", first + 2 * HOUR, first + 3 * HOUR, price=None)
    found = selectors.savings(actor=alice.actor, timezone="UTC")
    assert (found.total.saved, found.total.spent) == (16 * Decimal("1.5"), 20 + 16 * Decimal("0.5"))
    assert [(t.name, t.saved) for t in found.teams] == [("render", 21), ("No team", 3)]
    assert {p.name: p.saved for p in found.people} == {"Nobody named": 21, "ann": 3}
    assert [(c.key, c.saved) for c in found.causes] == [("schedule", 21), ("hand", 3)]
    assert (found.resources[0].percent, found.total.unpriced) == (44, 1)
    may = selectors.savings(actor=alice.actor, timezone="UTC", month="2031-05")
    assert may.total.saved == 5 * Decimal("1.5")
    shown = client_of(alice).get("/hibernation/savings").content.decode()
    assert f"/costs/?period=custom&amp;start=2031-06-01&amp;end=2031-06-09&amp;resource={KIND}:{one.id}" in shown


def test_many_by_tag_at_once(
    kilns: Kilns, office: Schedule, alice: Persona, mallory: Persona, client_of: Callable, time: Time
) -> None:
    dev = [kilns.add(alice.organization.id, tags={"env": "dev"}) for _ in range(3)]
    kilns.add(alice.organization.id, tags={"env": "prod"})
    kilns.add(alice.organization.id, tags={"env": "dev"}, protections=("runs a licence server",))
    kilns.add(mallory.organization.id, tags={"env": "dev"})
    client, url = client_of(alice), f"/hibernation/assign?kind={KIND}&tag=env%3Ddev"
    assert "All 3 that match; 1 protected stay out" in client.get(url).content.decode()
    client.post(url, {"all": "1", "schedule": str(office.id)})
    assert set(office.assignments.values_list("resource_id", flat=True)) == {v.id for v in dev}
    client.post(url, {"resources": [f"{KIND}:{dev[0].id}"], "schedule": "off"})
    assert office.assignments.count() == 2
    client.post(url, {"schedule": str(office.id)})
    assert office.assignments.count() == 2


def test_leaving_asleep_hands_over_a_file(
    follow: Follow, kilns: Kilns, office: Schedule, alice: Persona, client_of: Callable, time: Time
) -> None:
    view = follow(AWAKE)
    services.tick()
    client = client_of(alice)
    file = json.loads(client.get(f"/hibernation/{office.id}/restore.json").content)
    (one,) = file["resources"]
    assert (UUID(one["id"]), one["slept_by_schedule"], file["schedule"]["grid"]) == (view.id, True, OFFICE)
    kilns.refuse = Conflict("It is being put to sleep.")
    client.post(f"/hibernation/{office.id}/delete", {"leave_asleep": "yes"})
    assert not Schedule.objects.all_orgs().exists()
    assert kilns.state(view) == ASLEEP


@pytest.mark.parametrize(
    "page", ["/hibernation/", "/hibernation/history", "/hibernation/assign", "/hibernation/savings", "{schedule}"]
)
def test_questions_do_not_grow_with_the_rows(
    page: str, follow: Follow, office: Schedule, alice: Persona, client_of: Callable, time: Time
) -> None:
    client, url = client_of(alice), page.format(schedule=f"/hibernation/{office.id}/")

    def asked() -> int:
        with CaptureQueriesContext(connection) as seen:
            assert client.get(url).status_code == 200
        return len(seen)

    follow(AWAKE)
    services.tick()
    client.get(url)
    one = asked()
    for number in range(2):
        interval(alice, follow(AWAKE), "awake", MONDAY - HOUR * 5, None)
        make_schedule(alice, name=f"More {number}")
    services.tick()
    assert asked() == one
