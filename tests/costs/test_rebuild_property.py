"""What the database holds after any order of arrival equals what is derived from all events at once."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from costs import ledger, selectors, services
from costs.models import Interval, ResourcePrice, UsageEvent
from tests.costs.test_ledger_property import MONEY, PHASES, START, close, integrate, moments
from tests.personas import Persona

pytestmark = pytest.mark.django_db
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

steps = st.lists(
    st.one_of(
        st.tuples(st.just("event"), moments, st.sampled_from(PHASES), st.integers(0, 30)),
        st.tuples(st.just("price"), moments, MONEY, MONEY),
    ),
    max_size=14,
)


def apply(persona: Persona, resource: UUID, step: tuple) -> None:
    facts = {
        "actor": persona.actor,
        "organization_id": persona.organization.id,
        "resource_kind": "lamp",
        "resource_id": resource,
        "resource_label": "hall",
    }
    if step[0] == "event":
        _, at, phase, key = step
        services.record_event(
            **facts, phase=phase, at=at, key=f"k{key}", source="test", cause=f"c{key}", person=f"p{at:%M}"
        )
    else:
        _, at, awake, asleep = step
        services.set_price(**facts, awake=awake, asleep=asleep, source="test", valid_from=at)


def held(resource: UUID) -> list[tuple]:
    rows = Interval.objects.all_orgs().filter(resource_id=resource).order_by("started_at")
    return [(r.started_at, r.ended_at, r.phase, r.price, r.awake_price, r.cause, r.person) for r in rows]


def derived(resource: UUID) -> list[tuple]:
    """From the rows of events and prices, without the services."""
    events = [
        ledger.Event(e.at, e.id, e.phase, e.key, ledger.Labels("hall", e.cause, "", e.person))
        for e in UsageEvent.objects.all_orgs().filter(resource_id=resource)
    ]
    prices = [
        ledger.Price(p.valid_from, p.awake, p.asleep, p.source)
        for p in ResourcePrice.objects.all_orgs().filter(resource_id=resource)
    ]
    return [
        (s.start, s.end, s.phase, s.price, s.awake_price, s.labels.cause, s.labels.person)
        for s in ledger.spans(events, prices)
    ]


@QUICK
@given(steps)
def test_the_fast_path_equals_the_rebuild(alice: Persona, history: list) -> None:
    resource = uuid4()
    for step in history:
        apply(alice, resource, step)
        assert held(resource) == derived(resource)
    assert services.rebuild(organization_id=alice.organization.id, resource_kind="lamp", resource_id=resource) == 0
    assert held(resource) == derived(resource)


@QUICK
@given(
    st.lists(st.tuples(moments, st.sampled_from(PHASES)), max_size=12, unique_by=lambda e: e[0]),
    st.lists(st.tuples(moments, MONEY, MONEY), max_size=4, unique_by=lambda p: p[0]),
    st.randoms(use_true_random=False),
)
def test_any_order_of_arrival_gives_the_same_money(
    alice: Persona, history: list, given_prices: list, random: object
) -> None:
    resource = uuid4()
    arrivals = [("event", at, phase, n) for n, (at, phase) in enumerate(history)]
    arrivals += [("event", at, phase, n) for n, (at, phase) in enumerate(history) if n % 3 == 0]  # told twice
    arrivals += [("price", *price) for price in given_prices]
    random.shuffle(arrivals)
    for step in arrivals:
        apply(alice, resource, step)
    left, right = START, START + timedelta(hours=7)
    rows = Interval.objects.all_orgs().filter(resource_id=resource)
    found = selectors.sum_intervals(rows, left, right)
    spent, kept = integrate(history, given_prices, left, right)
    assert close(found.spent, spent)
    assert close(found.saved, kept)


def test_many_small_intervals_do_not_drift() -> None:
    """Ten thousand seconds at an awkward price, added one by one, are the price of ten thousand seconds."""
    price = Decimal("0.00000007")
    edges = [START + timedelta(seconds=n) for n in range(10_001)]
    total = sum((ledger.amount(price, a, b) for a, b in pairwise(edges)), Decimal(0))
    assert abs(total - ledger.amount(price, edges[0], edges[-1])) < Decimal("1e-8")
