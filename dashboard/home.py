"""What the home page says: what is awake and what it costs, what needs a person, what is under way, what was saved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

from django.core.cache import cache
from django.urls import reverse

from accounts import sandbox
from accounts import selectors as accounts
from accounts.enums import AccountStatus
from accounts.models import CloudAccount, Organization
from core import clock, sleepable
from core.actor import Actor
from core.sleepable import SleepableView, SleepState
from costs import ledger, reporting
from costs import selectors as costs
from costs.models import Interval
from dashboard import skyline
from dashboard.words import capital, number_word
from operations import selectors as operations
from operations.selectors import Line
from policies.enums import PERMISSION_VIEW
from policies.rightsizing.selectors import Gold, gold

ON = frozenset({SleepState.AWAKE, SleepState.CONTESTED})
MOVING = frozenset({SleepState.WAKING, SleepState.FALLING})
NEEDS = (SleepState.TROUBLE, SleepState.CONTESTED, SleepState.LOST)
FAILURES_FOR = timedelta(hours=24)
PAST_SECONDS = 60
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class AwakeRow:
    """One thing that is on or changing: `lit` says for each hour of today whether it was awake."""

    view: SleepableView
    icon: str
    kind_label: str
    lit: list[bool]
    ledger_url: str
    hours_awake: int
    sleep_url: str  # empty where this person may not order it


@dataclass(frozen=True, slots=True)
class Need:
    """Something that waits for a person: `words` are the cause, `next_step` what to do, `failed` what may be retried."""

    title: str
    state: str
    words: str
    next_step: str
    url: str
    failed: Line | None = None
    may_retry: bool = False


@dataclass(frozen=True, slots=True)
class Today:
    """The hero: spent and really kept so far today, with the picture of it."""

    sums: costs.Sums
    asleep_intervals: int
    sky: skyline.Skyline


@dataclass(frozen=True, slots=True)
class Month:
    """What was really saved this month so far."""

    name: str
    first: datetime
    until: datetime
    sums: costs.Sums
    causes: list[reporting.Cause]


@dataclass(frozen=True, slots=True)
class Empty:
    """Why there is nothing to show yet; `stage` is connect, scanning, trouble or nothing_found."""

    stage: str
    accounts: list[CloudAccount]
    may_connect: bool
    sandbox_offered: bool


@dataclass(frozen=True, slots=True)
class Home:
    """Everything on the page, evaluated."""

    headline: str
    lead: str
    awake: list[AwakeRow]
    total: int
    rate: Decimal
    unpriced: int
    unmanaged_rate: Decimal
    all_rate: Decimal
    needs: list[Need]
    under_way: list[Line]
    today: Today | None
    month: Month | None
    empty: Empty | None
    gold: Gold | None = None


def build(*, actor: Actor, organization: Organization) -> Home:
    """The home page of one organization. The number of queries does not depend on how much there is."""
    now = clock.now()
    views = sleepable.list_all(actor)
    connected = accounts.list_accounts(actor=actor) if actor.can("accounts.view") else []
    sees_money = actor.can("costs.view")
    day = costs.day_bounds(organization.timezone, now)
    intervals = list(costs.intervals_between(actor, *day)) if sees_money else []
    sums = costs.sum_intervals(intervals, day[0], now)
    awake = _awake_rows(actor, views, intervals, day, now)
    on = [row.view for row in awake if row.view.state in ON]
    rate = sum((v.hourly_cost for v in on if v.hourly_cost is not None), ZERO)
    unpriced = sum(v.hourly_cost is None for v in on)
    sees_operations = actor.can("operations.view")
    return Home(
        headline=headline(
            len(on), len(views), rate, unpriced, waking=sum(row.view.state == SleepState.WAKING for row in awake)
        ),
        lead=_lead(awake, now, organization.timezone),
        awake=awake,
        total=len(views),
        rate=rate,
        unpriced=unpriced,
        unmanaged_rate=sum(
            (v.hourly_cost for v in views if v.state == SleepState.UNMANAGED and v.hourly_cost is not None), ZERO
        ),
        all_rate=sum((v.hourly_cost for v in views if v.hourly_cost is not None), ZERO),
        needs=_needs(actor, views, connected, now) if sees_operations else [],
        under_way=operations.active_lines(actor=actor) if sees_operations else [],
        today=_today(intervals, sums, day, now, organization.timezone) if intervals else None,
        month=_month(actor, organization, sums, day[0], now) if sees_money and views else None,
        empty=None if views else _empty(actor, connected),
        gold=_gold(actor),
    )


def _gold(actor: Actor) -> Gold | None:
    """What resizing could save; None where it is less than a dollar a month, or not for these eyes."""
    found = gold(actor=actor) if actor.can(PERMISSION_VIEW) else None
    return found if found is not None and found.monthly is not None and found.monthly >= 1 else None


def headline(on: int, total: int, rate: Decimal, unpriced: int, waking: int = 0) -> str:
    """The answer to "what is awake and what does it cost"."""
    if total == 0:
        return "Nothing is connected that could sleep"
    if on == 0 and waking:
        return f"Nothing is awake yet, {number_word(waking)} thing{'s are' if waking > 1 else ' is'} waking"
    if on == 0:
        return "Everything is asleep"
    subject = f"{capital(number_word(on))} thing{'s are' if on > 1 else ' is'} awake"
    if unpriced == on:
        return f"{subject}; no price is known"
    cost = f"{subject}, at ${rate:,.2f} an hour"
    return f"{cost}, and {number_word(unpriced)} without a known price" if unpriced else cost


def _lead(awake: list[AwakeRow], now: datetime, timezone: str) -> str:
    local = now.astimezone(ZoneInfo(timezone))
    words = [f"{local:%A} {local.day} {local:%B}, {local:%H:%M %Z}."]
    for state, verb in ((SleepState.WAKING, "waking"), (SleepState.FALLING, "falling asleep")):
        count = sum(row.view.state == state for row in awake)
        if count:
            words.append(f"{capital(number_word(count))} {'is' if count == 1 else 'are'} {verb}.")
    return " ".join(words)


def _awake_rows(
    actor: Actor, views: list[SleepableView], intervals: list[Interval], day: tuple[datetime, datetime], now: datetime
) -> list[AwakeRow]:
    lit = reporting.awake_hours(intervals, *day, now)
    hours = -(-int((day[1] - day[0]).total_seconds()) // 3600)
    kinds = {kind.kind: kind for kind in sleepable.kinds()}
    rows = []
    for view in views:
        if view.state not in ON | MOVING:
            continue
        mine = lit.get((view.kind, view.id), [False] * hours)
        rows.append(
            AwakeRow(
                view=view,
                icon=kinds[view.kind].icon,
                kind_label=kinds[view.kind].label,
                lit=mine,
                hours_awake=sum(mine),
                ledger_url=f"{reverse('costs:ledger')}?period=today&resource={view.kind}:{view.id}",
                sleep_url=(
                    reverse("dashboard:sleepable", args=[view.kind, view.id, "sleep"])
                    if view.state in ON and actor.can(kinds[view.kind].operate)
                    else ""
                ),
            )
        )
    return sorted(rows, key=lambda r: (r.view.hourly_cost is None, -(r.view.hourly_cost or ZERO), r.view.name))


def _needs(actor: Actor, views: list[SleepableView], connected: list[CloudAccount], now: datetime) -> list[Need]:
    failed = {
        (one.operation.resource_kind, one.operation.resource_id): one
        for one in operations.failed_lines(actor=actor, since=now - FAILURES_FOR)
    }
    needs = []
    for view in views:
        if view.state in NEEDS:
            line = failed.pop((view.kind, view.id), None)
            words = view.cause or (line.operation.error if line else "")
            needs.append(_need(actor, Need(view.name, view.state.value, words, "", view.url, line)))
    for account in connected:
        if account.status == AccountStatus.ERROR:
            line = failed.pop(("cloud_account", account.id), None)
            url = reverse("accounts:cloud-account", args=[account.id])
            needs.append(
                _need(
                    actor,
                    Need(account.name, SleepState.TROUBLE.value, account.status_reason, account.next_step, url, line),
                )
            )
    living = {view.id for view in views} | {account.id for account in connected}
    needs += [_need(actor, _failure(line)) for line in failed.values() if line.operation.resource_id in living]
    return needs


def _failure(line: Line) -> Need:
    operation = line.operation
    return Need(
        operation.resource_label,
        "failed",
        f"{line.label} failed. {operation.error}",
        operation.next_step,
        line.url,
        line,
    )


def _need(actor: Actor, need: Need) -> Need:
    if need.failed is None:
        return need
    next_step = need.next_step or need.failed.operation.next_step
    return replace(need, next_step=next_step, may_retry=operations.may_control(actor, need.failed.operation))


def _today(
    intervals: list[Interval], sums: costs.Sums, day: tuple[datetime, datetime], now: datetime, timezone: str
) -> Today:
    hours = reporting.hours_of_day(intervals, *day, now)
    asleep = sum(1 for i in intervals if i.phase == "asleep" and ledger.overlap(i.started_at, i.ended_at, day[0], now))
    return Today(sums, asleep, skyline.draw(hours, now, timezone))


def _month(actor: Actor, organization: Organization, today: costs.Sums, day_start: datetime, now: datetime) -> Month:
    """Today's part is summed each time; what lies before today is kept for a minute."""
    local = now.astimezone(ZoneInfo(organization.timezone))
    first = reporting.period_named("month", organization.timezone).start
    sums = _merged(_past(actor, organization.id, first, day_start), today)
    return Month(f"{local:%B}", first, now, sums, reporting.causes_of(sums))


