"""A used-up budget that refuses starts refuses them of every kind: machines that are rented or woken, and clusters."""

from __future__ import annotations

from decimal import Decimal
from uuid import uuid4

import pytest

from clusters.enums import Method, State
from clusters.models import Cluster
from clusters.sleeping import services as sleeping
from clusters.sleeping.models import SleepSnapshot
from core import clock
from core.errors import QuotaExceeded
from costs import services as costs
from costs.budget_rules import Rules
from costs.models import Budget
from gpu_fleet import services as fleet
from gpu_fleet.models import Machine, Standby
from gpu_fleet.services.standby import request_spare
from operations.models import Operation
from tests.costs.conftest import DAY
from tests.personas import Persona, make_account

pytestmark = pytest.mark.django_db
WANTED = {"gpu_name": "RTX 4090"}


@pytest.fixture
def used_up(alice: Persona, hall: object) -> Budget:
    """Twelve dollars are spent of ten."""
    return costs.set_budget(actor=alice.actor, amount=Decimal(10), rules=Rules(refuse_starts=True))


def machine(alice: Persona, name: str) -> Machine:
    account = make_account(alice.organization, provider="vast", number=name, region="")
    return Machine.objects.create(
        organization_id=alice.organization.id,
        name=name,
        account=account,
        provider="vast",
        wanted=WANTED,
        created_at=clock.now(),
        state_since=clock.now(),
    )


def sleeper(alice: Persona) -> Cluster:
    row = Cluster.objects.create(
        organization_id=alice.organization.id,
        name="render",
        method=Method.KUBECONFIG,
        credentials="sealed",
        state=State.LIVE,
        team="Comp",
        created_at=DAY,
        state_since=DAY,
    )
    SleepSnapshot.objects.create(
        id=uuid4(),
        organization_id=row.organization_id,
        cluster=row,
        cluster_name=row.name,
        operation_id=uuid4(),
        taken_at=DAY,
        asleep_at=DAY,
    )
    return row


def test_no_gpu_machine_is_rented_or_woken(alice: Persona, used_up: Budget) -> None:
    asleep = machine(alice, "ember")
    with pytest.raises(QuotaExceeded, match="is used up"):
        fleet.create_machine(actor=alice.actor, name="fresh", account_id=asleep.account_id, wanted=WANTED)
    with pytest.raises(QuotaExceeded, match="is used up"):
        fleet.request_wake(actor=alice.actor, machine_id=asleep.id)
    assert not Machine.objects.for_org(alice.organization).filter(name="fresh").exists()
    assert not Operation.objects.for_org(alice.organization).exists()
    costs.set_budget(actor=alice.actor, amount=Decimal(100), rules=Rules(refuse_starts=True))
    assert fleet.request_wake(actor=alice.actor, machine_id=asleep.id).kind == "gpu.wake"


def test_what_is_under_way_goes_on(alice: Persona, hall: object) -> None:
    ember = machine(alice, "ember")
    begun = fleet.request_wake(actor=alice.actor, machine_id=ember.id)
    costs.set_budget(actor=alice.actor, amount=Decimal(10), rules=Rules(refuse_starts=True))
    assert fleet.request_wake(actor=alice.actor, machine_id=ember.id).id == begun.id


def test_a_standby_says_why_it_is_not_rented(alice: Persona, used_up: Budget) -> None:
    ember, spare = machine(alice, "ember"), machine(alice, "ember-standby")
    Machine.objects.for_org(alice.organization).filter(id=spare.id).update(is_spare=True)
    spare.refresh_from_db()
    row = Standby.objects.create(
        organization_id=alice.organization.id, machine=ember, spare=spare, account=spare.account, created_at=clock.now()
    )
    assert request_spare(actor=alice.actor, standby=row) is None
    row.refresh_from_db()
    assert (row.state, "is used up" in row.error) == ("trouble", True)


def test_no_cluster_is_woken(alice: Persona, used_up: Budget) -> None:
    row = sleeper(alice)
    with pytest.raises(QuotaExceeded, match="is used up"):
        sleeping.request_wake(actor=alice.actor, cluster_id=row.id)
    assert not Operation.objects.for_org(alice.organization).exists()


def test_a_teams_budget_refuses_only_its_clusters(alice: Persona, hall: object) -> None:
    row = sleeper(alice)
    costs.set_budget(
        actor=alice.actor, amount=Decimal(1), scope="team", subject="Roto", rules=Rules(refuse_starts=True)
    )
    assert sleeping.request_wake(actor=alice.actor, cluster_id=row.id).kind == "cluster.wake"
