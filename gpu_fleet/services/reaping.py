"""Losers and leftovers: destroyed, and proven gone by the provider. Touched is only what carries our label, belongs to
the account and has a row of ours; everything else is listed for a person."""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from accounts.models import CloudAccount
from audit import services as audit
from core import clock
from core.actor import Actor
from core.errors import InvalidState, NotFound
from core.providers import ProviderError
from gpu_fleet import gateway
from gpu_fleet.enums import MANAGE, OPEN_LANES, RESOURCE, WAKE, Lane, State
from gpu_fleet.models import Machine, Rental
from gpu_fleet.providers.base import GpuProvider, RentalState
from gpu_fleet.providers.base import Rental as Seen
from gpu_fleet.providers.registry import GPU_PROVIDERS
from gpu_fleet.services import ending, lanes
from gpu_fleet.services.states import LOST_AFTER, locked, mark_lost, settle, tell_pages
from operations.enums import ACTIVE
from operations.models import Operation

log = logging.getLogger(__name__)
LABEL = "curfew-"
ASK_AGAIN = timedelta(seconds=20)
WATCH_EVERY = timedelta(seconds=30)
MISSING_FOR = timedelta(seconds=20)
# A failed call may show its effect late: rows that "never existed" are looked for once more within this time.
LATE_FOR = timedelta(hours=2)


def reap(*, limit: int = 500) -> int:
    """Close every lane whose race is over; returns how many were proven gone. Safe to run beside itself."""
    _close_deserted()
    due = Rental.objects.all_orgs().filter(lane=Lane.CLOSING).select_related("machine", "account")
    groups: dict[UUID, list[Rental]] = defaultdict(list)
    for row in due.order_by("closing_at")[:limit]:
        groups[row.account_id].append(row)
    return sum(_reap_account(rows) for rows in groups.values())


def _close_deserted() -> None:
    """Open lanes whose operation has ended without them (the worker died in its last instruction)."""
    rows = Rental.objects.all_orgs().filter(lane__in=OPEN_LANES).select_related("machine")
    ids = {row.operation_id for row in rows}
    if not ids:
        return
    active = set(Operation.objects.all_orgs().filter(id__in=ids, status__in=ACTIVE).values_list("id", flat=True))
    lanes.close(rows=[row for row in rows if row.operation_id not in active], outcome="Its race is over")


def _reap_account(rows: list[Rental]) -> int:
    try:
        provider = gateway.open_provider(rows[0].account)
        return _reap_with(provider, rows)
    except ProviderError as failure:
        log.warning("gpu_reap_failed", extra={"account_id": str(rows[0].account_id), "code": failure.code})
        return 0


def _reap_with(provider: GpuProvider, rows: list[Rental]) -> int:
    unknown = [row for row in rows if not row.provider_id]
    done = _find_unknown(provider, unknown) if unknown else 0
    named = [row for row in rows if row.provider_id]
    if not named:
        return done
    now = clock.now()
    fresh = [row for row in named if row.asked_at is None or now - row.asked_at > ASK_AGAIN]
    if fresh:
        ids = [row.id for row in fresh]
        Rental.objects.all_orgs().filter(id__in=ids).update(asked_at=now)
        provider.destroy([row.provider_id for row in fresh])
    seen = provider.describe([row.provider_id for row in named])
    for row in named:
        if seen[row.provider_id].state is RentalState.GONE:
            lanes.gone(row=row)
            done += 1
    return done


def _find_unknown(provider: GpuProvider, rows: list[Rental]) -> int:
    """Lanes that were given up before the provider told an id: look them up; absent from complete looks for a while,
    they never existed."""
    found = {(r.label, r.host_id): r for r in provider.find({row.label for row in rows})}
    done, now = 0, clock.now()
    for row in rows:
        rental = found.get((row.label, row.host_id))
        if rental is not None:
            Rental.objects.all_orgs().filter(id=row.id, provider_id="").update(provider_id=rental.provider_id)
            row.provider_id = rental.provider_id
        elif now - row.intended_at > lanes.VISIBLE_AFTER:
            lanes.gone(row=row)
            done += 1
    return done


