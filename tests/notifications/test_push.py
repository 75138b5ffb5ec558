"""Browser push, through to a browser that decrypts it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from django.test import Client

from core import clock
from core.errors import InvalidInput, NotFound
from notifications import services
from notifications.enums import State
from notifications.models import Delivery, Preference, PushSubscription
from tests.fakes.push import FakeBrowser, FakePushService, unb64
from tests.personas import Persona

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def local_network(settings: Any) -> None:
    settings.CURFEW_OUTBOUND_NETWORKS = ["127.0.0.1/32"]


@pytest.fixture
def push() -> Iterator[FakePushService]:
    with FakePushService() as running:
        yield running


def subscribe(persona: Persona, push: FakePushService, endpoint: str = "") -> PushSubscription:
    return services.add_browser(
        actor=persona.actor, endpoint=endpoint or push.url, browser="Firefox on Linux", **push.browser.keys
    )


def tell(persona: Persona, event: str = "operation.failed", **more: Any) -> int:
    facts = {"subject": "Start failed", "body": "The zone is full.", "url": "https://curfew.test/operations/1/", **more}
    return services.notify(actor=persona.actor, event=event, **facts)


def test_the_fake_browser_opens_the_example_of_rfc_8291() -> None:
    number = int.from_bytes(unb64("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"), "big")
    browser = FakeBrowser(ec.derive_private_key(number, ec.SECP256R1()), unb64("BTBZMqHH6r4Tts7J_aSIgg"))
    body = unb64(
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_y"
        "l95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    )
    assert browser.open(body) == b"When I grow up, I want to be a watermelon"


def test_a_message_reaches_the_browser_and_nobody_between(alice: Persona, bob: Persona, push: FakePushService) -> None:
    row = subscribe(alice, push)
    assert push.browser.keys["auth"] not in row.secrets
    assert push.url not in row.secrets
    assert tell(alice) == 1
    assert services.deliver_due() == 1
    sent = Delivery.objects.for_org(alice.organization).get()
    assert push.got == [
        {
            "id": str(sent.id),
            "title": "Start failed",
            "body": "The zone is full.",
            "url": "https://curfew.test/operations/1/",
        }
    ]
    assert (push.headers[0]["Topic"], push.headers[0]["Urgency"]) == (sent.id.hex, "normal")
    row.refresh_from_db()
    assert row.sent_at is not None


def test_a_browser_that_took_its_subscription_back_is_forgotten(alice: Persona, push: FakePushService) -> None:
    subscribe(alice, push)
    tell(alice)
    push.status = 410
    assert services.deliver_due() == 0
    assert not PushSubscription.objects.exists()
    assert tell(alice) == 0


def test_a_push_service_that_is_away_is_tried_again_with_the_same_id(alice: Persona, push: FakePushService) -> None:
    subscribe(alice, push)
    tell(alice)
    push.status = 503
    services.deliver_due()
    row = Delivery.objects.for_org(alice.organization).get()
    assert row.state == State.WAITING
    push.status = 201
    with clock.at(clock.now() + timedelta(minutes=5)):
        services.deliver_due()
    assert [told["id"] for told in push.got] == [str(row.id)]


def test_night_in_the_persons_own_zone_and_only_what_was_chosen(alice: Persona, push: FakePushService) -> None:
    subscribe(alice, push)
    alice.user.timezone = "Asia/Tokyo"
    alice.user.save(update_fields=["timezone"])
    services.save_preference(
        actor=alice.actor,
        enabled=False,
        push_enabled=True,
        push_events=["operation.failed"],
        quiet_start=time(22),
        quiet_end=time(7),
    )
    with clock.at(datetime(2026, 3, 18, 15, tzinfo=UTC)):  # midnight in Tokyo
        assert tell(alice, "hibernation.slept") == 0
        assert tell(alice) == 1
    assert Delivery.objects.for_org(alice.organization).get().not_before == datetime(2026, 3, 18, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"endpoint": "http://169.254.169.254/latest"}, "endpoint"),
        ({"endpoint": "https://10.0.0.1/push"}, "endpoint"),
        ({"endpoint": "file:///etc/passwd"}, "endpoint"),
        ({"endpoint": "https://push.test/" + "x" * 3000}, "endpoint"),
        ({"p256dh": "AAAA"}, "keys"),
        ({"auth": "AAAA"}, "keys"),
        ({"auth": "é"}, "keys"),
    ],
)
def test_bad_subscriptions_are_refused(change: dict, field: str, alice: Persona, push: FakePushService) -> None:
    with pytest.raises(InvalidInput) as refused:
        services.add_browser(actor=alice.actor, **{"endpoint": push.url, **push.browser.keys, **change})
    assert list(refused.value.errors) == [field]


def test_the_page_adds_tests_and_removes(alice: Persona, bob: Persona, client_of: Any, push: FakePushService) -> None:
    browser: Client = client_of(alice)
    assert "Turn on in this browser" in browser.get("/settings/notifications/mine").content.decode()
    added = browser.post("/settings/notifications/browsers", {"endpoint": push.url, **push.browser.keys})
    assert added.status_code == 201
    again = browser.post("/settings/notifications/browsers", {"endpoint": push.url, **push.browser.keys})
    assert (again.status_code, PushSubscription.objects.count()) == (201, 1)
    row = PushSubscription.objects.get()
    assert Preference.objects.for_org(alice.organization).get(user=alice.user).push_enabled
    browser.post(f"/settings/notifications/browsers/{row.id}/test")
    assert push.got[-1]["title"] == "Test message from Curfew"
    assert client_of(bob).post(f"/settings/notifications/browsers/{row.id}/remove").status_code == 404
    with pytest.raises(NotFound):
        services.test_browser(actor=bob.actor, browser_id=row.id)
    subscribe(bob, push)  # the same browser, another person: it is theirs now
    assert [s.user_id for s in PushSubscription.objects.all()] == [bob.user.pk]
