"""Rentals from intent to proof of absence. Every write is one short transaction; providers are called by executors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from uuid import UUID

from django.db import transaction

from accounts import tokens
from accounts.enums import AgentKind
from accounts.models import AgentToken
from audit import services as audit
from core import clock, encryption
from core.actor import Actor
from costs.enums import Phase
from gpu_fleet import gateway
from gpu_fleet.enums import DONE_LANES, OPEN_LANES, TOPIC, Desired, Lane
from gpu_fleet.models import Machine, Rental
from gpu_fleet.providers.base import Offer, RentalState, Rented
from gpu_fleet.providers.base import Rental as Seen
from gpu_fleet.services.states import book_loser, enter, forget_error, locked, price, tell_pages
from operations.models import Operation

FAILED_HOSTS_FOR = timedelta(hours=6)
# A rental that a failed call may have made can show up late.
VISIBLE_AFTER = timedelta(seconds=45)
RUNNER = "gpu_race"


def label_of(machine: Machine, operation: Operation, round_number: int) -> str:
    """The batch's label at the provider: ours by its first word, unique by machine, operation and round."""
    return f"curfew-{machine.id.hex[:12]}-{operation.id.hex[:8]}-r{round_number}"


def failed_hosts(machine: Machine) -> set[str]:
    """Hosts of the account that failed us lately; they are not asked again for a while."""
    rows = Rental.objects.for_org(machine.organization_id).filter(account_id=machine.account_id, failed=True)
    return set(rows.filter(intended_at__gt=clock.now() - FAILED_HOSTS_FOR).values_list("host_id", flat=True))


def intend(*, machine: Machine, operation: Operation, round_number: int, offers: Sequence[Offer]) -> list[Rental]:
    """Write down what is about to be rented. The rows of a round that was written before are returned unchanged."""
    label = label_of(machine, operation, round_number)
    with transaction.atomic():
        mine = Rental.objects.for_org(machine.organization_id).filter(operation_id=operation.id)
        known = list(mine.filter(round=round_number))
        if known:
            return known
        now = clock.now()
        rows = [
            Rental(
                organization_id=machine.organization_id,
                machine=machine,
                account_id=machine.account_id,
                operation_id=operation.id,
                generation=machine.generation + 1,
                round=round_number,
                label=label,
                provider=machine.provider,
                offer_id=offer.offer_id,
                host_id=offer.host_id,
                gpu_name=offer.gpu_name[:80],
                gpu_count=offer.gpu_count,
                vram_mb=offer.vram_mb,
                location=offer.location[:120],
                interruptible=offer.interruptible,
                hourly=offer.hourly,
                stopped_hourly=offer.stopped_hourly,
                intended_at=now,
                moved_at=now,
            )
            for offer in offers
        ]
        Rental.objects.for_org(machine.organization_id).bulk_create(rows)
        tell_pages(machine)
    return rows


def mint_token(*, machine: Machine, name: str) -> str:
    """A lasting token for the machine's agent; its text is returned this once."""
    made = tokens.new_opaque("cfa")
    with transaction.atomic():
        row = AgentToken(
            organization_id=machine.organization_id,
            kind=AgentKind.MACHINE,
            name=name[:120],
            prefix=made.prefix,
            digest=made.digest,
            resource_id=machine.id,
        )
        row.save(force_insert=True)
        audit.record(
            actor=Actor.system(RUNNER, machine.organization_id),
            verb="agent_token.created",
            target=row,
            organization_id=machine.organization_id,
        )
    return made.text


def revoke_tokens(*, machine: Machine, but: UUID | None = None) -> int:
    """End the tokens of earlier agents of the machine."""
    rows = AgentToken.objects.for_org(machine.organization_id).filter(
        kind=AgentKind.MACHINE, resource_id=machine.id, revoked_at=None
    )
    found: int = (rows.exclude(id=but) if but else rows).update(revoked_at=clock.now())
    return found


