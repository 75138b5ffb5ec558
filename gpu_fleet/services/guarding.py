"""Every two seconds: what standbys should be is compared with what they are, and silent holders are looked at."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from core import clock
from core.actor import Actor
from core.errors import CurfewError
from core.providers import ProviderError
from gpu_fleet import gateway, loss
from gpu_fleet.enums import RESOURCE, SNAPSHOT, Lane, Side, StandbyState
from gpu_fleet.models import Machine, Rental, Standby
from gpu_fleet.providers.base import GpuProvider
from gpu_fleet.services import copying, leases, standby, switches
from gpu_fleet.services.settings import private_key_of, settings_of
from operations import services as operations
from operations.enums import ACTIVE
from operations.models import Operation

log = logging.getLogger(__name__)
COMPONENT = "gpu_standby"
PROBES = 8
# After a failure the next try waits.
PAUSE = timedelta(minutes=2)
FRESH = timedelta(seconds=6)
SPARE_SILENT = timedelta(seconds=30)


def guard_standbys() -> int:
    """Bring every standby a step nearer to what it should be; returns how many changes were ordered."""
    rows = list(
        Standby.objects.all_orgs()
        .filter(Q(machine__gone_at=None) | Q(spare__gone_at=None, spare__rental__isnull=False))
        .select_related("machine", "machine__rental", "machine__account", "spare", "spare__rental", "spare__account")
    )
    if not rows:
        return 0
    ids = [m for row in rows for m in (row.machine_id, row.spare_id) if m]
    active = {
        o.resource_id: o
        for o in Operation.objects.all_orgs().filter(resource_kind=RESOURCE, resource_id__in=ids, status__in=ACTIVE)
    }
    probes = _probe([row for row in rows if _silent(row)])
    count = 0
    for row in rows:
        try:
            count += _guard(row, active, probes.get(row.id))
        except CurfewError as refused:
            log.warning("standby_guard_refused", extra={"standby": str(row.id), "reason": refused.message})
    return count


def _system(row: Standby) -> Actor:
    return Actor.system(COMPONENT, row.organization_id)


def _guard(row: Standby, active: Mapping[UUID, Operation], probe: loss.Probe | None) -> bool:
    spare, machine = row.spare, row.machine
    spare_busy = spare is None or spare.id in active
    if machine.gone_at is not None:
        return row.holder != Side.CPU and _give_up(row, spare_busy, "Its machine was destroyed")
    if not row.enabled:
        return _give_up(row, spare_busy, "Its standby is off")
    if row.holder == Side.CPU:
        return _while_serving(row, active, probe)
    asleep = machine.rental_id is None and machine.error_code != "interrupted"
    if asleep and machine.id not in active:
        if row.holder != Side.NOBODY or row.state not in (StandbyState.OFF, StandbyState.TROUBLE):
            _down(row)
        return _give_up(row, spare_busy, "Its machine sleeps")
    if machine.rental_id is not None:
        _hold(row)
        if spare is not None and spare.rental_id is None and not spare_busy and _rested(spare):
            if standby.request_spare(actor=_system(row), standby=row) is not None:
                return True
        else:
            _spare_word(row, spare_busy)
    return _judge(row, active.get(machine.id), probe)


def _give_up(row: Standby, busy: bool, why: str) -> bool:
    if row.spare is None or row.spare.rental_id is None or busy or row.spare.gone_at is not None:
        return False
    standby.request_release(actor=_system(row), standby=row, reason=why)
    return True


def _down(row: Standby) -> None:
    with transaction.atomic():
        found = leases.held(row.id)
        if found is not None and found.holder != Side.CPU:
            standby.stand_down(found)
            found.save()


def _hold(row: Standby) -> None:
    """The machine that is awake holds the lease, unless the other side does."""
    rental = row.machine.rental
    if rental is None or rental.lane != Lane.WON or row.releasing:
        return
    if row.holder == Side.NOBODY or (row.holder == Side.GPU and row.holder_rental != rental.id):
        rows = Rental.objects.for_org(row.organization_id).filter(lane=Lane.GONE)
        before = rows.filter(id=row.holder_rental).first() if row.holder_rental else None
        leases.grant(standby_id=row.id, side=Side.GPU, rental_id=rental.id, proven_gone=before.id if before else None)
        row.refresh_from_db(fields=["holder", "holder_rental", "epoch", "renewed_at", "lease_until"])


def _rested(spare: Machine) -> bool:
    return not spare.error_code or spare.state_since is None or clock.now() - spare.state_since > PAUSE


def _spare_word(row: Standby, busy: bool) -> None:
    """Trouble and its end, as far as the standby's own machine is concerned."""
    spare = row.spare
    if spare is None:
        return
    seen = row.cpu_seen_at
    silent = row.state == StandbyState.READY and (seen is None or clock.now() - seen > SPARE_SILENT)
    words = ""
    if not busy and spare.rental_id is None and spare.error_code:
        words = spare.error
    elif silent:
        words = "The standby is not heard."
    state = row.state
    if words and state != StandbyState.SWITCHING:
        state = StandbyState.TROUBLE
    elif state == StandbyState.TROUBLE and not words and spare.rental_id is not None:
        ready = copying.caught_up(row, spare.rental_id) and seen is not None and clock.now() - seen < FRESH
        state = StandbyState.READY if ready else StandbyState.SYNCING
    if (state, words) != (row.state, row.error) and (words or row.state != state):
        Standby.objects.for_org(row.organization_id).filter(id=row.id).update(state=state, error=words[:500])


