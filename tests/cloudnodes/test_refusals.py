"""The banner of a budget that refuses starts: whom it refuses sees it, with what is spent and what can be done."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import strip_tags

from cloudnodes import services
from cloudnodes.models import CloudNode
from cloudnodes.providers.base import InstanceState
from core import fragments
from costs import budgets
from costs import services as costs
from costs.budget_rules import Rules
from costs.models import Budget
from tests.cloudnodes.cloud import MemoryCloud
from tests.cloudnodes.conftest import Time, Worker
from tests.personas import Persona

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.integration]
GRID = "/cloud-nodes/"
REFUSES = Rules(refuse_starts=True)
BANNER = re.compile(r'<div class="[^"]*" id="page-refusal-.*?(?=<div class="row-flex)', re.DOTALL)


@pytest.fixture(autouse=True)
def one_answer_for_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one viewer's request made serves the next, as in life: nothing personal may come out of it."""
    monkeypatch.setattr("core.fragments.KEEP_SECONDS", 600.0)
    fragments.clear()


@pytest.fixture
def nodes(
    cloud: MemoryCloud, scan: Callable[[], list[CloudNode]], olga: Persona, worker: Worker, time: Time
) -> list[CloudNode]:
    """Olga woke the first, of team Comp: it has cost $1.20. The second sleeps and belongs to no team."""
    cloud.add("i-1", tags={"curfew:team": "Comp"})
    cloud.add("i-2", node_type="Wan Video")
    first, _ = scan()
    services.request_start(actor=olga.actor, node_id=first.id)
    worker.until_done()
    time.go(3600)
    return scan()


@pytest.fixture
def told(client_of: Callable[[Persona], Client], htmx: dict[str, str]) -> Callable[..., str]:
    """`told(bob)`: what the banner tells somebody, in the page and in its live update; "" without one."""

    def look(who: Persona, url: str = GRID) -> str:
        client = client_of(who)
        page, update = (client.get(url, headers=headers).content.decode() for headers in ({}, htmx))
        found = BANNER.findall(page)
        assert found == BANNER.findall(update)
        return " ".join([*strip_tags("".join(found)).split(), *("(link)" for one in found if "btn" in one)])

    return look


def test_the_organizations_is_told_to_everybody_until_it_is_lifted(
    nodes: list[CloudNode], told: Callable[..., str], alice: Persona, bob: Persona, mallory: Persona, olga: Persona
) -> None:
    assert told(alice) == ""
    budget = costs.set_budget(actor=alice.actor, amount=Decimal(1), rules=REFUSES)
    words = told(alice)
    assert words.startswith("Nothing new is woken. The organization has spent $1.2")
    assert "of its $1.00 a day. This ends 13 Jun 2031, 00:00 UTC; what is awake goes on." in words
    assert words.endswith("Raise it or let it be exceeded (link)")
    for who in (bob, olga):
        assert told(who).endswith("what is awake goes on. Whoever manages budgets can raise it or let it be exceeded.")
    assert told(mallory) == ""
    budgets.lift(actor=alice.actor, budget_id=budget.id)
    assert told(alice) == told(bob) == ""


def test_a_persons_is_told_to_this_person_alone(
    nodes: list[CloudNode], told: Callable[..., str], alice: Persona, olga: Persona, bob: Persona
) -> None:
    costs.set_budget(actor=alice.actor, amount=Decimal(1), scope="person", subject="Olga", rules=REFUSES)
    assert told(bob) == told(alice) == ""
    assert told(olga).startswith("Nothing new is woken for you. You have spent $1.2")
    assert told(alice) == ""


def test_a_teams_is_told_where_a_node_of_the_team_is(
    nodes: list[CloudNode], told: Callable[..., str], alice: Persona, olga: Persona
) -> None:
    rules = Rules(refuse_starts=True, sleep_idle=True, act_at=20)
    costs.set_budget(actor=alice.actor, amount=Decimal(5), scope="team", subject="Comp", rules=rules)
    words = told(olga)
    assert words.startswith("Nothing new of team Comp is woken. The team has spent $1.2")
    assert "starts are refused from 20%" in words
    assert "what is idle is put to sleep, and what is busy goes on" in words
    CloudNode.objects.all_orgs().filter(id=nodes[0].id).update(team="")
    fragments.clear()
    assert told(olga) == ""


def test_start_all_offers_nothing_that_would_be_refused(
    nodes: list[CloudNode], alice: Persona, olga: Persona, client_of: Callable[[Persona], Client]
) -> None:
    url = "/cloud-nodes/all?do=start"
    assert f'name="wake" value="{nodes[1].id}"' in client_of(olga).get(url).content.decode()
    costs.set_budget(actor=alice.actor, amount=Decimal(1), rules=REFUSES)
    shown = client_of(olga).get(url).content.decode()
    assert 'name="wake"' not in shown
    assert "a budget is used up, so nothing new is woken" in shown
    CloudNode.objects.all_orgs().filter(id=nodes[1].id).update(hourly_cost=0)
    assert f'name="wake" value="{nodes[1].id}"' in client_of(olga).get(url).content.decode()


def test_it_is_not_told_where_it_refuses_nothing(
    nodes: list[CloudNode], told: Callable[..., str], alice: Persona
) -> None:
    costs.set_budget(actor=alice.actor, amount=Decimal(1), rules=Rules(sleep_idle=True))
    assert told(alice) == ""  # it acts, but refuses nothing
    costs.set_budget(actor=alice.actor, amount=Decimal(1), rules=REFUSES)
    assert told(alice) != ""
    CloudNode.objects.all_orgs().update(hourly_cost=0)
    fragments.clear()
    assert told(alice) == ""  # what costs nothing is woken all the same


def test_open_pages_hear_of_every_change(
    nodes: list[CloudNode], alice: Persona, published: list[tuple[str, dict]]
) -> None:
    def heard() -> bool:
        topics = [message["topic"] for _, message in published]
        published.clear()
        return "budgets" in topics

    heard()
    budget = costs.set_budget(actor=alice.actor, amount=Decimal(1), rules=REFUSES)
    assert heard()
    budgets.check(alice.organization)  # from now on it refuses
    assert heard()
    budgets.check(alice.organization)
    assert not heard()
    budgets.lift(actor=alice.actor, budget_id=budget.id)
    assert heard()
    costs.remove_budget(actor=alice.actor)
    assert heard()


def test_query_budget(nodes: list[CloudNode], cloud: MemoryCloud, scan: Callable, alice: Persona) -> None:
    """One query more while no budget refuses; with some, the same number for one budget and node or for many."""

    def asked() -> int:
        with CaptureQueriesContext(connection) as seen:
            budgets.refusing(actor=alice.actor)
        return len(seen)

    assert asked() == 1
    costs.set_budget(actor=alice.actor, amount=Decimal(1))
    assert asked() == 1
    costs.set_budget(actor=alice.actor, amount=Decimal(1), rules=REFUSES)
    once = asked()
    for team in ("Comp", "Roto", "Edit"):
        costs.set_budget(actor=alice.actor, amount=Decimal(1), scope="team", subject=team, rules=REFUSES)
    cloud.add("i-3", InstanceState.RUNNING)
    scan()
    assert Budget.objects.visible_to(alice.actor).count() == 4
    assert asked() == once