def record_answers(*, rows: Iterable[Rental], answers: Iterable[Rented]) -> None:
    """What the provider answered to the orders of a round."""
    by_offer = {answer.offer_id: answer for answer in answers}
    for row in rows:
        answer = by_offer.get(row.offer_id)
        if answer is None or row.lane != Lane.INTENDED:
            continue
        words = answer.error.message[:200] if answer.error else ""
        if answer.provider_id and answer.error is None:
            _move(row, Lane.CREATED, provider_id=answer.provider_id, created_at=clock.now())
        elif answer.provider_id:
            # it was refused and exists all the same: it costs money until it is destroyed
            _move(row, Lane.CLOSING, provider_id=answer.provider_id, outcome=words, failed=True, closing_at=clock.now())
        elif answer.unsure:
            _change(row, unsure=True, progress="Waiting for the provider to show it")
        else:
            _move(row, Lane.NEVER, outcome=words or "Offer gone", failed=True, gone_at=clock.now())


def resolve(*, rows: Iterable[Rental], found: Iterable[Seen], complete: bool = True) -> None:
    """Match what bears our label with what was intended. What a complete look does not show in time never existed."""
    seen = {(rental.label, rental.host_id): rental for rental in found}
    now = clock.now()
    for row in rows:
        if row.lane != Lane.INTENDED:
            continue
        rental = seen.get((row.label, row.host_id))
        if rental is not None:
            created = rental.created_at or now
            _move(row, Lane.CREATED, provider_id=rental.provider_id, unsure=False, created_at=created)
        elif complete and now - row.intended_at > VISIBLE_AFTER:
            # whether it was ever asked for is only known of those with a doubtful answer: of others no host is to blame
            _move(row, Lane.NEVER, outcome="The order did not become a rental", failed=row.unsure, gone_at=now)


def observe(*, row: Rental, seen: Seen) -> None:
    """What the provider says of an open lane now. Progress of any kind counts as movement."""
    now = clock.now()
    fields: dict[str, object] = {}
    if seen.ssh_host and (row.ssh_host, row.ssh_port) != (seen.ssh_host, seen.ssh_port):
        fields |= {"ssh_host": seen.ssh_host, "ssh_port": seen.ssh_port}
    if seen.progress and seen.progress != row.progress:
        fields |= {"progress": seen.progress[:120], "moved_at": now}
    if seen.state is RentalState.GONE:
        _gone(row, now, "The provider took it away")
    elif seen.state in (RentalState.DEAD, RentalState.OFFLINE, RentalState.STOPPED):
        words = seen.words or {"offline": "The host went offline", "stopped": "It was stopped"}.get(
            seen.state, "It ended"
        )
        close(rows=[row], outcome=words, failed=True)
    elif seen.state is RentalState.RUNNING and row.lane == Lane.CREATED:
        _move(row, Lane.RUNNING, running_at=now, **fields)
    elif fields:
        _change(row, **fields)


def heard(*, row: Rental, host_keys: Sequence[str]) -> None:
    """The agent of this rental spoke; the keys that it tells are pinned the first time."""
    now = clock.now()
    fields: dict[str, object] = {"heard_at": now}
    if row.heard_at is None:
        fields["moved_at"] = now
    if host_keys and not row.host_keys:
        fields["host_keys"] = list(host_keys)[:8]
    _change(row, **fields)


def ready(*, row: Rental) -> None:
    """We logged in: this lane may win."""
    now = clock.now()
    _move(row, Lane.READY, login_at=now, ready_at=now, progress="Logged in")


def close(*, rows: Iterable[Rental], outcome: str, failed: bool = False) -> None:
    """These lanes are out; what may exist at the provider is destroyed and proven gone by the reaper."""
    now = clock.now()
    for row in rows:
        if row.lane in (*OPEN_LANES, Lane.WON):
            fails = failed or row.failed
            _move(row, Lane.CLOSING, outcome=outcome[:200], failed=fails, closing_at=now)


