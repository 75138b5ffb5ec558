"""Budgets warn once, act only when told to, and never touch what is busy or unknown; a crash in between changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from django.test import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.models import AuditEntry
from core import clock, sleepable
from core.actor import Actor
from core.errors import InvalidInput, QuotaExceeded
from core.sleepable import SleepableView, SleepState
from costs import budget_rules, budgets, services, spending
from costs.budget_rules import Awake, Rules
from costs.models import BudgetStep
from notifications.models import Channel, Delivery
from tests.costs.conftest import DAY, observe, price
from tests.personas import Persona

pytestmark = pytest.mark.django_db


class Lamps:
    """A kind whose idle ones are known; `broken` makes ordering fail as a dying worker would."""

    kind, label, label_plural, icon, operate = "lamp", "Lamp", "Lamps", "bulb", "nodes.operate"

    def __init__(self) -> None:
        self.idle: dict[UUID, datetime] = {}
        self.ordered: list[tuple[UUID, dict]] = []
        self.broken = False

    def list(self, actor: Actor, ids: Collection[UUID] | None = None) -> Sequence[SleepableView]:
        facts = {"detail": "", "url": "/", "since": None, "hourly_cost": None}
        return [SleepableView("lamp", i, actor.org_id, str(i)[:4], state=SleepState.AWAKE, **facts) for i in ids or ()]

    def idle_since(self, actor: Actor, ids: Collection[UUID]) -> dict[UUID, datetime]:
        return {i: self.idle[i] for i in ids if i in self.idle}

    def request_sleep(self, actor: Actor, resource_id: UUID, *, reason: str, options: dict | None = None) -> UUID:
        if self.broken:
            raise RuntimeError("killed")
        self.ordered.append((resource_id, options or {}))
        return uuid4()


@pytest.fixture
def lamps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lamps]:
    kind = Lamps()
    monkeypatch.setitem(sleepable._kinds, "lamp", kind)
    return kind


def lit(persona: Persona, hourly: str, hour: float = 10, **labels: str) -> UUID:
    resource = uuid4()
    price(persona, resource, hourly)
    observe(persona, resource, f"lamp {hourly}", hour, "awake", **labels)
    return resource


def test_each_threshold_warns_once_and_tells_the_highest(alice: Persona, hall: UUID) -> None:
    Channel.objects.for_org(alice.organization).create(
        organization=alice.organization, name="all", kind="email", addresses=["a@b.test"], created_at=clock.now()
    )
    services.set_budget(actor=alice.actor, amount=Decimal(15), rules=Rules(warn_at=(50, 80, 100)))  # 12.20 spent: 81 %
    assert budgets.check(alice.organization) == 2
    assert [budgets.check(alice.organization) for _ in range(3)] == [0, 0, 0]
    assert [d.event for d in Delivery.objects.for_org(alice.organization)] == ["budget.warning"]
    with clock.at(DAY + timedelta(hours=20)):  # four dollars more
        assert budgets.check(alice.organization) == 1
    told = Delivery.objects.for_org(alice.organization).order_by("created_at")
    assert [d.event for d in told] == ["budget.warning", "budget.exceeded"]
    assert AuditEntry.objects.for_org(alice.organization).filter(verb="budget.warned").count() == 2
    with clock.at(DAY + timedelta(hours=34)):  # the next day begins anew: 10 h at 2 dollars
        assert budgets.check(alice.organization) == 3


def test_without_the_owners_word_nothing_is_touched(alice: Persona, hall: UUID, lamps: Lamps) -> None:
    lamps.idle[hall] = DAY
    services.set_budget(actor=alice.actor, amount=Decimal(1))
    budgets.check(alice.organization)
    assert lamps.ordered == []
    budgets.require_room(organization_id=alice.organization.id)


def test_what_is_idle_sleeps_in_the_owners_order_and_what_is_busy_or_unknown_never(
    alice: Persona, at_six: datetime, lamps: Lamps
) -> None:
    dear, cheap, busy = lit(alice, "3"), lit(alice, "1"), lit(alice, "9")
    lamps.idle = {cheap: DAY + timedelta(hours=11), dear: DAY + timedelta(hours=12)}
    assert busy not in lamps.idle
    rules = Rules(sleep_idle=True, order="dearest")
    services.set_budget(actor=alice.actor, amount=Decimal(20), rules=rules)
    budgets.check(alice.organization)
    assert [i for i, _ in lamps.ordered] == [dear, cheap]
    assert {o["cause"] for _, o in lamps.ordered} == {"budget"}
    budgets.check(alice.organization)
    assert len(lamps.ordered) == 2


def test_it_stops_as_soon_as_the_rest_of_the_day_fits(alice: Persona, at_six: datetime, lamps: Lamps) -> None:
    """At 18:00, 8 h at 4 dollars are spent; 6 hours are left and 10 dollars: a rate of 1 fits, 4 does not."""
    dear, cheap = lit(alice, "3"), lit(alice, "1")
    lamps.idle = {cheap: DAY, dear: DAY}
    services.set_budget(actor=alice.actor, amount=Decimal(42), rules=Rules(act_at=70, sleep_idle=True))
    budgets.check(alice.organization)
    assert [i for i, _ in lamps.ordered] == [dear]


def test_a_crash_between_row_and_order_leaves_neither(alice: Persona, hall: UUID, lamps: Lamps) -> None:
    lamps.idle, lamps.broken = {hall: DAY}, True
    services.set_budget(actor=alice.actor, amount=Decimal(1), rules=Rules(warn_at=(), sleep_idle=True))
    with pytest.raises(RuntimeError, match="killed"):
        budgets.check(alice.organization)
    assert not BudgetStep.objects.for_org(alice.organization).exists()
    lamps.broken = False
    assert [budgets.check(alice.organization) for _ in range(2)] == [1, 0]
    assert len(lamps.ordered) == 1


def test_starts_are_refused_with_the_reason_until_it_is_lifted(alice: Persona, hall: UUID) -> None:
    budget = services.set_budget(actor=alice.actor, amount=Decimal(10), rules=Rules(refuse_starts=True))
    with pytest.raises(QuotaExceeded, match=r"\$10\.00 a day, is used up \(122%\)") as refused:
        budgets.require_room(organization_id=alice.organization.id)
    assert (refused.value.status, refused.value.code) == (409, "budget_exceeded")
    budgets.check(alice.organization)
    assert AuditEntry.objects.for_org(alice.organization).filter(verb="budget.refusing").count() == 1
    budgets.lift(actor=alice.actor, budget_id=budget.id)
    budgets.require_room(organization_id=alice.organization.id)
    with clock.at(DAY + timedelta(hours=34)), pytest.raises(QuotaExceeded):  # only until the day ended
        budgets.require_room(organization_id=alice.organization.id)


def test_a_teams_budget_is_about_that_team(alice: Persona, at_six: datetime, lamps: Lamps) -> None:
    comp, roto = lit(alice, "2", team="Comp"), lit(alice, "7", team="Roto")
    lamps.idle = {comp: DAY, roto: DAY}
    rules = Rules(sleep_idle=True, refuse_starts=True)
    services.set_budget(actor=alice.actor, amount=Decimal(5), scope="team", subject="Comp", rules=rules)
    budgets.check(alice.organization)
    assert [i for i, _ in lamps.ordered] == [comp]
    budgets.require_room(organization_id=alice.organization.id, team="Roto")
    with pytest.raises(QuotaExceeded, match="team Comp"):
        budgets.require_room(organization_id=alice.organization.id, team="Comp")


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.decimals(0, 9, places=2), st.integers(0, 9), st.booleans(), st.booleans()), max_size=8),
    st.sampled_from(list(budget_rules.ORDERS)),
)
def test_only_what_is_known_to_be_idle_is_ever_chosen(facts: list, order: str) -> None:
    start = datetime(2026, 3, 18, tzinfo=UTC)
    all_of_them = [
        Awake("lamp", uuid4(), "x", cost, start, start + timedelta(minutes=age) if idle else None, protected)
        for cost, age, idle, protected in facts
    ]
    chosen = budget_rules.to_sleep(all_of_them, order)
    assert {c.id for c in chosen} == {c.id for c in all_of_them if c.idle_since and c.hourly and not c.protected}
    if order == "dearest":
        assert [c.hourly for c in chosen] == sorted((c.hourly for c in chosen), reverse=True)


@pytest.mark.parametrize(
    "rules",
    [Rules(warn_at=(0,)), Rules(warn_at=(501,)), Rules(act_at=0), Rules(order="alphabet"), Rules(warn_at=(1,) * 9)],
)
def test_senseless_rules_are_refused(alice: Persona, rules: Rules) -> None:
    with pytest.raises(InvalidInput):
        services.set_budget(actor=alice.actor, amount=Decimal(1), rules=rules)


def test_forecast(alice: Persona, hall: UUID) -> None:
    day = spending.today(actor=alice.actor, organization=alice.organization)
    assert (day.spent, day.end_of_day.as_now) == (Decimal("12.2"), Decimal("24.2"))
    assert (day.end_of_month.at_pace, day.end_of_month.days_known) == (None, 0)
    assert sum(s.spent for s in day.people) == day.spent
    with clock.at(DAY + timedelta(days=4, hours=12)):  # the days 19, 20 and 21 cost 48 each, awake all day
        later = spending.today(actor=alice.actor, organization=alice.organization)
        assert later.end_of_month.days_known == 3
        spent = Decimal("24.2") + 3 * 48 + 24
        assert later.end_of_month.at_pace == spent + 24 + 9 * 48


def test_the_page_and_the_file(alice: Persona, client_of: Callable[[Persona], Client], hall: UUID) -> None:
    client = client_of(alice)
    body = {"amount": "10", "warn_at": "50, 90%", "act_at": "100", "refuse_starts": "on", "order": "newest"}
    assert client.post("/settings/budgets", body).status_code == 302
    page = client.get("/settings/budgets").content.decode()
    assert "122%" in page
    assert "Warns at 50%, 90%." in page
    assert "Acting now" in page
    assert client.post("/settings/budgets", {"amount": "1", "warn_at": "many"}).status_code == 422
    body = {"scope": "person", "subject": "Nobody Known", "amount": "1"}
    said = client.post("/settings/budgets", body, follow=True).content.decode()
    assert "The ledger knows no person of this name yet" in said
    lines = b"".join(client.get("/costs/export.csv?period=today").streaming_content).decode().splitlines()
    assert len(lines) == 4
    assert sum(Decimal(line.split(",")[10]) for line in lines[1:]) == Decimal("12.2")
