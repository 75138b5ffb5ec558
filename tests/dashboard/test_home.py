"""The home page answers: what is awake, what it costs, what needs a person."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from clusters.models import Cluster
from core import clock
from dashboard import home, skyline
from dashboard.frame import NextCurfew
from operations.models import Operation
from policies.rightsizing.models import SizeReport
from tests.dashboard.conftest import Lamps, interval
from tests.personas import Persona, make_account

pytestmark = pytest.mark.django_db
ClientOf = Callable[[Persona], Client]
NOON = datetime(2026, 3, 18, 12, 30, tzinfo=UTC)


def make_operation(persona: Persona, **fields: object) -> Operation:
    moment = clock.now()
    facts = {
        "organization": persona.organization,
        "kind": "account.scan",
        "resource_kind": "lamp",
        "resource_id": uuid4(),
        "resource_label": "hall",
        "status": "failed",
        "error": "The bulb is gone.",
        "error_code": "gone",
        "next_step": "Buy another.",
        "not_before": moment,
        "created_at": moment,
        "started_at": moment,
        "actor_kind": "user",
        "actor_id": "1",
        "actor_label": "Alice",
        **fields,
    }
    return Operation.objects.for_org(persona.organization).create(**facts)


def test_the_headline_does_not_call_asleep_what_wakes() -> None:
    assert home.headline(0, 4, Decimal(0), 0, waking=1) == "Nothing is awake yet, one thing is waking"
    assert home.headline(0, 4, Decimal(0), 0, waking=2) == "Nothing is awake yet, two things are waking"


@pytest.mark.parametrize(
    ("on", "total", "rate", "unpriced", "words"),
    [
        (0, 0, "0", 0, "Nothing is connected that could sleep"),
        (0, 4, "0", 0, "Everything is asleep"),
        (1, 4, "1.5", 0, "One thing is awake, at $1.50 an hour"),
        (6, 47, "14.62", 0, "Six things are awake, at $14.62 an hour"),
        (13, 47, "1014.625", 2, "13 things are awake, at $1,014.62 an hour, and two without a known price"),
        (2, 2, "0", 2, "Two things are awake; no price is known"),
    ],
)
def test_the_headline_answers(on: int, total: int, rate: str, unpriced: int, words: str) -> None:
    assert home.headline(on, total, Decimal(rate), unpriced) == words


def test_what_is_awake_stands_on_the_page(alice: Persona, client_of: ClientOf, lamps: Lamps) -> None:
    with clock.at(NOON):
        hall, attic = lamps.add(alice, "hall"), lamps.add(alice, "attic", "asleep", "2.00")
        interval(alice, hall, "awake", 3)
        interval(alice, attic, "awake", 4)
        interval(alice, attic, "asleep", 2, cause="schedule")
        page = client_of(alice).get("/").content.decode()
    assert "<h1>One thing is awake, at $1.50 an hour</h1>" in page
    assert "hall was awake in 4 hours today" in page  # 9:30 to 12:30 touches four hours
    assert f"/costs/?period=today&amp;resource=lamp:{hall.id}" in page
    assert "$4.00" in page  # two hours asleep at two dollars, really kept
    assert "By schedules" in page
    assert "$8.50" in page  # spent: 3 x 1.50 + 2 x 2.00
    assert "Everything awake at once would cost $3.50/h" in page


def test_the_burn_rate_of_the_frame_is_that_of_the_ledger(alice: Persona, client_of: ClientOf, lamps: Lamps) -> None:
    hall = lamps.add(alice, "hall")
    interval(alice, hall, "awake", 0.01)
    page = client_of(alice).get("/").content.decode()
    assert 'id="money-meter"' in page
    assert "<span>$1.50</span><small>/h</small>" in page


def test_nothing_of_another_organization(alice: Persona, mallory: Persona, client_of: ClientOf, lamps: Lamps) -> None:
    interval(alice, lamps.add(alice, "hall"), "awake", 2)
    make_operation(alice, resource_label="secret hall")
    make_account(alice.organization, status="error", status_reason="The key of Larkspur is gone")
    page = client_of(mallory).get("/").content.decode()
    assert "Nothing is connected" in page
    for words in ("hall", "Larkspur", "$1.50"):
        assert words not in page


@pytest.mark.parametrize("state", ["trouble", "lost", "contested"])
def test_trouble_needs_a_person_once_with_retry(alice: Persona, client_of: ClientOf, lamps: Lamps, state: str) -> None:
    view = lamps.add(alice, "hall", state, cause="No bulb in the socket")
    operation = make_operation(alice, resource_id=view.id)
    page = client_of(alice).get("/").content.decode()
    assert "No bulb in the socket" in page
    assert "Buy another." in page
    assert page.count("Needs a person") == 1
    assert page.count(f"/operations/{operation.id}/retry") == 2  # action and hx-post of one form


def test_a_viewer_sees_no_retry(alice: Persona, bob: Persona, client_of: ClientOf, lamps: Lamps) -> None:
    view = lamps.add(alice, "hall", "trouble")
    operation = make_operation(alice, resource_id=view.id)
    assert f"/operations/{operation.id}/retry" not in client_of(bob).get("/").content.decode()


def test_failures_of_what_is_gone_or_mended_do_not_nag(alice: Persona, client_of: ClientOf, lamps: Lamps) -> None:
    view = lamps.add(alice, "hall", "asleep")
    early = clock.now() - timedelta(hours=1)
    make_operation(alice, resource_id=view.id, created_at=early)
    make_operation(alice, resource_id=view.id, status="succeeded", error="", error_code="")
    make_operation(alice, resource_label="demolished")
    make_operation(
        alice, resource_id=lamps.add(alice, "attic", "asleep").id, created_at=clock.now() - timedelta(hours=25)
    )
    assert "Nothing waits for a person" in client_of(alice).get("/").content.decode()


def test_a_broken_account_is_named_with_its_next_step(alice: Persona, client_of: ClientOf, lamps: Lamps) -> None:
    account = make_account(
        alice.organization, status="error", status_reason="The key was deleted.", next_step="Give a new key."
    )
    page = client_of(alice).get("/").content.decode()
    assert "The key was deleted." in page
    assert "Give a new key." in page
    assert f"/settings/cloud-integrations/{account.id}" in page


def test_work_under_way_is_shown_with_its_step(alice: Persona, client_of: ClientOf, lamps: Lamps) -> None:
    lamps.add(alice, "hall", "waking")
    make_operation(alice, status="running", error="", error_code="", step="Waiting for the bulb", expected_seconds=40)
    page = client_of(alice).get("/").content.decode()
    assert "Waiting for the bulb" in page
    assert "data-ring-left" in page
    assert "data-waking" in page
    assert "One is waking." in page


def test_empty_offers_one_next_step(
    alice: Persona, bob: Persona, client_of: ClientOf, lamps: Lamps, settings: object
) -> None:
    settings.CURFEW_SANDBOX_AWS_ENDPOINT = "http://127.0.0.1:9"
    page = client_of(alice).get("/").content.decode()
    assert "Connect a cloud account" in page
    assert "Try it with the sandbox cloud" in page
    assert "Ask an admin" in client_of(bob).get("/").content.decode()
    make_account(alice.organization, status="scanning")
    assert "Looking through" in client_of(alice).get("/").content.decode()


def test_a_visitor_goes_to_the_portal() -> None:
    response = Client().get("/")
    assert response.status_code == 302
    assert response["Location"].startswith("/login")


def test_the_fragment_is_a_part(alice: Persona, client_of: ClientOf, lamps: Lamps, htmx: dict[str, str]) -> None:
    text = client_of(alice).get("/", headers=htmx).content.decode()
    assert text.lstrip().startswith('<div id="home"')
    assert "<html" not in text


def test_queries_do_not_grow(alice: Persona, client_of: ClientOf, lamps: Lamps) -> None:
    client = client_of(alice)
    interval(alice, lamps.add(alice, "one"), "awake", 2)
    make_operation(alice)

    def count() -> int:
        from django.core.cache import cache

        cache.clear()
        with CaptureQueriesContext(connection) as captured:
            assert client.get("/").status_code == 200
        return len(captured)

    client.get("/")
    with_one = count()
    for name in ("two", "three"):
        interval(alice, lamps.add(alice, name), "awake", 2)
        make_operation(alice)
        make_operation(alice, status="running", resource_id=uuid4())
        make_account(alice.organization, number=f"{name:0>12}", status="error")
    assert count() == with_one
    assert with_one <= 20  # one for each kind of compute


def test_the_gold_bar_leads_to_what_resizing_would_save(
    alice: Persona, mallory: Persona, client_of: ClientOf, lamps: Lamps
) -> None:
    now = clock.now()
    for name, saves in (("lark", 410.4), ("wren", 90.0), ("owl", -12.0)):
        cluster = Cluster.objects.create(organization_id=alice.organization.id, name=name, created_at=now)
        SizeReport.objects.create(organization_id=alice.organization.id, cluster=cluster, at=now, saves=saves, rows=[])
    text = client_of(alice).get("/").content.decode()
    assert "You can save $500 a month by resizing" in text
    assert "on 2 clusters" in text
    assert 'href="/policies/rightsizing/"' in text
    assert "goldbar" not in client_of(mallory).get("/").content.decode()


def test_the_month_is_the_sum_of_the_ledger(alice: Persona, client_of: ClientOf, lamps: Lamps) -> None:
    with clock.at(NOON):
        hall = lamps.add(alice, "hall", "asleep", "2.00")
        interval(alice, hall, "awake", 24 * 10)
        interval(alice, hall, "asleep", 24 * 9, cause="idle")
        built = home.build(actor=alice.actor, organization=alice.organization)
        again = home.build(actor=alice.actor, organization=alice.organization)
    assert built.month is not None
    assert built.month.sums.saved == Decimal(24 * 9 * 2)
    assert built.month.sums.spent == Decimal(48)
    assert [(c.label, c.saved) for c in built.month.causes] == [("By idle sleep", Decimal(24 * 9 * 2))]
    assert again.month == built.month


def test_the_next_curfew_is_shown_when_somebody_knows_it(
    alice: Persona, client_of: ClientOf, lamps: Lamps, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Next curfew" not in client_of(alice).get("/").content.decode()
    known = NextCurfew(clock.now() + timedelta(hours=2), "hall", Decimal("1.21"))
    monkeypatch.setattr("dashboard.frame._next_curfew", lambda actor: known)
    assert "Next curfew" in client_of(alice).get("/").content.decode()


class TestSkyline:
    def hours(self, count: int, spent: str = "1", kept: str = "1") -> list:
        from costs.reporting import Hour

        start = datetime(2026, 3, 29, tzinfo=UTC)
        return [Hour(start + timedelta(hours=n), Decimal(spent), Decimal(kept), Decimal(0)) for n in range(count)]

    @pytest.mark.parametrize("count", [23, 24, 25])
    def test_a_column_for_each_hour(self, count: int) -> None:
        sky = skyline.draw(self.hours(count), datetime(2026, 3, 29, 12, tzinfo=UTC), "UTC")
        assert sky.width == 40 * count
        assert {w.x // 40 for w in sky.windows} == set(range(count))
        assert all(0 <= label.column <= 23 for label in sky.labels)

    @pytest.mark.parametrize("amount", ["0.00003", "0.02", "0.7", "3", "88.49", "4100"])
    def test_the_unit_keeps_it_in_the_frame(self, amount: str) -> None:
        sky = skyline.draw(self.hours(24, amount, amount), datetime(2026, 3, 29, 12, tzinfo=UTC), "UTC")
        assert all(0 <= w.y <= 112 for w in sky.windows)
        lit = sum(w.css == "lit" for w in sky.windows) / 24
        assert abs(lit - float(Decimal(amount) / sky.unit)) <= 0.5

    def test_little_never_looks_like_nothing(self) -> None:
        hours = self.hours(24, "100", "0")
        hours[3] = type(hours[3])(hours[3].start, Decimal("0.0001"), Decimal(0), Decimal(0))
        sky = skyline.draw(hours, datetime(2026, 3, 29, 12, tzinfo=UTC), "UTC")
        assert [w.css for w in sky.windows if w.x // 40 == 3] == ["lit"]
