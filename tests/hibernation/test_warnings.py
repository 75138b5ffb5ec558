"""Warnings before a sleep: once, with a link that only its button acts on, and never in the way of the sleep."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.test import Client

from audit.models import AuditEntry
from core.errors import InvalidInput
from core.sleepable import SleepableView, SleepState
from hibernation import services
from hibernation.enums import Order
from hibernation.models import Assignment, Override, Schedule
from hibernation.services.warning import link
from notifications import services as notifying
from notifications.models import Delivery
from tests.hibernation.conftest import KIND, MONDAY, OFFICE, Kilns, Time, make_schedule
from tests.notifications.test_ssrf import Server
from tests.personas import Persona

pytestmark = [pytest.mark.django_db, pytest.mark.integration]
AWAKE, ASLEEP = SleepState.AWAKE, SleepState.ASLEEP
SIX = MONDAY + timedelta(hours=18)
Follow = Callable[..., SleepableView]


@pytest.fixture
def server(settings: Any) -> Iterator[Server]:
    settings.CURFEW_OUTBOUND_NETWORKS = ["127.0.0.1/32"]
    with Server() as running:
        yield running


def channel(alice: Persona, server: Server, kind: str = "slack") -> None:
    notifying.add_channel(actor=alice.actor, name=kind, kind=kind, url=f"{server.url}/{kind}")


def path_of(url: str) -> str:
    return re.sub(r"^https?://[^/]+", "", url)


def day(time: Time, start: float, end: float, deliver: bool = True) -> None:
    """Tick each minute from one hour of Monday to another."""
    time.to(MONDAY + timedelta(hours=start))
    while time.now <= MONDAY + timedelta(hours=end):
        services.tick()
        if deliver:
            notifying.deliver_due()
        time.go(minutes=1)


def test_slack_mail_and_webhook_hear_once_thirty_minutes_before(
    follow: Follow, alice: Persona, server: Server, time: Time
) -> None:
    follow(AWAKE, name="Kiln Alpha")
    follow(AWAKE, name="Kiln Beta")
    channel(alice, server)
    channel(alice, server, "webhook")
    notifying.add_channel(actor=alice.actor, name="mail", kind="email", addresses=["team@larkspur.test"])
    day(time, 9, 17.4)
    assert server.got == []
    day(time, 17.5, 17.9)
    assert sorted(path for path, _, _ in server.got) == ["/slack", "/webhook"]
    sent = json.loads(next(body for path, _, body in server.got if path == "/slack"))
    words, button = sent["blocks"][0]["text"]["text"], sent["blocks"][1]["elements"][0]
    assert "2 things are going to sleep in 30 minutes (Office)" in words
    assert "Kiln Alpha, Kiln Beta" in words
    assert "Mon 18:00 UTC" in words
    assert (button["text"]["text"], "/hibernation/snooze/" in button["url"]) == ("Snooze", True)
    assert [m.to for m in mail.outbox] == [["team@larkspur.test"]]
    assert button["url"] in mail.outbox[0].body
    day(time, 17.95, 18.3)
    assert [m.subject for m in mail.outbox[1:]] == ["Office puts 2 things to sleep"]
    assert len(server.got) == 4


def test_looking_at_the_link_changes_nothing_and_its_button_does(
    follow: Follow, alice: Persona, kilns: Kilns, time: Time
) -> None:
    views = [follow(AWAKE) for _ in range(3)]
    day(time, 17.5, 17.6)
    page, browser = path_of(link(Schedule.objects.all_orgs().get().id, SIX)), Client()
    for _ in range(3):
        shown = browser.get(page)
        browser.head(page)
    assert (shown.status_code, Override.objects.all_orgs().count()) == (200, 0)
    assert all(v.name in shown.content.decode() for v in views)
    assert "18:00" in shown.content.decode()
    done = browser.post(page, {"for": "2h"})
    assert "3 stay awake until Mon 20:00" in done.content.decode()
    again = browser.post(page, {"for": "2h"})
    assert (again.status_code, Override.objects.all_orgs().count()) == (409, 3)
    assert AuditEntry.objects.for_org(alice.organization).get(verb="hibernation.snoozed").actor_label == "Snooze link"
    day(time, 17.7, 19.9, deliver=False)
    assert {kilns.state(v) for v in views} == {AWAKE}
    assert Delivery.objects.for_org(alice.organization).count() == 0  # no channel hears it, and that delays nothing
    day(time, 20, 20)
    assert {kilns.state(v) for v in views} == {ASLEEP}


def test_links_that_cannot_be_used(follow: Follow, office: Schedule, time: Time) -> None:
    follow(AWAKE)
    good = path_of(link(office.id, SIX))
    browser = Client()
    assert browser.get(good + "x").status_code == 404
    day(time, 17.5, 17.5)
    assert browser.post(good, {"for": "soon"}).status_code == 422
    day(time, 18, 18)
    assert browser.post(good, {"for": "1h"}).status_code == 409
    assert Override.objects.all_orgs().count() == 0


def test_a_dead_channel_never_delays_the_sleep(
    follow: Follow, alice: Persona, server: Server, kilns: Kilns, time: Time
) -> None:
    view = follow(AWAKE)
    channel(alice, server)
    server.status = 503
    day(time, 17.4, 18)
    assert kilns.state(view) == ASLEEP
    assert len(server.got) > 1


def test_no_warning_no_sleep(alice: Persona, server: Server, kilns: Kilns, time: Time) -> None:
    schedule = make_schedule(alice, warn_required=True)
    view = kilns.add(alice.organization.id, AWAKE)
    services.assign(actor=alice.actor, schedule_id=schedule.id, resources=[(KIND, view.id)])
    channel(alice, server)
    server.status = 503
    day(time, 17.4, 18.5)
    assert kilns.state(view) == AWAKE
    assert "nobody could be warned" in Assignment.objects.all_orgs().get().trouble
    server.status = 200
    Delivery.objects.all_orgs().update(not_before=time.now, state="waiting")
    reached = time.now
    day(time, 18.6, 18.9)
    assert kilns.state(view) == AWAKE  # it was reached just now and has its half hour
    day(time, 18.9, 19.3)
    assert kilns.state(view) == ASLEEP
    ((at, _, _),) = kilns.orders
    assert timedelta(minutes=30) <= at - reached <= timedelta(minutes=40)


def test_a_warning_that_was_missed_is_made_up_for(alice: Persona, server: Server, kilns: Kilns, time: Time) -> None:
    schedule = make_schedule(alice, warn_required=True)
    view = kilns.add(alice.organization.id, AWAKE)
    services.assign(actor=alice.actor, schedule_id=schedule.id, resources=[(KIND, view.id)])
    channel(alice, server, "webhook")
    day(time, 21, 21.4)  # the server was down from 17:00 to 21:00
    assert (kilns.state(view), len(server.got)) == (AWAKE, 1)
    day(time, 21.45, 21.6)
    assert kilns.state(view) == ASLEEP
    events = [event["event"] for _, _, body in server.got for event in json.loads(body)["events"]]
    assert events == ["hibernation.warning", "hibernation.slept"]


def test_a_person_who_orders_sleep_needs_no_warning(alice: Persona, kilns: Kilns, time: Time) -> None:
    schedule = make_schedule(alice, warn_required=True)
    view = kilns.add(alice.organization.id, AWAKE)
    services.assign(actor=alice.actor, schedule_id=schedule.id, resources=[(KIND, view.id)])
    time.to(MONDAY + timedelta(hours=10))
    services.tick()
    services.set_override(actor=alice.actor, kind=KIND, resource_id=view.id, order=Order.SLEEP, until="4h")
    services.tick()
    assert kilns.state(view) == ASLEEP


def test_a_warning_that_cannot_be_kept_is_refused(alice: Persona, time: Time) -> None:
    with pytest.raises(InvalidInput) as wrong:
        services.save_schedule(actor=alice.actor, name="A", zone="UTC", grid=OFFICE, warn_minutes=0, warn_required=True)
    assert list(wrong.value.errors) == ["warn_required"]
