"""Outages over an edge of a schedule, with a simulated clock: what is right a minute after the return, and what is stale.

    python -m tests.campaigns.outage_trials --trials 500 --seed 1

Each trial paints a random week in a random zone, with holidays, orders of people and a learned start-up time, follows it
with the real tick and database, stops for 1 minute, 10 minutes, 2 hours or 12 hours with an edge of that schedule
inside, and comes back. Within 60 seconds the state must be what the schedule wants then; no order may be given that the
schedule does not want at that moment, and none where nothing is to be done. Exit code 1 when anything differs.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from hibernation import schedule as engine
    from tests.hibernation.conftest import Kilns
    from tests.personas import Persona

MINUTES = (1, 10, 120, 720)
START = datetime(2031, 1, 1, tzinfo=UTC)
BEAT = timedelta(seconds=15)


@dataclass
class Tally:
    """What the trials found; `orders` by how many each needed, `seconds` from the return to the right state."""

    trials: Counter[int] = field(default_factory=Counter)
    orders: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


class Trial:
    """One resource on one random schedule."""

    def __init__(self, persona: Persona, kilns: Kilns, dice: random.Random, number: int) -> None:
        from core import clock

        self.persona, self.kilns, self.dice, self.number = persona, kilns, dice, number
        with clock.at(START):
            self.view = kilns.add(persona.organization.id, wake_seconds=dice.choice((None, dice.randrange(30, 3000))))
            self.schedule_id, self.assignment_id = self._follow()

    def _follow(self) -> tuple[UUID, UUID]:
        from hibernation import services
        from hibernation.models import Assignment
        from tests.campaigns.time_cases import random_case
        from tests.hibernation.conftest import KIND

        case = random_case(2031, self.dice.randrange(10_000))
        row = services.save_schedule(
            actor=self.persona.actor,
            name=f"Trial {self.number}",
            zone=self.dice.choice(("Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "UTC")),
            grid=case.schedule("UTC").grid.to_json(),
            calendar=case.schedule("UTC").calendar.to_json(),
            prewarm=self.dice.random() < 0.7,
            warn_minutes=self.dice.choice((0, 30)),
        )
        services.assign(actor=self.persona.actor, schedule_id=row.id, resources=[(KIND, self.view.id)])
        return row.id, Assignment.objects.all_orgs().get(schedule=row).id

    def _order_something(self, at: datetime) -> None:
        """Sometimes a person has ordered something for the hours around the edge."""
        from hibernation.models import Override
        from tests.hibernation.conftest import KIND

        if self.dice.random() < 0.3:
            Override.objects.all_orgs().create(
                organization=self.persona.organization,
                resource_kind=KIND,
                resource_id=self.view.id,
                order=self.dice.choice(("wake", "sleep")),
                starts_at=at - timedelta(hours=self.dice.uniform(0, 6)),
                expires_at=at + timedelta(minutes=self.dice.uniform(1, 800)),
                made_at=at - timedelta(hours=7),
            )

    def plan(self) -> engine.Schedule:
        from hibernation.models import Override, Schedule, with_orders

        orders = list(Override.objects.all_orgs().filter(resource_id=self.view.id))
        return with_orders(Schedule.objects.all_orgs().get(id=self.schedule_id).plan(), orders, self.view.wake_seconds)

    def run(self, minutes: int, tally: Tally) -> None:
        near = START + timedelta(seconds=self.dice.randrange(300 * 86400))
        self._order_something(near)
        plan = self.plan()
        edges = plan.next_transitions(near - timedelta(hours=2), 1)
        edge = edges[0].at if edges else near
        gone = edge - timedelta(seconds=self.dice.uniform(1, minutes * 60 - 1))
        for ticks in (4, 3, 2, 1):
            self._tick(gone - ticks * BEAT)
        self._return(plan, gone + timedelta(minutes=minutes), minutes, tally)

    def _tick(self, at: datetime) -> None:
        from core import clock
        from hibernation import services

        with clock.at(at):
            services.tick(only=[self.assignment_id])

    def _return(self, plan: engine.Schedule, back: datetime, minutes: int, tally: Tally) -> None:
        tally.trials[minutes] += 1
        seen = len(self.kilns.orders)
        before = self.kilns.state(self.view)
        first = back + timedelta(seconds=self.dice.uniform(0, 15))
        right: float | None = None
        for n in range(4):
            at = first + n * BEAT
            self._tick(at)
            if right is None and self._is_right(plan, at):
                right = (at - back).total_seconds()
        given = self.kilns.orders[seen:]
        label = f"trial {self.number}, {minutes} min, back {back.isoformat()}"
        end = first + 3 * BEAT
        if right is None or not self._is_right(plan, end):
            tally.findings.append(f"{label}: {self.kilns.state(self.view)} a minute later")
        stale = [word for at, word, _ in given if (word == "awake") != plan.desired_at(at).on]
        if stale:
            tally.findings.append(f"{label}: stale {stale}")
        switches = sum(
            c.state.on != (c.before != "asleep") for c in plan.transitions_between(first, end + timedelta(seconds=1))
        )
        needed = (before == "awake") != plan.desired_at(first).on
        if len(given) > switches + needed:
            tally.findings.append(f"{label}: {len(given)} orders where {switches + needed} were needed")
        tally.orders[len(given)] += 1
        tally.seconds.append(right or 0.0)

    def _is_right(self, plan: engine.Schedule, at: datetime) -> bool:
        return (self.kilns.state(self.view) == "awake") == plan.desired_at(at).on


def run(persona: Persona, kilns: Kilns, trials: int, seed: int) -> Tally:
    """So many trials, each kind of outage in turn. Needs a database and a registered kind."""
    dice, tally = random.Random(seed), Tally()
    for number in range(trials):
        Trial(persona, kilns, dice, number).run(MINUTES[number % len(MINUTES)], tally)
    return tally


def summary(tally: Tally, **facts: Any) -> dict[str, Any]:
    ordered = sorted(tally.seconds)
    return {
        "campaign": "outage_trials",
        "trials": sum(tally.trials.values()),
        "by_minutes": dict(tally.trials),
        "orders_after_return": {str(k): v for k, v in sorted(tally.orders.items())},
        "right_within_seconds": round(ordered[-1], 1),
        "right_within_seconds_p50": round(ordered[len(ordered) // 2], 1),
        "findings": tally.findings,
        **facts,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.outage_trials", description=__doc__)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    from bench.support import setup_django

    setup_django()
    from core import sleepable, tasks
    from tests.hibernation.conftest import Kilns
    from tests.personas import make_organization, make_person

    tasks._send = lambda name, kwargs: None  # no worker listens here
    kilns = Kilns()
    sleepable.register(kilns)
    began = time.monotonic()
    tally = run(make_person("alice", make_organization("Larkspur"), "owner"), kilns, options.trials, options.seed)
    found = summary(tally, seed=options.seed, seconds=round(time.monotonic() - began))
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return 1 if tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
