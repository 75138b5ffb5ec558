"""The race as an executor's step: offers, intents, orders, logins, winner. Safe to repeat after a kill anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.conf import settings

from core import clock, encryption
from core.providers import CapacityUnavailable, ProviderError
from gpu_fleet import gateway, race
from gpu_fleet.enums import OPEN_LANES, StorageKind, provider_words
from gpu_fleet.enums import Lane as Place
from gpu_fleet.models import Machine, Rental
from gpu_fleet.offers import query_of
from gpu_fleet.onstart import DEFAULT_IMAGE, environment, onstart
from gpu_fleet.providers.base import GpuProvider, Offer, Order
from gpu_fleet.services import lanes
from gpu_fleet.services.settings import private_key_of, settings_of
from gpu_fleet.wanted import Wanted
from operations.registry import OperationFailed, RunAgain, RunContext

LOOK_SECONDS = 2.0
STAGES = {
    Place.INTENDED: race.Stage.ORDERED,
    Place.CREATED: race.Stage.CREATED,
    Place.RUNNING: race.Stage.RUNNING,
    Place.READY: race.Stage.READY,
}


def step(context: RunContext, machine: Machine, provider: GpuProvider) -> Rental:
    """Go on with the race; returns the winner. Raises RunAgain to wait, OperationFailed when no round is left."""
    rules = race.RULES[race.Strategy(Wanted.of(machine.wanted).strategy)]
    rows = lanes.open_of(context.operation.id, machine.organization_id)
    winner = next((row for row in rows if row.lane == Place.WON), None)
    if winner is not None:
        return winner
    number = int(context.state.get("round", 0))
    if number == 0:
        _open_round(context, machine, provider, 1, rules)
        number, rows = 1, lanes.open_of(context.operation.id, machine.organization_id)
    _order_round(context, machine, provider, [row for row in rows if row.round == number], number)
    _look(context, machine, provider, rows)
    return _judge(context, machine, provider, rows, number, rules)


def _judge(
    context: RunContext, machine: Machine, provider: GpuProvider, rows: list[Rental], number: int, rules: race.Rules
) -> Rental:
    started = datetime.fromisoformat(context.state["round_at"])
    decision = race.decide(
        [_lane(row) for row in rows],
        round_number=number,
        round_started=started.timestamp(),
        now=clock.now().timestamp(),
        rules=rules,
    )
    by_id = {str(row.id): row for row in rows}
    if isinstance(decision, race.Won):
        rental = lanes.win(machine=machine, operation=context.operation, rental_id=by_id[decision.key].id)
        if rental is None:
            raise OperationFailed("The machine is no more.", code="gone")
        _say(context, 3, f"Host {rental.host_id} won")
        return rental
    if isinstance(decision, race.Wait):
        running = sum(1 for row in rows if row.lane in (Place.RUNNING, Place.READY))
        alive = sum(1 for row in rows if row.lane in OPEN_LANES)
        _say(context, 2, f"Round {number}: {alive} in the race, {running} running")
        raise RunAgain(LOOK_SECONDS)
    lanes.close(rows=[by_id[key] for key in decision.out], outcome=_why_out(started), failed=True)
    if isinstance(decision, race.GiveUp):
        tried = len(rows)
        raise OperationFailed(
            f"None of the {tried} machines that were tried could be used: {_words(rows)}",
            code="race_lost",
            next_step="Wake it again: other hosts will be asked. A wider price or GPU choice helps.",
        )
    _open_round(context, machine, provider, decision.round, rules)
    raise RunAgain(0.1)


def _why_out(started: datetime) -> str:
    return f"Not ready within {(clock.now() - started).total_seconds():.0f} s"


def _words(rows: Sequence[Rental]) -> str:
    told: dict[str, int] = {}
    for row in rows:
        told[row.outcome or "no answer"] = told.get(row.outcome or "no answer", 0) + 1
    return "; ".join(f"{count} x {words}" for words, count in sorted(told.items(), key=lambda x: -x[1])[:3])


def _lane(row: Rental) -> race.Lane:
    return race.Lane(
        key=str(row.id),
        round=row.round,
        stage=STAGES.get(Place(row.lane), race.Stage.OUT),
        price=row.hourly,
        moved_at=row.moved_at.timestamp(),
        ready_at=row.ready_at.timestamp() if row.ready_at else None,
    )


def _open_round(context: RunContext, machine: Machine, provider: GpuProvider, number: int, rules: race.Rules) -> None:
    """Choose offers and write the intents down. Nothing has been asked for yet."""
    context.check_cancel()
    wanted = Wanted.of(machine.wanted)
    _say(context, 1, f"Round {number}: looking for offers")
    found = provider.offers(query_of(wanted))
    rows = lanes.open_of(context.operation.id, machine.organization_id)
    tried = {row.host_id for row in rows if row.failed or row.lane != Place.NEVER}
    chosen = race.choose(
        found,
        strategy=race.Strategy(wanted.strategy),
        count=rules.batch,
        excluded_hosts=tried | lanes.failed_hosts(machine) | {str(context.state.get("left") or "")},
    )
    if not chosen:
        if number > 1:
            raise OperationFailed(
                "No further offer fits, and none of those tried could be used.",
                code="race_lost",
                next_step="Wake it again later, or allow a wider choice of GPU and price.",
            )
        raise CapacityUnavailable(
            "No offer fits what this machine wants." if not found else "Every host that fits has failed lately.",
            code="no_offer",
            transient=False,
            next_step="Allow a higher price, another GPU or another place.",
        )
    token = lanes.mint_token(machine=machine, name=f"{machine.name} #{machine.generation + 1} round {number}")
    sealed = encryption.seal({"token": token}, bound_to=f"operation:{context.operation.id}")
    lanes.intend(machine=machine, operation=context.operation, round_number=number, offers=chosen)
    context.checkpoint(round=number, round_at=clock.now().isoformat(), token=sealed, ordered=0)


def _order_round(context: RunContext, machine: Machine, provider: GpuProvider, rows: list[Rental], number: int) -> None:
    """Place the round's orders, once. Killed in between, the successor looks the label up instead of ordering again."""
    if int(context.state.get("ordered", 0)) >= number:
        return
    intended = [row for row in rows if row.lane == Place.INTENDED]
    if int(context.state.get("ordering", 0)) < number and intended:
        context.check_cancel()
        _say(context, 1, f"Round {number}: renting {len(intended)}")
        context.checkpoint(ordering=number)
        answers = provider.rent([_order(context, machine, row) for row in intended])
        lanes.record_answers(rows=intended, answers=answers)
    context.checkpoint(ordered=number)


