"""The race: five at once, one winner, nobody left behind; also with kills, doubtful orders and hosts that stick."""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import clock
from core.errors import CurfewError
from costs.models import Interval
from gpu_fleet import race, services
from gpu_fleet.models import Machine, Rental
from gpu_fleet.providers.base import Offer
from gpu_fleet.race import Lane, Rules, Stage, Strategy
from operations import runner
from operations.models import Operation
from tests.fakes.vast import Fate
from tests.gpu_fleet.conftest import Fleet, lanes_of
from tests.personas import Persona

pytestmark = pytest.mark.django_db


def market(fleet: Fleet, count: int = 20, **facts: object) -> None:
    for n in range(count):
        fleet.world.add(100 + n, dph_total=0.4 + n / 100, **facts)


def test_the_first_ready_lane_wins_and_the_rest_is_proven_gone(fleet: Fleet, deploy: Callable[..., Machine]) -> None:
    market(fleet)
    fleet.world.hosts[102].fate = Fate(running=8)
    machine = deploy()
    fleet.until_done()
    machine.refresh_from_db()
    assert machine.observed_state == "awake"
    assert machine.rental is not None
    assert machine.rental.host_id == "1020"
    assert machine.hourly_cost == Decimal("0.42")
    fleet.settle(30)
    assert {row.lane for row in lanes_of(machine)} == {"won", "gone"}
    assert [i.host.offer_id for i in fleet.world.instances.values()] == [102]
    assert fleet.world.refused == 0  # every limit was kept
    assert (fleet.world.calls["bulk"], fleet.world.calls["create"]) == (1, 0)
    open_now = Interval.objects.for_org(machine.organization_id).filter(ended_at=None)
    assert [(row.resource_id, row.price) for row in open_now] == [(machine.id, Decimal("0.42"))]


def test_hosts_that_fail_are_not_asked_again_and_the_next_round_wins(
    fleet: Fleet, deploy: Callable[..., Machine]
) -> None:
    market(fleet)
    for offer, fate in zip(
        range(100, 105),
        (
            Fate(stuck=True),
            Fate(dead="OCI runtime create failed"),
            Fate(dead="exited"),
            Fate(login=False),
            Fate(stuck=True),
        ),
        strict=True,
    ):
        fleet.world.hosts[offer].fate = fate
    machine = deploy()
    fleet.until_done()
    fleet.settle(30)
    rows = lanes_of(machine)
    assert [row.round for row in rows] == [1] * 5 + [2] * 5
    assert all(row.failed for row in rows if row.round == 1)
    assert len(fleet.world.instances) == 1
    fleet.world._end(next(iter(fleet.world.instances)))
    for _ in range(3):
        fleet.time.go(31)
        services.watch()
    machine.refresh_from_db()
    assert (machine.rental, machine.error_code) == (None, "interrupted")
    operation = services.request_wake(actor=_system(machine), machine_id=machine.id)
    fleet.until_done()
    again = {row.host_id for row in lanes_of(machine) if row.operation_id == operation.id}
    assert again.isdisjoint({"1000", "1010", "1020", "1030", "1040"})


def test_losing_every_round_leaves_nothing_and_says_why(fleet: Fleet, deploy: Callable[..., Machine]) -> None:
    market(fleet, fate=Fate(stuck=True))
    machine = deploy()
    fleet.until_done()
    fleet.settle()
    operation = Operation.objects.for_org(machine.organization_id).get()
    assert (operation.status, operation.error_code) == ("failed", "race_lost")
    assert "15 machines" in operation.error
    assert fleet.world.instances == {}
    machine.refresh_from_db()
    assert (machine.observed_state, machine.hourly_cost) == ("trouble", None)


def test_an_error_that_bills_all_the_same_is_destroyed(fleet: Fleet, deploy: Callable[..., Machine]) -> None:
    market(fleet)
    fleet.world.contract_on_error = 1
    machine = deploy(strategy="cheapest")
    fleet.until_done()
    fleet.settle(60)
    assert len(fleet.world.instances) == 1
    first = lanes_of(machine)[0]
    assert (first.lane, first.failed) == ("gone", True)


def test_an_order_that_takes_effect_late_is_found_and_destroyed(fleet: Fleet, deploy: Callable[..., Machine]) -> None:
    market(fleet)
    fleet.world.faults["create"] = ["hang"]
    machine = deploy(strategy="cheapest")
    fleet.world.late = 300.0
    fleet.once()
    fleet.world.late = 0.0
    (hidden,) = fleet.world.instances.values()
    fleet.until_done()
    assert lanes_of(machine)[0].lane in ("never", "gone")
    fleet.time.go(300)
    fleet.settle(60)
    assert hidden.id not in fleet.world.instances
    assert len(fleet.world.instances) == 1


def test_what_is_not_ours_is_listed_and_never_touched(
    fleet: Fleet, deploy: Callable[..., Machine], alice: Persona, bob: Persona
) -> None:
    market(fleet)
    foreign = fleet.world.decoys(50)
    deploy()
    fleet.until_done()
    fleet.settle(60)
    assert foreign <= set(fleet.world.instances)
    orphans, problems = services.list_orphans(actor=alice.actor)
    assert ({int(o.provider_id) for o in orphans}, problems) == (foreign, [])
    with pytest.raises(CurfewError):
        services.list_orphans(actor=bob.actor)
    one = orphans[0]
    with pytest.raises(CurfewError):
        services.destroy_orphan(actor=alice.actor, account_id=one.account_id, provider_id=one.provider_id, confirm="")
    services.destroy_orphan(
        actor=alice.actor, account_id=one.account_id, provider_id=one.provider_id, confirm=one.provider_id
    )
    assert foreign - set(fleet.world.instances) == {int(one.provider_id)}


