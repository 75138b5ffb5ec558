"""What a task will take and cost, before it is submitted, and which budgets it meets."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from core import sleepable
from core.sleepable import SleepableView, SleepState
from costs import services as costs
from taskrunner import selectors, services
from taskrunner.models import Task, Worker
from taskrunner.placing import Resources, Wish
from taskrunner.selectors import Estimate
from tests.personas import Persona
from tests.taskrunner.conftest import Time

pytestmark = pytest.mark.django_db
HALF = Wish(Resources(2000, 512, 0, 0))


class Lamps:
    """A kind of machine that costs four dollars an hour."""

    kind, label, label_plural, icon, operate = "lamp", "Lamp", "Lamps", "bulb", "nodes.operate"

    def list(self, actor, ids=None) -> list[SleepableView]:
        facts = {"detail": "", "url": "/", "since": None, "hourly_cost": Decimal(4), "state": SleepState.AWAKE}
        return [SleepableView("lamp", i, actor.org_id, "lamp", **facts) for i in ids or ()]


@pytest.fixture
def machine(join: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch) -> UUID:
    monkeypatch.setitem(sleepable._kinds, "lamp", Lamps())
    worker, machine = join(cpu=4000), uuid4()
    Worker.objects.all_orgs().filter(id=worker.id).update(sleepable_kind="lamp", sleepable_id=machine)
    return machine


@pytest.fixture
def ran(join: Callable[..., Worker], submit: Callable[..., Task], time: Time) -> None:
    """The same has run for an hour before."""
    worker, task = join("other"), submit()
    services.claim(worker=worker)
    services.start(worker=worker, task_id=task.id, fence=1)
    time.go(3600)
    services.finish(worker=worker, task_id=task.id, fence=1, exit_class="ok", exit_code=0)


def estimate(persona: Persona) -> Estimate:
    return selectors.estimate(actor=persona.actor, image="busybox:1", command=["true"], wish=HALF)


def test_without_an_earlier_run_only_the_rate_is_known(alice: Persona, machine: UUID) -> None:
    found = estimate(alice)
    assert (found.basis, found.seconds, found.cost, found.hourly) == ("no_data", None, None, Decimal(2))


def test_half_of_the_machine_for_the_time_of_earlier_runs(alice: Persona, machine: UUID, ran: None) -> None:
    found = estimate(alice)
    assert (found.basis, found.seconds, found.cost, found.alerts) == ("earlier_runs", 3600, Decimal(2), ())


@pytest.mark.parametrize(("left", "says"), [("2.00", ""), ("1.50", "$1.50 is left"), ("0.00", "is used up")])
def test_a_budget_that_is_not_enough_is_named(
    alice: Persona, machine: UUID, ran: None, time: Time, left: str, says: str
) -> None:
    resource = uuid4()
    facts = {"organization_id": alice.organization.id, "resource_kind": "lamp", "resource_id": resource}
    costs.set_price(
        actor=alice.actor, **facts, resource_label="", awake=Decimal(1), asleep=Decimal(0), source="list",
        valid_from=time.now,
    )  # fmt: skip
    costs.record_event(
        actor=alice.actor, **facts, resource_label="hall", phase="awake", at=time.now, key="a", source="test"
    )
    time.go(3600)  # one dollar spent
    costs.set_budget(actor=alice.actor, amount=Decimal(1) + Decimal(left))
    alerts = estimate(alice).alerts
    assert len(alerts) == bool(says)
    assert says in "".join(alerts)