def _past(actor: Actor, organization_id: UUID, first: datetime, until: datetime) -> costs.Sums:
    key = f"home.past.{organization_id}.{first:%Y%m%d%H}.{until:%Y%m%d%H}"
    known: costs.Sums | None = cache.get(key)
    if known is None:
        known = costs.sums_between(actor, first, until)
        cache.set(key, known, PAST_SECONDS)
    return known


def _merged(past: costs.Sums, today: costs.Sums) -> costs.Sums:
    return costs.Sums(
        spent=past.spent + today.spent,
        saved=past.saved + today.saved,
        awake_hours=past.awake_hours + today.awake_hours,
        asleep_hours=past.asleep_hours + today.asleep_hours,
        intervals=past.intervals + today.intervals,
        unpriced=past.unpriced + today.unpriced,
        by_cause={
            key: past.by_cause.get(key, ZERO) + today.by_cause.get(key, ZERO)
            for key in {**past.by_cause, **today.by_cause}
        },
    )


def _empty(actor: Actor, connected: list[CloudAccount]) -> Empty:
    real = [account for account in connected if account.method]
    if any(a.status == AccountStatus.SCANNING for a in real):
        stage = "scanning"
    elif any(a.status == AccountStatus.ERROR for a in real):
        stage = "trouble"
    else:
        stage = "nothing_found" if real else "connect"
    return Empty(stage, real, actor.can("accounts.manage"), sandbox.is_offered())
