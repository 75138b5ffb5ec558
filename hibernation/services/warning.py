"""Telling people before something sleeps, with a signed link that opens a page on which they can put it off.

A warning is written in the transaction that notes it, and sent by the outbox. A channel that is dead delays nothing,
unless the schedule says "no warning, no sleep": then a sleep waits until somebody was reached.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core import signing
from django.urls import reverse

from core import sleepable
from core.actor import Actor
from core.errors import NotFound
from core.sleepable import SleepState, Standing
from hibernation import schedule as engine
from hibernation.enums import Wanted
from hibernation.models import Schedule
from hibernation.services.periods import Row, Wishes
from notifications import selectors as notifications
from notifications import services as notifying

EVENT = "hibernation.warning"
SALT = "hibernation.snooze"
NOBODY = "It stays awake: nobody could be warned yet, and this schedule puts nothing to sleep without a warning."
NAMES = 8


@dataclass(frozen=True, slots=True)
class Rule:
    """How one schedule warns."""

    name: str
    zone: str
    warn: timedelta
    required: bool


@dataclass(frozen=True, slots=True)
class SnoozeLink:
    """What a link is about: the sleeps of a schedule at one moment."""

    schedule_id: UUID
    sleeps_at: datetime


def rules() -> dict[UUID, Rule]:
    """How every schedule warns."""
    rows = Schedule.objects.all_orgs().values_list("id", "name", "zone", "warn_minutes", "warn_required")
    return {key: Rule(name, zone, timedelta(minutes=minutes), required) for key, name, zone, minutes, required in rows}


def is_near(row: Row, standing: Standing, rule: Rule, now: datetime) -> bool:
    """Whether people must be told now that it sleeps soon."""
    return (
        row.wanted == Wanted.AWAKE
        and row.changes_at is not None
        and row.changes_at != row.warned_for
        and bool(rule.warn)
        and now < row.changes_at <= now + rule.warn
        and standing.state == SleepState.AWAKE
        and not standing.protection
    )


def judge(
    due: list[tuple[Row, Standing]], rules_: dict[UUID, Rule], wishes: Wishes
) -> tuple[list[tuple[Row, Standing]], list[Row]]:
    """The orders that may be given now, and the rows that must wait for a warning to arrive; the latter are marked.
    One question for each schedule and moment that waits."""
    allowed: list[tuple[Row, Standing]] = []
    held: list[Row] = []
    reached: dict[str, datetime | None] = {}
    for row, standing in due:
        rule = rules_[row.schedule_id]
        if row.wanted != Wanted.ASLEEP or not rule.required or _ordered_by_person(row, standing, wishes):
            allowed.append((row, standing))
            continue
        if row.warned_for is None:  # the time to warn was missed: it is made up for
            row.warned_for = wishes.now + rule.warn
        key = _key(row.schedule_id, row.warned_for)
        if key not in reached:
            since = row.warned_for - timedelta(days=1)
            reached[key] = notifications.first_sent_at(row.organization_id, key, since)
        at = reached[key]
        if at is not None and wishes.now >= (row.warned_for if at <= row.warned_for else at + rule.warn):
            allowed.append((row, standing))
        else:
            row.trouble = NOBODY
            held.append(row)
    return allowed, held


def _ordered_by_person(row: Row, standing: Standing, wishes: Wishes) -> bool:
    if not wishes.orders_of(row):
        return False
    return wishes.of(row, standing.wake_seconds).cause.kind is engine.CauseKind.OVERRIDE


def tell(rows: Collection[Row], rules_: dict[UUID, Rule], now: datetime) -> int:
    """Put one message for each schedule and moment into the outbox; how many moments were told."""
    groups: dict[tuple[UUID, UUID, datetime], list[Row]] = defaultdict(list)
    for row in rows:
        if row.warned_for is not None:
            groups[row.organization_id, row.schedule_id, row.warned_for].append(row)
    for (organization_id, schedule_id, at), members in groups.items():
        _tell(organization_id, schedule_id, at, members, rules_[schedule_id], now)
    return len(groups)


def _tell(organization_id: UUID, schedule_id: UUID, at: datetime, rows: list[Row], rule: Rule, now: datetime) -> None:
    minutes = max(1, round((at - now).total_seconds() / 60))
    soon = f"in {minutes} minute{'s' if minutes != 1 else ''}"
    names = _names(rows)
    if len(rows) == 1:
        subject = f"⚠️ {names[0]} is going to sleep {soon}"
    else:
        subject = f"⚠️ {len(rows)} things are going to sleep {soon} ({rule.name})"
    more = [f"and {len(rows) - len(names)} more"] if len(rows) > len(names) else []
    notifying.notify(
        event=EVENT,
        organization_id=organization_id,
        subject=subject,
        body=(
            f"Save your work. {', '.join([*names, *more])}: asleep from {local(at, rule.zone)}, "
            f"by the schedule {rule.name}. The link opens a page on which you can put it off."
        ),
        url=link(schedule_id, at),
        dedupe_key=f"{_key(schedule_id, at)}{min(r.id for r in rows).hex}",
    )


def tell_slept(slept: Collection[tuple[Row, str]], now: datetime) -> None:
    """Tell, once a schedule, what it puts to sleep now."""
    groups: dict[tuple[UUID, UUID], list[str]] = defaultdict(list)
    for row, name in slept:
        groups[row.organization_id, row.schedule_id].append(name)
    if not groups:
        return
    known = dict(Schedule.objects.all_orgs().filter(id__in={key for _, key in groups}).values_list("id", "name"))
    for (organization_id, schedule_id), names in groups.items():
        if schedule_id not in known:
            continue
        what = names[0] if len(names) == 1 else f"{len(names)} things"
        more = [f"and {len(names) - NAMES} more"] if len(names) > NAMES else []
        notifying.notify(
            event="hibernation.slept",
            organization_id=organization_id,
            subject=f"{known[schedule_id]} puts {what} to sleep",
            body=", ".join([*names[:NAMES], *more]),
            url=f"{settings.CURFEW_BASE_URL}{reverse('hibernation:detail', args=[schedule_id])}",
            dedupe_key=f"slept:{schedule_id.hex}:{int(now.timestamp())}",
        )


def _names(rows: list[Row]) -> list[str]:
    some = rows[:NAMES]
    kind = sleepable.kind_named(some[0].resource_kind)
    views = kind.list(Actor.system("schedule", some[0].organization_id), [r.resource_id for r in some])
    names = [v.name for v in views]
    told = [f"{v.name} ({v.detail})" if v.detail and names.count(v.name) > 1 else v.name for v in views]
    return told or [some[0].resource_kind]


def local(at: datetime, zone: str) -> str:
    """`Mon 18:00 Europe/Berlin`."""
    return f"{at.astimezone(ZoneInfo(zone)):%a %H:%M} {zone}"


def _key(schedule_id: UUID, at: datetime) -> str:
    return f"sleep:{schedule_id.hex}:{int(at.timestamp())}:"


def link(schedule_id: UUID, sleeps_at: datetime) -> str:
    """The absolute address of the page; whoever has it may put off these sleeps until they begin."""
    token = signing.dumps([schedule_id.hex, int(sleeps_at.timestamp())], salt=SALT)
    return f"{settings.CURFEW_BASE_URL}{reverse('hibernation:snooze', args=[token])}"


def read_link(token: str) -> SnoozeLink:
    """What a link is about. Raises NotFound for one that Curfew did not sign."""
    try:
        schedule_id, seconds = signing.loads(token, salt=SALT)
        return SnoozeLink(UUID(schedule_id), datetime.fromtimestamp(seconds, tz=ZoneInfo("UTC")))
    except (signing.BadSignature, ValueError, TypeError):
        raise NotFound("This link is not one of ours, or it was cut off.") from None
