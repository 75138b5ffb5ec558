"""Thirty days of rented GPU machines in the sandbox, played through the ordinary services as `history` plays nodes.

Races with losers, backups that were proven, sleeps by idleness and by hand; only the clock is moved and no cloud is
called. Prices are those of the price book; what is paid follows from the ledger's intervals. Nothing is left awake.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from accounts import selectors as accounts
from accounts.models import CloudAccount
from core import clock
from core.actor import Actor
from costs.models import CatalogPrice
from dashboard.demo.history import DAYS, REASON, one_quiet_transaction
from gpu_fleet import gateway
from gpu_fleet import services as fleet
from gpu_fleet.enums import SnapshotState
from gpu_fleet.models import Machine, Rental, Snapshot
from gpu_fleet.providers.base import Offer, Query, RentalState, Rented
from gpu_fleet.providers.base import Rental as Seen
from gpu_fleet.providers.catalogue import EC2, offer_in
from gpu_fleet.services import ending, lanes, machines, snapshots
from operations import runner
from operations import services as operations
from operations.enums import Status
from operations.models import Operation

SEED = 20_310_613
KEPT = 5
MARKET_EVERY = timedelta(hours=24)
# What spot costs of the on-demand price, about which it wanders.
SPOT = {"Tesla T4": 0.36, "A10G": 0.44, "L4": 0.41, "Tesla V100": 0.33, "A100": 0.42, "H100": 0.47}
IDLE = "Idle for 3 min"
BEAT = timedelta(minutes=4)


@dataclass(frozen=True, slots=True)
class Habit:
    """A machine of the story: what it is, how often and long it works, what its folders hold in bytes and files."""

    name: str
    kind: str
    chance: float
    hours: tuple[float, float]
    size: int
    files: int
    days: tuple[int, int] = (0, DAYS)


HABITS = (
    Habit("aurora", "g5.xlarge", 0.55, (3.0, 7.5), 41_300_000_000, 18_240),
    Habit("drift", "g4dn.xlarge", 0.3, (1.2, 4.0), 9_800_000_000, 52_310),
    Habit("basalt", "p3.2xlarge", 0.3, (1.0, 3.2), 126_000_000_000, 4_120, (0, 23)),
)


@dataclass(slots=True)
class Session:
    """One stretch of work; `idle` says that the machine fell asleep by itself."""

    habit: Habit
    wake: datetime
    sleep: datetime
    person: int
    idle: bool


def plan(start: datetime, end: datetime, people: int, seed: int = SEED) -> list[Session]:
    """The same sessions for the same seed, none before the last one of its machine ended; the newest ended just now."""
    rng = random.Random(seed)  # noqa: S311 - a repeatable story, not a secret
    found = []
    for habit in HABITS:
        first, last = (start + timedelta(days=n) for n in habit.days)
        day = first
        while day < last:
            likely = habit.chance if day.weekday() < 5 else habit.chance * 0.2
            if day == first or rng.random() < likely:
                at = day.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(hours=rng.gauss(10.2, 1.4))
                at = max(at, first + timedelta(minutes=30))
                until = at + timedelta(hours=rng.uniform(*habit.hours))
                if until < min(last, end - timedelta(hours=6)):
                    found.append(Session(habit, at, until, rng.randrange(people), rng.random() < 0.75))
            day += timedelta(days=1)
    found.append(Session(HABITS[0], end - timedelta(hours=2, minutes=36), end - timedelta(minutes=24), 0, True))
    return sorted(found, key=lambda s: s.wake)


def play(*, account: CloudAccount, owner: Actor, people: Sequence[Actor], end: datetime) -> int:
    """Play the month up to `end`, once; returns how many operations it made. Nothing without prices of the region."""
    prices = _prices(account)
    if Machine.objects.for_org(account.organization_id).filter(account=account).exists() or not prices:
        return 0
    start = end - timedelta(days=DAYS)
    rng = random.Random(SEED + 1)  # noqa: S311 - a repeatable story, not a secret
    story = _Story(account, owner, people, prices, rng)
    with one_quiet_transaction(), machines.rehearsal():
        with clock.at(start):
            fleet.settings_of(account.organization_id)
        for session in plan(start, end, len(people)):
            story.session(session, last=session.sleep > end - timedelta(hours=2))
        for habit in HABITS:
            if habit.days[1] < DAYS:
                story.destroy(habit, start + timedelta(days=habit.days[1]))
        _market(account, prices, start, end, rng)
    return story.made


def _prices(account: CloudAccount) -> dict[str, Decimal]:
    rows = CatalogPrice.objects.filter(provider="aws", region=account.region, lifecycle="on_demand", currency="USD")
    found = dict(
        rows.filter(instance_type__in=[k.name for k in EC2 if k.gpus])
        .order_by("as_of")
        .values_list("instance_type", "hourly")
    )
    return found if all(habit.kind in found for habit in HABITS) else {}


class _Story:
    """Where the story stands."""

    def __init__(
        self,
        account: CloudAccount,
        owner: Actor,
        people: Sequence[Actor],
        prices: dict[str, Decimal],
        rng: random.Random,
    ) -> None:
        self.account, self.owner, self.people, self.prices, self.rng = account, owner, people, prices, rng
        self.machines: dict[str, Machine] = {}
        self.made = 0

    def session(self, session: Session, *, last: bool) -> None:
        machine, operation = self._asked(session)
        running = self._claimed(operation, session.wake)
        awake = self._race(session, machine, running, session.wake)
        if last:
            self._beats(machine, awake, session.sleep)
        self._sleep(session, machine)

    def _asked(self, session: Session) -> tuple[Machine, Operation]:
        actor, known = self.people[session.person], self.machines.get(session.habit.name)
        with clock.at(session.wake):
            if known is not None:
                known.refresh_from_db()
                return known, fleet.request_wake(actor=actor, machine_id=known.id, reason=REASON)
            kind = _KINDS[session.habit.kind]
            wanted = {"gpu_name": kind.gpu_name, "min_gpus": kind.gpus, "disk_gb": 200, "strategy": "race"}
            machine, operation = fleet.create_machine(
                actor=self.owner, name=session.habit.name, account_id=self.account.id, wanted=wanted
            )
            self.machines[session.habit.name] = machine
            return machine, operation

    def _race(self, session: Session, machine: Machine, operation: Operation, asked: datetime) -> datetime:
        """Two or three zones are asked, the first to answer wins, the others are destroyed; then the files come back."""
        kind = _KINDS[session.habit.kind]
        zones = [f"{self.account.region}{letter}" for letter in "abc"]
        self.rng.shuffle(zones)
        zones = zones[: 3 if self.rng.random() < 0.25 else 2]
        offers = [offer_in(kind, zone, self.prices[kind.name], Query(disk_gb=200)) for zone in zones]
        at = asked + timedelta(seconds=2)
        with clock.at(at):
            rows = lanes.intend(machine=machine, operation=operation, round_number=1, offers=offers)
        with clock.at(at + timedelta(seconds=2)):
            lanes.record_answers(rows=rows, answers=[Rented(r.offer_id, _number(r)) for r in rows])
        arrivals = sorted(self.rng.uniform(24, 70) for _ in rows)
        for row, seconds in zip(rows[:2], arrivals, strict=False):
            with clock.at(at + timedelta(seconds=seconds)):
                lanes.observe(row=row, seen=Seen(row.provider_id, RentalState.RUNNING))
        winner, won = rows[0], at + timedelta(seconds=arrivals[1] + 6)
        with clock.at(won):
            lanes.heard(row=winner, host_keys=[])
            lanes.ready(row=winner)
            lanes.win(machine=machine, operation=operation, rental_id=winner.id)
        gone = won + timedelta(seconds=self.rng.uniform(20, 60))
        with clock.at(gone):
            for row in rows[1:]:
                row.refresh_from_db()
                lanes.gone(row=row)
        machine.refresh_from_db()
        last = snapshots.latest_verified(machine)
        back = gone + timedelta(seconds=session.habit.size / 1e9 * self.rng.uniform(3.4, 4.4) if last else 1)
        with clock.at(back):
            if last is not None:
                snapshots.note_restored(machine=machine, snapshot=last)
            self._done(operation)
        machine.refresh_from_db()
        return back

    def _beats(self, machine: Machine, since: datetime, until: datetime) -> None:
        """Heartbeats of the last session, as its agent would have sent them."""
        token = accounts.agent_token(gateway.secrets_of(machine)["token"])
        rental = machine.rental
        if token is None or rental is None:
            return
        at, total = since + BEAT, 16_800_000_000
        while at < until:
            busy = at < until - timedelta(minutes=6)
            gpu = round(self.rng.uniform(78, 97), 1) if busy else 0.0
            cpu = round(self.rng.uniform(55, 96), 1) if busy else round(self.rng.uniform(1, 4), 1)
            evidence = {"seconds": 240, "gpus": [gpu], "cpu": cpu, "disk": 0.1, "net": 9.0, "ssh": 0, "kernels": 0}
            used = int(total * (self.rng.uniform(0.61, 0.66) if busy else 0.18))
            with clock.at(at):
                fleet.record_beat(
                    token=token,
                    body={
                        "instance_id": rental.provider_id,
                        "version": "simulated",
                        "evidence": {**evidence, "jobs": 0},
                        "facts": {"memory_total": total, "memory_used": used},
                    },
                )
            at += BEAT
        machine.refresh_from_db()

    def _sleep(self, session: Session, machine: Machine) -> None:
        actor = Actor.system("gpu_idle", machine.organization_id) if session.idle else self.people[session.person]
        with clock.at(session.sleep):
            operation = fleet.request_hibernate(
                actor=actor,
                machine_id=machine.id,
                reason=f"{IDLE}, {REASON}" if session.idle else REASON,
                cause="idle" if session.idle else "hand",
            )
        running = self._claimed(operation, session.sleep)
        at = session.sleep + timedelta(seconds=self.rng.uniform(20, 75))
        with clock.at(session.sleep + timedelta(seconds=2)):
            row = snapshots.begin_snapshot(
                machine=machine, operation=running, reason="idle" if session.idle else "hand"
            )
        count = Snapshot.objects.for_org(machine.organization_id).filter(machine=machine).count()
        size = int(session.habit.size * (1 + 0.006 * count))
        added = size if count == 1 else int(self.rng.uniform(0.004, 0.05) * size)
        told = {
            "snapshot_id": _digest(str(row.id)),
            "digest": _digest(f"{row.id} files"),
            "files": session.habit.files + 13 * count,
            "size": size,
            "added": added,
        }
        with clock.at(at):
            snapshots.note_written(snapshot=row, result=told)
        with clock.at(at + timedelta(seconds=self.rng.uniform(6, 20))):
            checks = {"entries": told["files"], "files": told["files"], "read_back": 12, "simulated": True}
            snapshots.mark_verified(snapshot=row, machine=machine, checks=checks)
        with clock.at(at + timedelta(seconds=self.rng.uniform(40, 80))):
            ending.fell_asleep(machine=machine, operation=running)
            self._done(running)
        old = Snapshot.objects.for_org(machine.organization_id).filter(machine=machine, state=SnapshotState.VERIFIED)
        rows = list(old.order_by("-created_at")[KEPT:])
        if rows:
            with clock.at(at + timedelta(hours=1)):
                snapshots.note_forgotten(machine=machine, rows=rows)

    def destroy(self, habit: Habit, moment: datetime) -> None:
        machine = self.machines[habit.name]
        with clock.at(moment):
            operation = fleet.request_destroy(
                actor=self.owner, machine_id=machine.id, name=machine.name, reason=f"project over, {REASON}"
            )
        running = self._claimed(operation, moment)
        with clock.at(moment + timedelta(seconds=4)):
            machine.refresh_from_db()
            ending.end_for_good(machine=machine, operation=running, actor=self.owner)
            lanes.revoke_tokens(machine=machine)
            self._done(running)

    def _claimed(self, operation: Operation, asked: datetime) -> Operation:
        with clock.at(asked + timedelta(seconds=1)):
            running = runner.claim(operation.id, owner="simulator")
        if running is None:
            raise RuntimeError(f"the simulated operation {operation.id} was taken by somebody else")
        return running

    def _done(self, operation: Operation) -> None:
        operations.finish(operation, Status.SUCCEEDED, result={"simulated": True})
        self.made += 1


def _market(
    account: CloudAccount, prices: dict[str, Decimal], start: datetime, end: datetime, rng: random.Random
) -> None:
    """Looks at the sandbox's market, as the beat takes them at a real one: on demand by the price book, spot wandering."""
    share = dict(SPOT)
    looks = int((end - start) / MARKET_EVERY)
    moments = [end - MARKET_EVERY * n for n in range(looks, 0, -1)]
    for moment in (*moments, end - timedelta(hours=16), end - timedelta(hours=8), end):
        for interruptible in (False, True):
            offers = list(_offers(account, prices, share, rng, interruptible=interruptible))
            with clock.at(moment):
                fleet.keep_samples(account=account, offers=offers, at=moment, interruptible=interruptible)
        share = {k: min(0.8, max(0.2, v + rng.gauss(0, 0.012) + (SPOT[k] - v) * 0.08)) for k, v in share.items()}


def _offers(
    account: CloudAccount,
    prices: dict[str, Decimal],
    share: dict[str, float],
    rng: random.Random,
    *,
    interruptible: bool,
) -> Iterator[Offer]:
    for name, hourly in prices.items():
        kind = _KINDS[name]
        for letter in "ab":
            if interruptible and rng.random() < 0.12:
                continue  # the zone has none now
            part = share[kind.gpu_name] * rng.uniform(0.97, 1.03) if interruptible else 1
            query = Query(disk_gb=200, interruptible=interruptible)
            yield offer_in(kind, f"{account.region}{letter}", hourly * Decimal(str(round(part, 4))), query)


_KINDS = {kind.name: kind for kind in EC2}


def _number(row: Rental) -> str:
    return f"i-{row.id.hex[-17:]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