def win(*, machine: Machine, operation: Operation, rental_id: UUID) -> Rental | None:
    """One transaction: this rental is the machine now, all others of the operation are out, the ledger says awake."""
    actor = Actor.system(RUNNER, machine.organization_id, operation.request_id)
    with transaction.atomic():
        row = locked(machine.id)
        rental: Rental | None = (
            Rental.objects.for_org(machine.organization_id).select_for_update().filter(id=rental_id).first()
        )
        if row is None or rental is None or row.gone_at is not None:
            return None
        if row.rental_id == rental.id:
            return rental
        now = clock.now()
        rental.lane, rental.outcome, rental.moved_at = Lane.WON, "Won", now
        rental.save(update_fields=["lane", "outcome", "moved_at"])
        others = Rental.objects.for_org(machine.organization_id).filter(operation_id=operation.id, lane__in=OPEN_LANES)
        close(rows=list(others.exclude(id=rental.id)), outcome="Slower than the winner")
        began = rental.running_at or now
        row.rental, row.generation = rental, rental.generation
        row.awake_since, row.heard_at, row.provider_state, row.observed_at = began, rental.heard_at, "running", now
        row.missing_since = row.idle_since = row.sleep_at = row.warned_for = None
        row.verdict = row.verdict_why = ""
        row.restored = not row.snapshots.for_org(row.organization_id).filter(state="verified").exists()
        secrets = gateway.secrets_of(row)
        secrets["token"] = mint_token(machine=row, name=f"{row.name} #{row.generation}")
        row.sealed = encryption.seal(secrets, bound_to=row.seal_name)
        forget_error(row)
        price(row, rental, began, actor)
        enter(row, Phase.AWAKE, began, source=f"{row.provider}: running", actor=actor, operation=operation)
        row.desired_state = Desired.AWAKE
        row.save()
        tell_pages(row)
    return rental


def gone(*, row: Rental, at_least: str = "") -> None:
    """A read of the provider proves that it is no more."""
    _gone(row, clock.now(), at_least)


def _gone(row: Rental, now: object, words: str) -> None:
    at = clock.now()
    with transaction.atomic():
        lost = row.machine.rental_id != row.id and row.running_at is not None and row.lane != Lane.WON
        if row.running_at is not None and lost and row.outcome != "Won":
            book_loser(
                row, row.machine.name, began=row.running_at, ended=at, actor=Actor.system(RUNNER, row.organization_id)
            )
        _move(row, Lane.GONE, gone_at=at, **({"outcome": words[:200]} if words and not row.outcome else {}))


def _move(row: Rental, lane: Lane, **fields: object) -> bool:
    """Change the lane by a conditional UPDATE on the one it was in; a lane that is done stays done."""
    if row.lane in DONE_LANES:
        return False
    given = {"lane": lane, "moved_at": clock.now(), **fields}
    with transaction.atomic():
        won = Rental.objects.for_org(row.organization_id).filter(id=row.id, lane=row.lane).update(**given)
        if not won:
            row.refresh_from_db()
            return False
        for name, value in given.items():
            setattr(row, name, value)
        _publish(row)
    return True


def _change(row: Rental, **fields: object) -> None:
    with transaction.atomic():
        Rental.objects.for_org(row.organization_id).filter(id=row.id).update(**fields)
        for name, value in fields.items():
            setattr(row, name, value)
        _publish(row)


def _publish(row: Rental) -> None:
    from core.live import publish

    publish(row.organization_id, TOPIC, [row.machine_id])


def open_of(operation_id: UUID, organization_id: UUID) -> list[Rental]:
    """Every lane of an operation, in order of its rounds."""
    rows = Rental.objects.for_org(organization_id).filter(operation_id=operation_id)
    return list(rows.select_related("machine").order_by("round", "intended_at", "id"))