def _silent(row: Standby) -> bool:
    if not row.enabled or row.holder == Side.NOBODY or row.renewed_at is None or row.releasing:
        return False
    return clock.now() - row.renewed_at >= loss.LATE


def _judge(row: Standby, operation: Operation | None, probe: loss.Probe | None) -> bool:
    """Order a failover when the machine that served is lost."""
    machine = row.machine
    if row.holder != Side.GPU or row.releasing or row.renewed_at is None or row.lease_until is None:
        return False
    if machine.rental_id is None and machine.error_code == "interrupted":
        probe = loss.Probe(provider="gone")
    verdict = loss.judge(clock.now(), row.renewed_at, row.lease_until, probe)
    if verdict.word is loss.Word.FINE and row.lost_at is not None:
        Standby.objects.for_org(row.organization_id).filter(id=row.id).update(lost_at=None, lost_why="")
    if verdict.word is not loss.Word.LOST:
        return False
    if operation is not None:
        if operation.kind == SNAPSHOT and operation.cancel_requested_at is None:
            operations.cancel_operation(actor=_system(row), operation_id=operation.id)
        return False
    if row.lost_at is None:
        switches.note_lost(standby=row, why=verdict.why)
    ready = row.spare is not None and row.spare.rental_id is not None and bool(row.pushed_snapshot)
    if not row.auto_failover or not ready or not _may_try(machine):
        return False
    standby.request_failover(actor=_system(row), machine_id=machine.id, reason=verdict.why.capitalize(), cause="lost")
    return True


def _may_try(machine: Machine) -> bool:
    """An operation that failed for this machine lately is not repeated at once."""
    rows = Operation.objects.all_orgs().filter(resource_kind=RESOURCE, resource_id=machine.id, status="failed")
    return not rows.filter(finished_at__gt=clock.now() - PAUSE, kind__in=copying.WITH_US).exists()


def _while_serving(row: Standby, active: Mapping[UUID, Operation], probe: loss.Probe | None) -> bool:
    """The standby serves: watch over it, get a GPU again, go back."""
    machine = row.machine
    if machine.id in active:
        return False
    back = machine.rental_id is not None and row.pulled_rental == machine.rental_id
    there = row.gpu_seen_at is not None and clock.now() - row.gpu_seen_at < FRESH
    if row.renewed_at and row.lease_until and not row.releasing:
        verdict = loss.judge(clock.now(), row.renewed_at, row.lease_until, probe)
        if verdict.word is loss.Word.LOST:
            if row.lost_at is None or row.lost_at < (row.switched_at or row.lost_at):
                switches.note_lost(standby=row, why=f"the standby: {verdict.why}")
            if not (back and there and _may_try(machine)):
                return False
            standby.request_failback(actor=_system(row), machine_id=machine.id, reason=verdict.why, cause="lost")
            return True
    if not row.auto_return or not _may_try(machine):
        return False
    if back and there and copying.caught_up(row, machine.rental_id):
        standby.request_failback(actor=_system(row), machine_id=machine.id, reason="The GPU is back", cause="return")
        return True
    if not (back and there):
        standby.request_recover(actor=_system(row), machine_id=machine.id, reason="Its standby serves", cause="return")
        return True
    return False


def _probe(rows: list[Standby]) -> dict[UUID, loss.Probe]:
    """Ask the providers and try logins, all at once; the database is read before."""
    asked: list[tuple[UUID, GpuProvider, Rental, str]] = []
    for row in rows:
        machine = row.machine if row.holder == Side.GPU else row.spare
        if machine is None or machine.rental is None or machine.rental.id != row.holder_rental:
            continue
        try:
            provider = gateway.open_provider(machine.account)
            asked.append((row.id, provider, machine.rental, private_key_of(settings_of(row.organization_id))))
        except (ProviderError, CurfewError) as bad:
            log.warning("standby_probe_failed", extra={"standby": str(row.id), "reason": str(bad)})
    if not asked:
        return {}
    with ThreadPoolExecutor(PROBES) as pool:
        return dict(pool.map(_probe_one, asked))


def _probe_one(asked: tuple[UUID, GpuProvider, Rental, str]) -> tuple[UUID, loss.Probe]:
    key, provider, rental, private = asked
    try:
        state = provider.describe([rental.provider_id])[rental.provider_id].state.value
    except ProviderError:
        state = ""
    if state in ("running", "unknown", ""):
        return key, loss.Probe(state, gateway.login(rental, private) == "")
    return key, loss.Probe(state)