@dataclass(frozen=True, slots=True)
class Orphan:
    """A rental at the provider that no row of ours accounts for; `ours_by_label` when it bears a label like ours."""

    account_id: UUID
    account: str
    provider_id: str
    label: str
    state: str
    gpu: str
    hourly: str | None
    ours_by_label: bool


def sweep_account(account: CloudAccount) -> list[Orphan]:
    """Look at everything in the account. What is ours by label and row but should not be there is closed; the rest that
    nobody accounts for is returned, untouched."""
    seen = gateway.open_provider(account).everything()
    rows = Rental.objects.for_org(account.organization_id).filter(account=account).select_related("machine")
    recent = rows.filter(Q(gone_at=None) | Q(gone_at__gt=clock.now() - LATE_FOR))
    by_id = {row.provider_id: row for row in recent if row.provider_id}
    by_batch = {(row.label, row.host_id): row for row in recent}
    orphans = []
    for rental in seen:
        row = by_id.get(rental.provider_id) or by_batch.get((rental.label, rental.host_id))
        if row is None:
            orphans.append(_orphan(account, rental))
        elif row.lane in (Lane.NEVER, Lane.GONE) and row.label == rental.label:
            _came_late(row, rental)
    return orphans


def _orphan(account: CloudAccount, rental: Seen) -> Orphan:
    price = None if rental.hourly is None else str(rental.hourly)
    ours = rental.label.startswith(LABEL)
    gpu = f"{rental.gpu_count} x {rental.gpu_name}" if rental.gpu_name else ""
    return Orphan(account.id, account.name, rental.provider_id, rental.label, rental.state.value, gpu, price, ours)


def _came_late(row: Rental, rental: Seen) -> None:
    """An order that seemed to have failed took effect after all: it is ours, and has to go."""
    with transaction.atomic():
        Rental.objects.for_org(row.organization_id).filter(id=row.id, lane__in=[Lane.NEVER, Lane.GONE]).update(
            lane=Lane.CLOSING, provider_id=rental.provider_id, closing_at=clock.now(), gone_at=None, asked_at=None
        )
    log.warning("gpu_rental_came_late", extra={"rental": str(row.id), "label": row.label})


def sweep_late() -> int:
    """Accounts in which a doubtful order was placed lately are looked at as a whole; returns how many."""
    doubtful = Rental.objects.all_orgs().filter(unsure=True, intended_at__gt=clock.now() - LATE_FOR)
    accounts = CloudAccount.objects.all_orgs().filter(id__in=doubtful.values("account_id"))
    count = 0
    for account in accounts:
        try:
            sweep_account(account)
            count += 1
        except ProviderError as failure:
            log.warning("gpu_sweep_failed", extra={"account_id": str(account.id), "code": failure.code})
    return count


def list_orphans(*, actor: Actor) -> tuple[list[Orphan], list[str]]:
    """Everything that nobody accounts for in the actor's accounts, and which accounts could not be read."""
    actor.require(MANAGE, "look for orphaned machines")
    accounts = CloudAccount.objects.visible_to(actor).filter(provider__in=GPU_PROVIDERS).exclude(method="")
    found: list[Orphan] = []
    problems: list[str] = []
    for account in accounts:
        try:
            found += sweep_account(account)
        except ProviderError as failure:
            problems.append(f"{account.name}: {failure.message}")
    return found, problems


def destroy_orphan(*, actor: Actor, account_id: UUID | str, provider_id: str, confirm: str) -> None:
    """A person decides that an untracked rental is to go. `confirm` repeats its id. Raises InvalidState when it is tracked."""
    actor.require(MANAGE, "destroy orphaned machines")
    account = CloudAccount.objects.visible_to(actor).filter(id=account_id).first()
    if account is None:
        raise NotFound("There is no such cloud account.")
    if confirm != provider_id:
        raise InvalidState("Repeat the id of the rental to destroy it.", code="not_confirmed")
    if not any(orphan.provider_id == provider_id for orphan in sweep_account(account)):
        raise InvalidState("It is tracked, or gone already.", code="tracked")
    with transaction.atomic():
        audit.record(
            actor=actor,
            verb="gpu.orphan_destroyed",
            target_kind="gpu_rental",
            target_id=provider_id,
            target_label=f"{account.name} {provider_id}",
            organization_id=account.organization_id,
        )
    refused = gateway.open_provider(account).destroy([provider_id])[provider_id]
    if refused is not None:
        raise refused


