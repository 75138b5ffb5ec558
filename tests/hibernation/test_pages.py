"""The pages and the API of schedules."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from rest_framework.test import APIClient

from audit.models import AuditEntry
from core.errors import Conflict, InvalidState
from core.sleepable import SleepableView, SleepState
from hibernation import selectors, services
from hibernation.models import Assignment, Override, Schedule
from tests.hibernation.conftest import KIND, MONDAY, OFFICE, Kilns, Time
from tests.personas import Persona

pytestmark = [pytest.mark.django_db, pytest.mark.integration]
WEEK = ",".join(OFFICE)
PAINTED = {"name": "Studio", "zone": "Europe/Berlin", "week": WEEK, "prewarm": "on", "enabled": "on"}


def by_session(persona: Persona) -> APIClient:
    client = APIClient()
    client.force_login(persona.user)
    return client


def test_painting_a_first_schedule(alice: Persona, client_of: Callable, time: Time) -> None:
    client = client_of(alice)
    assert "No schedule yet" in client.get("/hibernation/").content.decode()
    made = client.post("/hibernation/new", PAINTED)
    row = Schedule.objects.for_org(alice.organization).get()
    assert (made.status_code, made["Location"]) == (302, f"/hibernation/{row.id}/")
    assert (row.grid, row.zone, row.prewarm, row.saved_by) == (OFFICE, "Europe/Berlin", True, alice.actor.label)
    assert AuditEntry.objects.for_org(alice.organization).filter(verb="schedule.created").count() == 1
    assert "Studio" in client.get("/hibernation/").content.decode()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": " "}, "This field is required"),
        ({"zone": "Europe/Berln"}, "Europe/Berln"),
        ({"week": "1,2"}, "7 rows"),
        ({"week": WEEK.replace("1", "x")}, "a cell is 1"),
        ({"day_0": "9 to 5"}, "is no stretch of hours"),
    ],
)
def test_what_cannot_be_saved_is_said(
    change: dict, words: str, alice: Persona, client_of: Callable, time: Time
) -> None:
    answer = client_of(alice).post("/hibernation/new", {**PAINTED, **change})
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert not Schedule.objects.for_org(alice.organization).exists()


def test_without_scripts_hours_are_typed(alice: Persona, client_of: Callable, time: Time) -> None:
    days = {"day_0": "9-18", "day_1": "08:00–12:00, 13-24", **{f"day_{d}": "" for d in range(2, 7)}}
    client_of(alice).post("/hibernation/new", {**PAINTED, **days})
    row = Schedule.objects.for_org(alice.organization).get()
    assert row.grid[0] == "0" * 9 + "1" * 9 + "0" * 6
    assert row.grid[1] == "0" * 8 + "1" * 4 + "0" + "1" * 11
    assert set("".join(row.grid[2:])) == {"0"}


def test_half_hours_are_saved_and_shown(alice: Persona, client_of: Callable, time: Time) -> None:
    client = client_of(alice)
    halves = ",".join("".join(cell * 2 for cell in row) for row in OFFICE)
    painted = "0" * 17 + "1" * 19 + "0" * 12
    made = client.post("/hibernation/new", {**PAINTED, "week": ",".join([painted, *halves.split(",")[1:]])})
    row = Schedule.objects.for_org(alice.organization).get()
    assert row.grid == [painted, *halves.split(",")[1:]]
    page = client.get(made["Location"]).content.decode()
    assert page.count('role="gridcell" tabindex') == 7 * 48
    assert 'aria-label="Mon 08:30, awake"' in page
    assert '<span class="sum" role="gridcell" data-sum="0">9.5 h</span>' in page
    days = {"day_0": "8:30-18", **{f"day_{d}": "9-18" for d in range(1, 7)}}
    client.post(made["Location"], {**PAINTED, **days})
    row.refresh_from_db()
    assert (row.grid[0], row.grid[6]) == (painted, "0" * 18 + "1" * 18 + "0" * 12)


def test_a_week_is_tried_dry_before_it_is_saved(
    follow: Callable, office: Schedule, alice: Persona, client_of: Callable, time: Time
) -> None:
    """The fourteen days ahead by what is painted, also of a schedule that is switched off."""
    follow(SleepState.AWAKE)
    client, url = client_of(alice), f"/hibernation/{office.id}/"
    services.save_schedule(
        actor=alice.actor, schedule_id=office.id, name="Office", zone="UTC", grid=OFFICE, enabled=False
    )
    page = client.get(url).content.decode()
    assert "if it were switched on" in page
    assert "09:00–18:00" in page
    late = ["0" * 20 + "1111"] * 7
    shown = client.post(f"{url}preview", {**PAINTED, "zone": "UTC", "week": ",".join(late)}).content.decode()
    assert "as painted, not saved yet" in shown
    assert "20:00–00:00" in shown
    assert "09:00–18:00" not in shown
    assert client.post(f"{url}preview", {**PAINTED, "week": "1,2"}).status_code in (200, 204)
    office.refresh_from_db()
    assert (office.grid, office.enabled) == (OFFICE, False)


def test_two_schedules_do_not_share_a_name(alice: Persona, office: Schedule, client_of: Callable) -> None:
    answer = client_of(alice).post("/hibernation/new", {**PAINTED, "name": "office"})
    assert (answer.status_code, "Another schedule has this name" in answer.content.decode()) == (422, True)


def test_the_command_centre(
    follow: Callable[..., SleepableView], office: Schedule, alice: Persona, client_of: Callable, time: Time
) -> None:
    follow(SleepState.AWAKE)
    time.to(MONDAY + timedelta(hours=7))
    services.tick()
    shown = client_of(alice).get(f"/hibernation/{office.id}/").content.decode()
    assert "Asleep because Mon 00:00 is painted grey" in shown or "Asleep because Mon 07:00 is painted grey" in shown
    assert 'data-clock="7200"' in shown
    assert "09:00–18:00" in shown
    assert shown.count('class="cell"') == 168
    assert f'value="{WEEK}"' in shown
    assert "Wake now" in shown


def test_the_preview_counts_hours_and_dollars(
    follow: Callable[..., SleepableView], office: Schedule, alice: Persona, time: Time
) -> None:
    follow(SleepState.AWAKE)
    found = selectors.get_detail(actor=alice.actor, schedule_id=office.id, timezone="Asia/Tokyo")
    assert found.rate == 2
    assert [(d.here, d.yours, d.saved) for d in found.run.days[4:6]] == [
        ("09:00–18:00", "18:00–03:00", 30),
        ("asleep all day", "", 48),
    ]
    assert found.run.potential == 2 * (14 * 24 - 10 * 9)


def test_why_is_it_still_on(
    follow: Callable[..., SleepableView], office: Schedule, kilns: Kilns, alice: Persona, time: Time
) -> None:
    follow(SleepState.AWAKE)
    kilns.refuse = InvalidState("The kiln is stuck.")
    services.tick()
    (one,) = selectors.get_detail(actor=alice.actor, schedule_id=office.id, timezone="UTC").followers
    assert one.why.endswith("It is not so yet: The kiln is stuck.")


def test_waking_all_for_four_hours(
    follow: Callable[..., SleepableView], office: Schedule, kilns: Kilns, olga: Persona, client_of: Callable, time: Time
) -> None:
    one, two = follow(SleepState.ASLEEP), follow(SleepState.ASLEEP)
    answer = client_of(olga).post(f"/hibernation/{office.id}/switch", {"order": "wake", "for": "4h"})
    assert answer.status_code == 302
    assert (kilns.state(one), kilns.state(two)) == ("awake", "awake")
    ends = {o.expires_at for o in Override.objects.all_orgs()}
    assert ends == {MONDAY + timedelta(hours=4)}


def test_resources_in_bulk(
    office: Schedule, kilns: Kilns, alice: Persona, mallory: Persona, client_of: Callable, time: Time
) -> None:
    views = [kilns.add(alice.organization.id) for _ in range(3)]
    theirs = kilns.add(mallory.organization.id)
    client, url = client_of(alice), f"/hibernation/{office.id}/resources"
    client.post(url, {"add": [f"{KIND}:{v.id}" for v in views]})
    assert office.assignments.count() == 3
    services.tick()
    client.post(url, {"remove": [f"{KIND}:{views[0].id}"]})
    assert office.assignments.count() == 2
    assert kilns.state(views[0]) == "awake"  # it slept because of the schedule
    assert client.post(url, {"add": f"{KIND}:{theirs.id}"}).status_code == 404
    assert office.assignments.count() == 2


def test_deleting_wakes_first_or_refuses(
    follow: Callable[..., SleepableView], office: Schedule, kilns: Kilns, alice: Persona, time: Time
) -> None:
    view = follow(SleepState.AWAKE)
    services.tick()
    kilns.refuse = Conflict("It is being put to sleep.")
    with pytest.raises(Conflict, match="Not everything could be woken first"):
        services.delete_schedule(actor=alice.actor, schedule_id=office.id)
    assert Assignment.objects.all_orgs().count() == 1
    kilns.refuse = None
    services.delete_schedule(actor=alice.actor, schedule_id=office.id)
    assert kilns.state(view) == "awake"
    assert not Schedule.objects.all_orgs().exists()


def test_the_api(office: Schedule, kilns: Kilns, alice: Persona, time: Time) -> None:
    client, url = by_session(alice), f"/api/hibernation/schedules/{office.id}"
    view = kilns.add(alice.organization.id, SleepState.ASLEEP)
    added = client.post(f"{url}/resources", {"add": [{"kind": KIND, "id": str(view.id)}]}, format="json")
    assert added.json() == {"added": 1, "removed": 0}
    woken = client.post(f"/api/hibernation/{KIND}/{view.id}/wake", {"for": "until_monday"}, format="json")
    assert (woken.status_code, woken.json()["until"]) == (202, "2031-06-16T00:00:00.000Z")
    bad = client.post(f"/api/hibernation/{KIND}/{view.id}/wake", {"for": "soon"}, format="json")
    assert (bad.status_code, list(bad.json()["errors"])) == (422, ["for"])
    imported = client.post(f"{url}/holidays/import", {"country": "DE", "years": [2031]}, format="json").json()
    assert imported["calendar"]["2031-10-03"]["kind"] == "holiday"
    days = client.get(f"{url}/preview?days=2&zone=Asia/Tokyo").json()
    assert [d["awake"] for d in days] == ["09:00–18:00", "09:00–18:00"]
    assert days[0]["saves"] == "30.00"
    facts = {"name": "Office", "zone": "UTC", "grid": ["2" * 24] * 7}
    assert client.put(url, facts, format="json").status_code == 422
    (row,) = client.get("/api/hibernation/schedules").json()
    assert (row["resources"], row["next_at"]) == (1, "2031-06-09T09:00:00.000Z")


def test_without_a_schedule_nothing_would_change_it_back(kilns: Kilns, alice: Persona, time: Time) -> None:
    view = kilns.add(alice.organization.id, SleepState.ASLEEP)
    client, url = by_session(alice), f"/api/hibernation/{KIND}/{view.id}/wake"
    assert client.post(url, {"for": "1h"}, format="json").status_code == 422
    assert client.post(url, {}, format="json").json()["until"] is None
    assert kilns.state(view) == "awake"