def _order(context: RunContext, machine: Machine, row: Rental) -> Order:
    wanted = Wanted.of(machine.wanted)
    rules = settings_of(machine.organization_id)
    token = str(encryption.unseal(context.state["token"], bound_to=f"operation:{context.operation.id}")["token"])
    words = provider_words(machine.provider)
    folders: dict[str, str] = {}
    if words.shares_folders and rules.storage == StorageKind.LOCAL:
        folder = gateway.folder_of(gateway.owner_of(machine))
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folders = {str(folder): gateway.INSIDE}
    offer = Offer(
        row.offer_id, row.host_id, row.gpu_name, row.gpu_count, row.vram_mb, row.hourly, interruptible=row.interruptible
    )
    return Order(
        offer=offer,
        label=row.label,
        image=wanted.image or ("" if words.shares_folders else DEFAULT_IMAGE),
        disk_gb=wanted.disk_gb,
        env=environment(url=settings.CURFEW_BASE_URL, token=token, public_key=rules.ssh_public, paths=wanted.paths),
        onstart=onstart(wanted.paths),
        bid=row.hourly if row.interruptible else None,
        folders=folders,
    )


def _look(context: RunContext, machine: Machine, provider: GpuProvider, rows: list[Rental]) -> None:
    """Read what the provider says of every open lane, and log in where the agent has been heard."""
    waiting = [row for row in rows if row.lane == Place.INTENDED]
    try:
        if waiting:
            lanes.resolve(rows=waiting, found=provider.find({row.label for row in waiting}))
        known = [row for row in rows if row.provider_id and row.lane in OPEN_LANES]
        seen = provider.describe([row.provider_id for row in known])
    except ProviderError as lost:
        if not lost.transient:
            raise
        _say(context, 2, f"{lost.message} Looking again.")
        raise RunAgain(float(getattr(lost, "retry_after", None) or LOOK_SECONDS * 2)) from None
    key = ""
    for row in known:
        lanes.observe(row=row, seen=seen[row.provider_id])
        if row.lane == Place.RUNNING and row.heard_at is not None and row.host_keys:
            key = key or private_key_of(settings_of(machine.organization_id))
            if gateway.login(row, key) == "":
                lanes.ready(row=row)
    context.renew()


def _say(context: RunContext, done: int, step_words: str) -> None:
    told: dict[str, Any] = {"step": step_words, "done": done, "total": 5, "percent": done * 15}
    context.progress(**told)
