"""Thirty days of people waking nodes and putting them to sleep, played through the ordinary services.

The plan comes from a seeded generator, so every demo has the same days. Each order is asked for, claimed, observed and
ended as it would have been; only the clock is moved and no cloud is called. All of it says "simulated history".
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from django.db import connection, transaction

from cloudnodes import services
from cloudnodes.models import CloudNode
from cloudnodes.providers.base import Instance, InstanceState
from core import clock
from core.actor import Actor
from costs import services as costs
from operations import runner
from operations import services as operations
from operations.enums import Status
from operations.models import Operation

SEED = 20_310_612
DAYS = 30
REASON = "simulated history"
QUIET_AT_THE_END = timedelta(hours=1)
GAP = timedelta(minutes=25)
BUDGETS = ((DAYS - 1, Decimal(60)), (12, Decimal(90)))
FULL = "The zone has no free machine of this type."
# tier -> chance of a working day, sessions a day, hours of one
HABITS = {"t4": (0.8, 1, (5.0, 9.0)), "a10g": (0.6, 2, (1.0, 3.5)), "a100": (0.16, 1, (0.6, 1.8))}
WEEKEND = 0.15
FORGOTTEN = 0.05
REFUSED = 0.025


@dataclass(frozen=True, slots=True)
class Session:
    """One stretch of use: woken by somebody, put to sleep by somebody; `refused` starts fail first, once."""

    node_id: UUID
    wake: datetime
    sleep: datetime
    waker: int
    sleeper: int
    refused: bool


def happened(organization_id: UUID) -> bool:
    """Whether the history is there already."""
    return Operation.objects.for_org(organization_id).filter(reason=REASON).exists()


def plan(
    nodes: Sequence[tuple[UUID, str]], start: datetime, end: datetime, people: int, seed: int = SEED
) -> list[Session]:
    """The sessions of all nodes (id, tier) between start and end, the same for the same seed; none overlap on a node."""
    rng = random.Random(seed)  # noqa: S311 - a repeatable story, not a secret
    sessions: list[Session] = []
    for node_id, tier in nodes:
        free_from = start + GAP
        for wake, sleep in _days(rng, tier, start, end):
            if wake < free_from or sleep > end - QUIET_AT_THE_END:
                continue
            sessions.append(
                Session(node_id, wake, sleep, rng.randrange(people), rng.randrange(people), rng.random() < REFUSED)
            )
            free_from = sleep + GAP
    return sorted(sessions, key=lambda s: (s.wake, str(s.node_id)))


def _days(rng: random.Random, tier: str, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    chance, count, (shortest, longest) = HABITS.get(tier, HABITS["t4"])
    day = start.replace(hour=0, minute=0, second=0, microsecond=0)
    while day < end:
        likely = chance if day.weekday() < 5 else chance * WEEKEND
        if rng.random() < likely:
            at = day + timedelta(hours=rng.gauss(9.3, 0.8), seconds=rng.randrange(60))
            for _ in range(count):
                until = at + timedelta(hours=rng.uniform(shortest, longest))
                if rng.random() < FORGOTTEN:
                    until = day + timedelta(days=1, hours=rng.gauss(9.0, 0.4))
                yield at, until
                at = until + timedelta(hours=rng.uniform(0.8, 2.5))
        day += timedelta(days=1)


@contextmanager
def one_quiet_transaction() -> Iterator[None]:
    """All or nothing, and without the thousands of hints and live messages about things that are over."""
    with transaction.atomic(durable=True):
        yield
        connection.run_on_commit.clear()


def play(
    *, nodes: Sequence[CloudNode], instances: dict[str, Instance], people: Sequence[Actor], owner: Actor, end: datetime
) -> int:
    """Play the plan of the last thirty days up to `end`; returns how many operations it made."""
    start = end - timedelta(days=DAYS)
    known = {
        node.id: replace(instances[node.provider_id], state=InstanceState.STOPPED)
        for node in nodes
        if node.provider_id in instances
    }
    tiers = [(node.id, node.gpu_tier) for node in nodes if node.id in known]
    sessions = plan(tiers, start, end, len(people))
    rng = random.Random(SEED + 1)  # noqa: S311 - a repeatable story, not a secret
    steps: list[tuple[datetime, int, Session | Decimal]] = [
        (end - timedelta(days=days), 0, amount) for days, amount in BUDGETS
    ]
    steps += [(session.wake, 1, session) for session in sessions]
    steps += [(session.sleep, 2, session) for session in sessions]
    made = 0
    with one_quiet_transaction():
        for moment, what, step in sorted(steps, key=lambda s: (s[0], s[1])):
            if isinstance(step, Decimal):
                with clock.at(moment):
                    costs.set_budget(actor=owner, amount=step)
            elif what == 1:
                made += _wake(known[step.node_id], step, people[step.waker], moment, rng)
            else:
                made += _sleep(known[step.node_id], step, people[step.sleeper], moment, rng)
    return made


def _wake(instance: Instance, session: Session, actor: Actor, moment: datetime, rng: random.Random) -> int:
    refused = 0
    if session.refused:
        _refuse(session.node_id, actor, moment - timedelta(minutes=6))
        refused = 1
    with clock.at(moment):
        operation = services.request_start(actor=actor, node_id=session.node_id, reason=REASON)
    seconds = min(180.0, rng.lognormvariate(3.7, 0.3))
    launched = moment + timedelta(seconds=min(14.0, seconds / 2))
    _finish(operation, replace(instance, state=InstanceState.RUNNING, launched_at=launched), moment, seconds)
    return 1 + refused


def _sleep(instance: Instance, session: Session, actor: Actor, moment: datetime, rng: random.Random) -> int:
    with clock.at(moment):
        operation = services.request_stop(actor=actor, node_id=session.node_id, reason=REASON)
    _finish(operation, instance, moment, rng.uniform(12, 40))
    return 1


def _finish(operation: Operation, seen: Instance, asked: datetime, seconds: float) -> None:
    """A worker takes it, the provider shows the new state, and it ends well."""
    running = _claimed(operation, asked)
    at = asked + timedelta(seconds=seconds)
    with clock.at(at):
        services.observe(node_id=operation.resource_id, instance=seen, at=at)
        operations.finish(
            running, Status.SUCCEEDED, result={"already": False, "seconds": round(seconds, 1), "simulated": True}
        )


def _refuse(node_id: UUID, actor: Actor, moment: datetime) -> None:
    with clock.at(moment):
        operation = services.request_start(actor=actor, node_id=node_id, reason=REASON)
    running = _claimed(operation, moment)
    with clock.at(moment + timedelta(seconds=9)):
        operations.finish(
            running,
            Status.FAILED,
            result={"provider_words": "InsufficientInstanceCapacity", "simulated": True},
            error_code="capacity_unavailable",
            error=FULL,
            next_step="Try again in a few minutes, or another zone.",
        )


def _claimed(operation: Operation, asked: datetime) -> Operation:
    with clock.at(asked + timedelta(seconds=1)):
        running = runner.claim(operation.id, owner="simulator")
    if running is None:
        raise RuntimeError(f"the simulated operation {operation.id} was taken by somebody else")
    return running
