"""Standbys as pages and answers show them. Money is from the ledger: the standby's own intervals."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from core import clock
from core.actor import Actor
from costs import ledger
from costs.models import Interval
from gpu_fleet.enums import RESOURCE, VIEW, Side, StandbyState
from gpu_fleet.models import Standby
from gpu_fleet.selectors.days import days_of

FRESH = timedelta(seconds=15)


@dataclass(slots=True)
class StandbyView:
    """One standby. `rpo_seconds` is what would be lost if the side that serves vanished now; None is unknown."""

    row: Standby
    rpo_seconds: int | None
    hourly: Decimal | None
    spent: Decimal
    can_fail_over: bool
    can_fail_back: bool
    word: str
    icon: str
    tone: str


_WORDS = {
    StandbyState.OFF: ("Standby sleeps", "moon", ""),
    StandbyState.PREPARING: ("Standby is being rented", "loader", "warn"),
    StandbyState.SYNCING: ("First copy to the standby", "refresh", "warn"),
    StandbyState.READY: ("Standing by", "shield-check", "good"),
    StandbyState.SWITCHING: ("Changing sides", "arrows-exchange", "warn"),
    StandbyState.SERVING: ("Standby serves", "lifebuoy", "warn"),
    StandbyState.TROUBLE: ("Standby in trouble", "alert-triangle", "bad"),
}


def list_standbys(*, actor: Actor, machine_ids: Collection[UUID] | None = None) -> list[StandbyView]:
    """The organization's standbys by their machines' names."""
    actor.require(VIEW, "see standbys")
    rows = Standby.objects.visible_to(actor).filter(machine__gone_at=None)
    if machine_ids is not None:
        rows = rows.filter(machine_id__in=list(machine_ids))
    rows = rows.select_related("machine", "machine__rental", "spare", "spare__rental", "account")
    found = list(rows.order_by("machine__name"))
    ids = [row.spare_id for row in found if row.spare_id]
    since, now = days_of(actor)[0][0], clock.now()
    spent: dict[UUID, Decimal] = {}
    for interval in Interval.objects.visible_to(actor).filter(resource_kind=RESOURCE, resource_id__in=ids):
        part = ledger.overlap(interval.started_at, interval.ended_at, since, now)
        if part and interval.price is not None:
            spent[interval.resource_id] = spent.get(interval.resource_id, Decimal(0)) + ledger.amount(
                interval.price, *part
            )
    return [_view(row, spent.get(row.spare_id) if row.spare_id else None) for row in found]


def _view(row: Standby, spent: Decimal | None) -> StandbyView:
    now = clock.now()
    through = row.pushed_through
    rented = row.spare is not None and row.spare.rental_id is not None
    if not row.enabled:
        word, icon, tone = "Standby is off", "shield-off", ""
    else:
        word, icon, tone = _WORDS[StandbyState(row.state)]
    return StandbyView(
        row=row,
        rpo_seconds=None if through is None or not row.enabled else max(0, round((now - through).total_seconds())),
        hourly=row.spare.hourly_cost if row.spare is not None and rented else None,
        spent=spent or Decimal(0),
        can_fail_over=row.enabled and rented and row.holder == Side.GPU and bool(row.pushed_snapshot),
        can_fail_back=row.enabled and row.holder == Side.CPU,
        word=word,
        icon=icon,
        tone=tone,
    )
