"""Losses of machines with a standby in simulated time; the full form is `python -m tests.campaigns.gpu_failover`."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from accounts.models import CloudAccount
from core.errors import InvalidState
from costs.models import Interval
from gpu_fleet import services
from gpu_fleet.enums import Side
from gpu_fleet.models import Machine, Standby
from operations import runner
from tests.campaigns.gpu_failover import FAULTS, Killed, Rig, one_loss, summed, verdict
from tests.fakes.vast import Fate
from tests.gpu_fleet.conftest import Fleet
from tests.personas import Persona, make_account

pytestmark = pytest.mark.django_db


@pytest.fixture
def second(alice: Persona) -> CloudAccount:
    return make_account(alice.organization, provider="docker", number="CPU", method="local", region="")


@pytest.fixture
def rig(
    fleet: Fleet,
    deploy: Callable[..., Machine],
    second: CloudAccount,
    alice: Persona,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    tmp_path: Path,
) -> Rig:
    """A machine that serves and a standby that has everything."""
    settings.CURFEW_DATA = tmp_path
    for n in range(400):
        fleet.world.add(1000 + n, dph_total=0.4 + n / 10_000, fate=Fate(running=15))
    monkeypatch.setattr("gpu_fleet.providers.restic.Repository.ensure", lambda self: False)
    monkeypatch.setattr("gpu_fleet.gateway.repository_for_machine", _repository)
    machine = deploy("ember", strategy="cheapest")
    rig = Rig(fleet, machine, random.Random(int(os.environ.get("CURFEW_GPU_SEED", "1"))), kill_share=0.02)
    monkeypatch.setattr("gpu_fleet.gateway.login", rig.login)
    rig.until("the first wake", lambda: Machine.objects.all_orgs().get(id=machine.id).rental_id is not None)
    services.create_standby(actor=alice.actor, machine_id=machine.id, account_id=second.id, grace_seconds=30)
    rig.until("readiness", rig.ready)
    return rig


def _repository(machine: Machine, rules: Any, operation: Any = None) -> Any:
    from gpu_fleet.providers.restic import Repository

    return Repository("/nowhere", "x")


def test_losses_are_seen_soon_and_never_do_two_sides_serve(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = runner.Lease._write

    def write(self: runner.Lease, **fields: Any) -> None:
        if rig.chance.random() < rig.kill_share:
            raise Killed
        plain(self, **fields)

    monkeypatch.setattr(runner.Lease, "_write", write)
    rows = [one_loss(rig, FAULTS[n % len(FAULTS)]) for n in range(int(os.environ.get("CURFEW_GPU_KILLS", "4")))]
    assert verdict(summed(rows, rig)), rows
    spare = rig.standby.spare
    assert Interval.objects.all_orgs().filter(resource_id=spare.id, phase="awake").exists()  # its own cost


def test_a_person_changes_sides_and_back_without_losing_an_edit(rig: Rig, alice: Persona) -> None:
    Standby.objects.all_orgs().update(auto_return=False)
    box = rig.box_of(rig.machine)
    assert box is not None
    rig.edit(box, "last.txt")
    services.request_failover(actor=alice.actor, machine_id=rig.machine.id, reason="maintenance")
    rig.until("the standby serving", rig.cpu_serves, 60)
    cpu = rig.box_of(rig.standby.spare)
    assert cpu is not None
    assert cpu.files["last.txt"] == box.files["last.txt"]
    rig.edit(cpu, "more.txt")
    services.request_failback(actor=alice.actor, machine_id=rig.machine.id)
    rig.until("the copy on the GPU machine", lambda: rig.standby.pulled_rental == _rental(rig))
    if not rig.ready():
        rig.until("quiet", lambda: _idle(rig))
        if rig.standby.holder == "cpu":
            services.request_failback(actor=alice.actor, machine_id=rig.machine.id)
    rig.until("readiness", rig.ready, 120)
    back = rig.box_of(rig.machine)
    assert back is box
    assert back.files["more.txt"] == cpu.files["more.txt"]
    assert rig.split == 0


def _rental(rig: Rig) -> Any:
    return Machine.objects.all_orgs().get(id=rig.machine.id).rental_id


def _idle(rig: Rig) -> bool:
    from operations.models import Operation

    return not Operation.objects.all_orgs().filter(status__in=["queued", "running"]).exists()


def test_a_machine_that_is_destroyed_takes_its_standby_with_it(rig: Rig, alice: Persona) -> None:
    machine, spare = rig.machine, rig.standby.spare
    assert Machine.objects.all_orgs().get(id=spare.id).rental_id is not None
    services.request_destroy(actor=alice.actor, machine_id=machine.id, name=machine.name)
    rig.until("the standby's end", lambda: Machine.objects.all_orgs().get(id=spare.id).rental_id is None)
    assert Machine.objects.all_orgs().get(id=machine.id).gone_at is not None


def test_a_machine_whose_standby_serves_is_not_destroyed(rig: Rig, alice: Persona) -> None:
    Standby.objects.all_orgs().update(holder=Side.CPU)
    with pytest.raises(InvalidState, match="serves"):
        services.request_destroy(actor=alice.actor, machine_id=rig.machine.id, name=rig.machine.name)