class Killed(BaseException):
    """As `kill -9` would: nothing may catch it."""


def test_hosts_that_were_never_asked_are_not_to_blame(
    fleet: Fleet, deploy: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker dies between the intents and the orders: the next round may ask the same few hosts."""
    market(fleet, 5)
    machine = deploy()
    plain = fleet.provider.rent
    deaths = [Killed()]

    def rent(orders: object) -> object:
        if deaths:
            raise deaths.pop()
        return plain(orders)

    monkeypatch.setattr(fleet.provider, "rent", rent)
    with pytest.raises(Killed):
        fleet.until_done(60)
    fleet.time.go(61)
    runner.reap_expired()
    fleet.until_done()
    machine.refresh_from_db()
    assert (machine.observed_state, machine.error) == ("awake", "")
    first = [row for row in lanes_of(machine) if row.round == 1]
    assert {(row.lane, row.failed) for row in first} == {("never", False)}
    assert machine.rental is not None
    assert machine.rental.host_id in {row.host_id for row in first}


@pytest.mark.parametrize("seed", range(6))
def test_kills_and_doubtful_orders_leak_nothing(fleet: Fleet, deploy: Callable[..., Machine], seed: int) -> None:
    from tests.campaigns.gpu_races import run_race

    chance = random.Random(seed)
    market(fleet)
    decoys = fleet.world.decoys(10)
    fleet.world.ambiguous_share = 0.4
    machine = deploy(strategy=chance.choice(list(Strategy)))
    kills = run_race(fleet, machine, chance, kill_share=0.08)
    assert decoys <= set(fleet.world.instances)
    ours = set(fleet.world.instances) - decoys
    machine.refresh_from_db()
    wanted = {int(machine.rental.provider_id)} if machine.rental else set()
    assert ours == wanted, f"{kills} kills"
    assert Rental.objects.all_orgs().exclude(lane__in=["gone", "never", "won"]).count() == 0


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(list(Stage)), st.integers(0, 400), st.integers(1, 90)), min_size=1, max_size=15),
    st.integers(0, 600),
    st.integers(1, 3),
)
def test_a_decision_is_never_wrong(lanes: list[tuple[Stage, int, int]], now: int, number: int) -> None:
    rows = [
        Lane(str(n), number, stage, Decimal(price) / 100, float(moved), float(moved) if stage is Stage.READY else None)
        for n, (stage, moved, price) in enumerate(lanes)
    ]
    found = race.decide(rows, round_number=number, round_started=0.0, now=float(now), rules=Rules())
    alive = {row.key for row in rows if row.stage is not Stage.OUT}
    ready = [row for row in rows if row.stage is Stage.READY]
    if ready:
        assert isinstance(found, race.Won)
        assert found.key in {row.key for row in ready if row.ready_at == min(r.ready_at or 0 for r in ready)}
    elif isinstance(found, race.Wait):
        assert alive
        assert now < 420
        assert now < 90 or any(row.moved_at + 30 > now for row in rows if row.key in alive)
    elif isinstance(found, race.NextRound):
        assert (set(found.out), found.round) == (alive, number + 1)
    else:
        assert number == 3


def test_offers_are_chosen_by_strategy_once_a_host_and_never_without_a_price() -> None:
    def offer(n: int, price: str | None, host: str, trust: float | None) -> Offer:
        return Offer(str(n), host, "RTX 4090", 1, 24_000, Decimal(price) if price else None, reliability=trust)

    offers = [offer(1, "0.5", "a", 0.9), offer(2, "0.3", "b", None), offer(3, "0.4", "a", 0.99), offer(4, None, "c", 1)]
    cheap = race.choose(offers, strategy=Strategy.CHEAPEST, count=5)
    assert [o.offer_id for o in cheap] == ["2", "3"]
    trusty = race.choose(offers, strategy=Strategy.RELIABLE, count=5)
    assert [o.offer_id for o in trusty] == ["3", "2"]
    assert race.choose(offers, strategy=Strategy.RACE, count=5, excluded_hosts={"a", "b"}) == []


def _system(machine: Machine):
    from core.actor import Actor

    assert clock.now()
    return Actor.system("tests", machine.organization_id)


def test_an_account_with_living_machines_cannot_be_disconnected(
    fleet: Fleet, deploy: Callable[..., Machine], alice: Persona
) -> None:
    from accounts import services as accounts
    from gpu_fleet import tasks

    market(fleet)
    machine = deploy()
    fleet.until_done()
    with pytest.raises(CurfewError, match="Destroy them first"):
        accounts.disconnect_account(actor=alice.actor, account_id=machine.account_id)
    with pytest.raises(CurfewError):
        services.request_destroy(actor=alice.actor, machine_id=machine.id, name="another")
    services.request_destroy(actor=alice.actor, machine_id=machine.id, name="ember")
    fleet.until_done()
    for _ in range(10):
        tasks.tend()
        fleet.time.go(5)
    assert fleet.world.instances == {}
    accounts.disconnect_account(actor=alice.actor, account_id=machine.account_id)
    assert not Machine.objects.all_orgs().filter(id=machine.id).exists()
