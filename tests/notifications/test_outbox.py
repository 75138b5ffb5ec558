"""The outbox: told once, retried, given up, held back at night, sent together, and only to whom it concerns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import transaction

from audit.models import AuditEntry
from core import clock
from core.errors import Forbidden, InvalidInput, InvalidState, NotFound
from notifications import services
from notifications.enums import State
from notifications.models import Channel, Delivery
from notifications.quiet import end_of_quiet
from notifications.senders import signature
from tests.notifications.test_ssrf import Server
from tests.personas import Persona

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 3, 18, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def local_network(settings: Any) -> None:
    settings.CURFEW_OUTBOUND_NETWORKS = ["127.0.0.1/32"]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def webhook(persona: Persona, server: Server, **more: Any) -> tuple[Channel, str]:
    return services.add_channel(
        actor=persona.actor,
        name=more.pop("name", "hook"),
        kind=more.pop("kind", "webhook"),
        url=f"{server.url}/hook",
        **more,
    )


def tell(persona: Persona, event: str = "operation.failed", **more: Any) -> int:
    return services.notify(
        actor=persona.actor,
        event=event,
        **{"subject": "Start failed", "body": "<b> & *x*", "url": "https://curfew.test/operations/1/", **more},
    )


def states(persona: Persona) -> list[str]:
    return list(Delivery.objects.for_org(persona.organization).order_by("created_at").values_list("state", flat=True))


def test_a_webhook_gets_a_signed_message_once(alice: Persona, server: Server) -> None:
    _, secret = webhook(alice, server)
    assert tell(alice, dedupe_key="op-1") == 1
    tell(alice, dedupe_key="op-1")
    assert services.deliver_due() == 1
    assert services.deliver_due() == 0
    ((path, headers, body),) = server.got
    parts = dict(part.split("=", 1) for part in headers["Curfew-Signature"].split(","))
    assert parts["v1"] == signature(secret, int(parts["t"]), body)
    assert path == "/hook"
    told = json.loads(body)
    assert [e["subject"] for e in told["events"]] == ["Start failed"]
    assert told["id"] == headers["Curfew-Id"] == str(Delivery.objects.for_org(alice.organization).get().id)


def test_slack_gets_blocks_without_control_sequences(alice: Persona, server: Server) -> None:
    webhook(alice, server, kind="slack")
    tell(alice, subject="<!channel> down")
    assert services.deliver_due() == 1
    sent = json.loads(server.got[0][2])
    assert sent["blocks"][0]["text"]["text"] == "*&lt;!channel&gt; down*\n&lt;b&gt; &amp; *x*"
    assert sent["blocks"][1]["elements"][0]["url"] == "https://curfew.test/operations/1/"


def test_nothing_is_told_of_what_was_rolled_back(alice: Persona, server: Server) -> None:
    webhook(alice, server)
    with transaction.atomic():
        tell(alice)
        transaction.set_rollback(True)
    assert services.deliver_due() == 0


def test_it_is_tried_again_with_the_same_id_and_given_up_after_ten(alice: Persona, server: Server) -> None:
    webhook(alice, server)
    server.status = 503
    now = NOON
    with clock.at(now):
        tell(alice)
    waits = []
    for _ in range(10):
        with clock.at(now):
            assert services.deliver_due() == 0
        row = Delivery.objects.for_org(alice.organization).get()
        waits.append((row.not_before - now).total_seconds())
        now = row.not_before
    assert len({headers["Curfew-Id"] for _, headers, _ in server.got}) == 1
    assert len(server.got) == 10
    assert all(24 * 2**n <= wait <= min(36 * 2**n, 4320) for n, wait in enumerate(waits[:7]))
    assert states(alice) == [State.DEAD]
    server.status = 200
    with clock.at(now):
        services.retry_delivery(actor=alice.actor, delivery_id=row.id)
        assert services.deliver_due() == 1
    with pytest.raises(InvalidState):
        services.retry_delivery(actor=alice.actor, delivery_id=row.id)


@pytest.mark.parametrize(
    ("status", "state"),
    [(404, State.DEAD), (400, State.DEAD), (302, State.DEAD), (429, State.WAITING), (500, State.WAITING)],
)
def test_what_can_never_work_is_not_tried_again(alice: Persona, server: Server, status: int, state: str) -> None:
    webhook(alice, server)
    server.status, server.headers = status, {"Retry-After": "900"}
    with clock.at(NOON):
        tell(alice)
        services.deliver_due()
    row = Delivery.objects.for_org(alice.organization).get()
    assert row.state == state
    if status == 429:
        assert row.not_before == NOON + timedelta(seconds=900)


def test_a_sender_that_died_is_followed_by_another(alice: Persona, server: Server) -> None:
    webhook(alice, server)
    tell(alice)
    Delivery.objects.for_org(alice.organization).update(
        state=State.SENDING, lease_until=clock.now() + timedelta(minutes=1)
    )
    assert services.deliver_due() == 0
    Delivery.objects.for_org(alice.organization).update(lease_until=clock.now() - timedelta(seconds=1))
    assert services.deliver_due() == 1


@pytest.mark.parametrize(
    ("now", "start", "end", "until"),
    [
        ("12:00", "22:00", "07:00", "18T12:00"),
        ("23:00", "22:00", "07:00", "19T07:00"),
        ("06:59", "22:00", "07:00", "18T07:00"),
        ("07:00", "22:00", "07:00", "18T07:00"),
        ("12:30", "12:00", "13:00", "18T13:00"),
        ("12:00", "09:00", "09:00", "18T12:00"),
    ],
)
def test_quiet_hours(now: str, start: str, end: str, until: str) -> None:
    moment = datetime.fromisoformat(f"2026-03-18T{now}:00+00:00")
    assert (
        end_of_quiet(moment, time.fromisoformat(start), time.fromisoformat(end), "UTC").isoformat()
        == f"2026-03-{until}:00+00:00"
    )
    assert end_of_quiet(datetime(2026, 3, 29, 0, 30, tzinfo=UTC), time(0), time(7), "Europe/Berlin") == datetime(
        2026, 3, 29, 5, tzinfo=UTC
    )


def test_the_night_holds_back_what_is_not_urgent(alice: Persona, server: Server) -> None:
    webhook(alice, server, quiet_start=time(22), quiet_end=time(7))
    night = NOON.replace(hour=23)
    with clock.at(night):
        tell(alice)
        tell(alice)
        tell(alice, "budget.exceeded")
        assert services.deliver_due() == 1
    with clock.at(night + timedelta(hours=8)):
        assert services.deliver_due() == 2
    assert [len(json.loads(body)["events"]) for _, _, body in server.got] == [1, 2]


def test_a_digest_is_one_message(alice: Persona, server: Server) -> None:
    webhook(alice, server, digest_minutes=15)
    with clock.at(NOON + timedelta(minutes=3)):
        for _ in range(5):
            tell(alice)
        assert services.deliver_due() == 0
    with clock.at(NOON + timedelta(minutes=15)):
        assert services.deliver_due() == 5
    assert len(server.got) == 1


def test_a_storm_is_cut_at_the_limit_and_the_rest_comes_together(alice: Persona, server: Server) -> None:
    webhook(alice, server, hourly_limit=3)
    with clock.at(NOON):
        for _ in range(20):
            tell(alice)
        assert services.deliver_due() == 3
        assert services.deliver_due() == 0
    with clock.at(NOON + timedelta(minutes=11)):
        assert services.deliver_due() == 17
    assert len(server.got) == 4


def test_only_the_chosen_events_of_ones_own_organization(alice: Persona, mallory: Persona, server: Server) -> None:
    webhook(alice, server, events=["budget.exceeded"])
    assert tell(alice) == 0
    assert tell(mallory, "budget.exceeded") == 0
    assert tell(alice, "budget.exceeded") == 1
    with pytest.raises(KeyError):
        tell(alice, "no.such")


def test_a_person_asks_for_mail_and_ends_it_by_the_link(alice: Persona, bob: Persona, client: Any) -> None:
    services.save_preference(actor=bob.actor, enabled=True, events=["operation.failed"])
    assert tell(alice) == 1
    assert services.deliver_due() == 1
    (message,) = mail.outbox
    assert message.to == [bob.email]
    link = message.extra_headers["List-Unsubscribe"].strip("<>")
    path = link.split("//", 1)[1].split("/", 1)[1]
    assert client.get(f"/{path}").status_code == 200
    assert tell(alice) == 1
    assert client.post(f"/{path}", {"List-Unsubscribe": "One-Click"}).status_code == 200
    assert tell(alice) == 0
    assert client.get(f"/{path}x").status_code == 404


def test_who_left_hears_nothing_more(alice: Persona, bob: Persona) -> None:
    from accounts.models import Membership

    services.save_preference(actor=bob.actor, enabled=True)
    Membership.objects.for_org(alice.organization).filter(user=bob.user).delete()
    assert tell(alice) == 0


def test_secrets_stay_out(alice: Persona, server: Server) -> None:
    channel, secret = webhook(alice, server)
    tell(alice, subject="key AKIAIOSFODNN7EXAMPLE", body="password=hunter2hunter2")
    services.deliver_due()
    assert b"AKIAIOSFODNN7EXAMPLE" not in server.got[0][2]
    assert b"hunter2" not in server.got[0][2]
    kept = repr([vars(e) for e in AuditEntry.objects.for_org(alice.organization)]) + repr(vars(channel))
    assert secret not in kept
    assert "/hook" not in kept


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"name": ""}, "name"),
        ({"kind": "pigeon"}, "kind"),
        ({"url": "http://10.0.0.1/"}, "url"),
        ({"url": "nonsense"}, "url"),
        ({"kind": "email", "addresses": ["x"]}, "addresses"),
        ({"kind": "email", "addresses": []}, "addresses"),
        ({"events": ["no.such"]}, "events"),
        ({"timezone": "Mars/Base"}, "timezone"),
        ({"quiet_start": time(1)}, "quiet_end"),
        ({"digest_minutes": 7}, "digest_minutes"),
        ({"hourly_limit": 0}, "hourly_limit"),
    ],
)
def test_bad_input_names_its_field(alice: Persona, asked: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        services.add_channel(
            actor=alice.actor, **{"name": "hook", "kind": "webhook", "url": "http://127.0.0.1:9/", **asked}
        )
    assert list(refused.value.errors) == [field]


def test_who_may(alice: Persona, bob: Persona, mallory: Persona, server: Server) -> None:
    channel, _ = webhook(alice, server)
    with pytest.raises(Forbidden):
        webhook(bob, server, name="his")
    for change in (services.test_channel, services.remove_channel):
        with pytest.raises(Forbidden):
            change(actor=bob.actor, channel_id=channel.id)
        with pytest.raises(NotFound):
            change(actor=mallory.actor, channel_id=channel.id)


def test_the_page_from_adding_to_removing(alice: Persona, bob: Persona, client_of: Any, server: Server) -> None:
    client = client_of(alice)
    base = {
        "channel-name": "hook",
        "channel-kind": "webhook",
        "channel-digest_minutes": "0",
        "channel-hourly_limit": "60",
    }
    bad = client.post("/settings/notifications/channels", {**base, "channel-url": "http://192.168.0.1/"})
    assert bad.status_code == 422
    assert b"private or reserved" in bad.content
    good = client.post("/settings/notifications/channels", {**base, "channel-url": f"{server.url}/x"})
    assert good.status_code == 200
    assert b"whsec_" in good.content
    page = client.get("/settings/notifications").content.decode()
    assert "whsec_" not in page
    assert "/x" not in page.split("<main")[1].split("127.0.0.1")[1][:40]
    channel = Channel.objects.for_org(alice.organization).get()
    client.post(f"/settings/notifications/channels/{channel.id}/test")
    assert len(server.got) == 1
    server.status = 410
    client.post(f"/settings/notifications/channels/{channel.id}/test")
    dead = client.get("/settings/notifications/messages?dead=1").content.decode()
    assert "It answered 410." in dead
    assert "Send again" in dead
    assert "Send again" not in client_of(bob).get("/settings/notifications/messages?dead=1").content.decode()
    client.post(f"/settings/notifications/channels/{channel.id}/off")
    assert tell(alice) == 0
    client.post(
        "/settings/notifications/preferences",
        {"mine-enabled": "on", "mine-digest_minutes": "60", "mine-events": ["operation.failed"]},
    )
    assert tell(alice) == 1
    client.post(f"/settings/notifications/channels/{channel.id}/remove")
    assert not Channel.objects.for_org(alice.organization).exists()
    verbs = list(AuditEntry.objects.for_org(alice.organization).order_by("seq").values_list("verb", flat=True))
    assert verbs == ["channel.added", "channel.changed", "channel.removed"]
