"""GPU machines as Sleepables: what schedules, bulk actions and the home page see of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal
from uuid import UUID

from core.actor import Actor
from core.sleepable import SleepableView, SleepState
from gpu_fleet import selectors, services
from gpu_fleet.enums import OPERATE, RESOURCE, VIEW, WAKE, provider_words
from gpu_fleet.models import Machine
from gpu_fleet.services.machines import subject_of


class GpuMachineKind:
    """The registered kind of GPU machines; see `core.sleepable.SleepableKind`."""

    kind = RESOURCE
    label = "GPU machine"
    label_plural = "GPU machines"
    icon = "cpu"
    operate = OPERATE

    def list(self, actor: Actor, ids: Collection[UUID] | None = None) -> Sequence[SleepableView]:
        """Living machines; none for an actor that may not see them."""
        if not actor.can(VIEW):
            return []
        rows = selectors.list_machines(actor=actor, ids=ids)
        active = selectors.active_operations([row.id for row in rows])
        learned = selectors.learned_seconds(WAKE, {subject_of(row) for row in rows})
        return [
            _view(row, active[row.id].id if row.id in active else None, learned.get(subject_of(row))) for row in rows
        ]

    def request_sleep(
        self, actor: Actor, resource_id: UUID, *, reason: str, options: dict[str, object] | None = None
    ) -> UUID | None:
        """Order a hibernation; `options` may hold `cause` and `idempotency_key`."""
        told = _options(options)
        return services.request_hibernate(actor=actor, machine_id=resource_id, reason=reason, **told).id

    def request_wake(
        self, actor: Actor, resource_id: UUID, *, reason: str, options: dict[str, object] | None = None
    ) -> UUID | None:
        """Order a wake; options as for `request_sleep`."""
        return services.request_wake(actor=actor, machine_id=resource_id, reason=reason, **_options(options)).id


def _options(options: dict[str, object] | None) -> dict[str, str]:
    return {
        name: str(value) for name, value in (options or {}).items() if name in ("cause", "idempotency_key") and value
    }


def _view(row: Machine, operation_id: UUID | None, wake_seconds: float | None) -> SleepableView:
    rental = row.rental
    gpu = f"{rental.gpu_count} x {rental.gpu_name}" if rental and rental.gpu_count else row.wanted.get("gpu_name", "")
    parts = (gpu, provider_words(row.provider).label, rental.location if rental else "")
    return SleepableView(
        kind=RESOURCE,
        id=row.id,
        organization_id=row.organization_id,
        name=row.name,
        detail=" · ".join(part for part in parts if part),
        url=row.get_absolute_url(),
        state=SleepState(row.observed_state),
        since=row.state_since,
        hourly_cost=row.hourly_cost,
        protections=() if row.restored else ("is not backed up before its files are proven to be back",),
        wake_seconds=wake_seconds,
        cause=row.error or row.cause_label,
        operation_id=operation_id,
        asleep_hourly_cost=Decimal(0),
    )
