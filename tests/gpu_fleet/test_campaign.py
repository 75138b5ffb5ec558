"""Many races with kills and doubtful orders: nothing is left but the winners, and nothing foreign is touched.

The short form runs in CI; `python -m tests.campaigns.gpu_races --races 1000` is the full one.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable
from decimal import Decimal

import pytest
from django.db import connection

from costs.models import Interval
from gpu_fleet.enums import LOSER
from gpu_fleet.models import Machine, Rental
from gpu_fleet.race import Strategy
from tests.campaigns.gpu_races import run_race
from tests.fakes.vast import Fate
from tests.gpu_fleet.conftest import Fleet

pytestmark = pytest.mark.django_db
DECOYS = 50
AMBIGUOUS = 0.10
FATES = (
    Fate(running=15),
    Fate(running=40),
    Fate(stuck=True),
    Fate(dead="exited"),
    Fate(login=False),
    Fate(running=25, offline_after=5),
)


def test_races_leak_nothing(fleet: Fleet, deploy: Callable[..., Machine]) -> None:
    count, seed = int(os.environ.get("CURFEW_GPU_RACES", "4")), int(os.environ.get("CURFEW_GPU_SEED", "1"))
    chance = random.Random(seed)
    decoys = fleet.world.decoys(DECOYS)
    fleet.world.ambiguous_share = AMBIGUOUS
    told = {"races": 0, "won": 0, "kills": 0, "rentals": 0, "leaked": 0, "doubtful": 0, "limits_broken": 0}
    share = Decimal(0)
    for n in range(count):
        for offer in range(30):
            fleet.world.add(1000 + n * 100 + offer, dph_total=0.3 + offer / 100, fate=chance.choice(FATES))
        machine = deploy(f"m{n}", strategy=chance.choice(list(Strategy)))
        told["kills"] += run_race(fleet, machine, chance, kill_share=0.02)
        machine.refresh_from_db()
        rows = Rental.objects.for_org(machine.organization_id).filter(machine=machine)
        wanted = {int(machine.rental.provider_id)} if machine.rental else set()
        told["races"] += 1
        told["won"] += len(wanted)
        told["rentals"] += rows.count()
        told["leaked"] += len(set(fleet.world.instances) - decoys - wanted)
        share += _loser_hours(machine)
        for number in wanted:  # make room; its own life is another test's
            fleet.world._end(number)
        rows.filter(lane="won").update(lane="gone")
        Machine.objects.for_org(machine.organization_id).filter(id=machine.id).update(
            rental=None, gone_at=fleet.time.now
        )
        connection.run_on_commit.clear()  # one transaction holds all races, and nobody listens
        for offer in [o for o in fleet.world.hosts if 1000 <= o < 90_000]:
            del fleet.world.hosts[offer]
        if told["races"] % 50 == 0:
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()
    told["limits_broken"], told["doubtful"] = fleet.world.refused, fleet.world.ambiguous
    told["decoys_touched"] = len(decoys - set(fleet.world.instances))
    sys.stdout.write(json.dumps({**told, "loser_hours_a_race": round(float(share / max(1, count)), 4)}) + "\n")
    assert (told["leaked"], told["decoys_touched"]) == (0, 0), told
    assert told["won"] > 0


def _loser_hours(machine: Machine) -> Decimal:
    """Hours that lanes which lost were running, as the ledger has them."""
    rows = Interval.objects.for_org(machine.organization_id).filter(resource_kind=LOSER, ended_at__isnull=False)
    mine = rows.filter(resource_label__startswith=f"{machine.name}:")
    return sum((Decimal((r.ended_at - r.started_at).total_seconds()) / 3600 for r in mine if r.ended_at), Decimal(0))
