"""Idle machines: warned, then put to sleep. What stands in the way is on the card."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction

from core import clock
from core.actor import Actor
from core.errors import CurfewError
from gpu_fleet import idle
from gpu_fleet.enums import DOZE, HIBERNATE, RESOURCE, Lane
from gpu_fleet.models import Beat, Machine
from gpu_fleet.services import hearing, machines
from gpu_fleet.services.settings import settings_of
from gpu_fleet.services.states import locked, tell_pages
from notifications import services as notifications
from operations import services as operations
from operations.models import Operation

COMPONENT = "idle_watch"
BEATS_KEPT = timedelta(days=7)
# After a hibernation that failed, the next try for idleness waits.
PAUSE = timedelta(minutes=15)


def check_idle() -> list[UUID]:
    """Warn of and order hibernations that are due; returns the machines that are being put to sleep."""
    now = clock.now()
    due = Machine.objects.all_orgs().filter(gone_at=None, sleep_at__isnull=False, rental__lane=Lane.WON)
    ordered = _destroy_stopped()
    for machine in due.filter(sleep_at__lt=now + timedelta(hours=1)):
        rules = settings_of(machine.organization_id)
        if machine.sleep_at is None:
            continue
        if machine.sleep_at <= now:
            if _order(machine):
                ordered.append(machine.id)
        elif machine.sleep_at - now <= timedelta(seconds=rules.warn_seconds) and machine.warned_for != machine.sleep_at:
            _warn(machine)
    return ordered


def _destroy_stopped() -> list[UUID]:
    """The second timer: machines that were saved and stopped, and that nobody has wanted since."""
    rows = Machine.objects.all_orgs().filter(gone_at=None, dozed__isnull=False, provider_state="stopped")
    ordered = []
    for machine in rows.filter(destroy_at__lte=clock.now()):
        if operations.active_operation(RESOURCE, machine.id) is not None or _failed_lately(machine):
            continue
        try:
            machines.request_hibernate(
                actor=Actor.system(COMPONENT, machine.organization_id),
                machine_id=machine.id,
                reason="Nobody wanted it while it was stopped",
                cause="timer",
            )
            ordered.append(machine.id)
        except CurfewError:
            continue
    return ordered


def _warn(machine: Machine) -> None:
    with transaction.atomic():
        row = locked(machine.id)
        if row is None or row.sleep_at != machine.sleep_at or row.sleep_at is None:
            return
        row.warned_for = row.sleep_at
        row.save(update_fields=["warned_for"])
        notifications.notify(
            event="hibernation.warning",
            subject=f"{row.name} is idle and goes to sleep at {row.sleep_at:%H:%M} UTC",
            body="Keep it awake on its page, or let something work on it.",
            url=f"{settings.CURFEW_BASE_URL}{row.get_absolute_url()}",
            organization_id=row.organization_id,
            dedupe_key=f"gpu-idle:{row.id}:{row.sleep_at.isoformat()}",
        )
        tell_pages(row)


def _order(machine: Machine) -> bool:
    """Judge once more, then order. False when it is not idle after all, or something else is under way."""
    now = clock.now()
    rules = settings_of(machine.organization_id)
    verdict = hearing.judge(machine, rules, now)
    if verdict.word is not idle.Word.IDLE or not machine.auto_sleep or not rules.auto_sleep:
        return False
    if operations.active_operation(RESOURCE, machine.id) is not None or _failed_lately(machine):
        return False
    minutes = (now - verdict.idle_since).total_seconds() / 60 if verdict.idle_since else 0
    sleep = machines.request_doze if rules.destroy_after_minutes > 0 else machines.request_hibernate
    try:
        sleep(
            actor=Actor.system(COMPONENT, machine.organization_id),
            machine_id=machine.id,
            reason=f"Idle for {minutes:.0f} min",
            cause="idle",
        )
    except CurfewError:
        return False
    return True


def _failed_lately(machine: Machine) -> bool:
    rows = Operation.objects.for_org(machine.organization_id).filter(
        resource_kind=RESOURCE, resource_id=machine.id, kind__in=[HIBERNATE, DOZE], status="failed"
    )
    return rows.filter(finished_at__gt=clock.now() - PAUSE).exclude(error_code__in=["kept", "came_to_life"]).exists()


def forget_beats() -> int:
    """Beats older than a week go."""
    count, _ = Beat.objects.all_orgs().filter(at__lt=clock.now() - BEATS_KEPT).delete()
    return count