def watch() -> int:
    """Ask the providers about machines in use: outbid, stopped, gone. Returns how many machines changed."""
    now = clock.now()
    due = Machine.objects.all_orgs().exclude(rental=None).filter(gone_at=None)
    due = due.filter(Q(observed_at=None) | Q(observed_at__lt=now - WATCH_EVERY) | Q(missing_since__isnull=False))
    groups: dict[UUID, list[Machine]] = defaultdict(list)
    for machine in due.select_related("account", "rental")[:500]:
        groups[machine.account_id].append(machine)
    return sum(_watch_account(machines) for machines in groups.values())


def _watch_account(machines: list[Machine]) -> int:
    try:
        provider = gateway.open_provider(machines[0].account)
        ids = [machine.rental.provider_id for machine in machines if machine.rental]
        seen = provider.describe(ids)
    except ProviderError as failure:
        log.warning("gpu_watch_failed", extra={"account_id": str(machines[0].account_id), "code": failure.code})
        return 0
    return sum(_watched(machine, seen[machine.rental.provider_id]) for machine in machines if machine.rental)


def _watched(machine: Machine, seen: Seen) -> bool:
    busy = Operation.objects.all_orgs().filter(resource_kind=RESOURCE, resource_id=machine.id, status__in=ACTIVE)
    if busy.exclude(kind=WAKE).exists():
        return False
    if seen.state is RentalState.GONE:
        return _missing(machine)
    with transaction.atomic():
        row = locked(machine.id)
        if row is None or row.rental_id != machine.rental_id:
            return False
        before = (row.provider_state, row.observed_state)
        row.provider_state, row.observed_at, row.missing_since = seen.state.value, clock.now(), None
        if seen.outbid and before[0] == "running":
            mark_lost(machine=row, why="outbid: its provider stopped it", event="gpu.interrupted")
        changed = settle(row, WAKE if busy.exists() else "", clock.now()) or before[0] != row.provider_state
        row.save(update_fields=["provider_state", "observed_at", "missing_since", "observed_state", "state_since"])
        if changed:
            tell_pages(row)
    return changed


def _missing(machine: Machine) -> bool:
    now = clock.now()
    with transaction.atomic():
        row = locked(machine.id)
        if row is None or row.rental_id != machine.rental_id:
            return False
        if row.missing_since is None:
            row.missing_since, row.observed_at = now, now
            row.save(update_fields=["missing_since", "observed_at"])
            return False
        if now - row.missing_since < MISSING_FOR:
            return False
        words = "its provider no longer has it"
        mark_lost(machine=row, why=words, event="gpu.interrupted")
    ending.rental_vanished(machine=machine, words=f"{machine.name}: {words}.")
    return True


def mark_silent() -> int:
    """Machines whose agent has not been heard for three heartbeats are lost; a person is told once."""
    now = clock.now()
    rows = Machine.objects.all_orgs().exclude(rental=None).filter(gone_at=None, observed_state=State.AWAKE)
    silent = rows.filter(Q(heard_at=None, awake_since__lt=now - LOST_AFTER) | Q(heard_at__lt=now - LOST_AFTER))
    count = 0
    for machine in silent[:500]:
        with transaction.atomic():
            row = locked(machine.id)
            if row is None or row.rental_id is None or not settle(row, "", now):
                continue
            row.sleep_at = row.idle_since = None
            row.verdict, row.verdict_why = "unknown", "it was not heard lately"
            row.save()
            mark_lost(machine=row, why="no heartbeat for ninety seconds")
            tell_pages(row)
            count += 1
    return count
