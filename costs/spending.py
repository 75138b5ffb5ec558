"""Who spent what, against which budget, and what is to come. Reads only; money is always a sum of intervals."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

from accounts.models import Organization
from core import clock
from core.actor import Actor
from core.errors import NotFound
from costs import budget_rules, totals
from costs.budget_rules import Rules
from costs.models import Budget, BudgetStep, Interval

ZERO = Decimal(0)
# A pace is the median of so many days before today; fewer than three prove nothing.
PACE_DAYS = 14
FEWEST_DAYS = 3


@dataclass(frozen=True, slots=True)
class Share:
    """One team's or person's part; `name` is "" for what belongs to nobody."""

    name: str
    spent: Decimal
    burn_rate: Decimal
    budget: Decimal | None = None

    @property
    def percent(self) -> int | None:
        return budget_rules.share(self.spent, self.budget) if self.budget else None


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the period comes to. `as_now`: if nothing changes from now on. `at_pace`: the rest of today as now, and every
    further day like the median of the days before (None: fewer than three days are known).
    """

    end: datetime
    spent: Decimal
    as_now: Decimal
    at_pace: Decimal | None
    days_known: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A budget with how far it is used up. `doing` says what it does now in words, "" while it does nothing."""

    budget: Budget
    rules: Rules
    spent: Decimal
    burn_rate: Decimal
    percent: int
    start: datetime
    end: datetime
    runs_out_at: datetime | None
    steps: tuple[BudgetStep, ...] = ()

    @property
    def over(self) -> bool:
        return self.percent >= 100

    @property
    def acting(self) -> bool:
        return self.percent >= self.rules.act_at and self.rules.acts(clock.now())

    @property
    def refusing(self) -> bool:
        """Whether starts that it covers are refused now."""
        return self.acting and self.rules.refuse_starts

    def covers(self, *, team: str, person: str) -> bool:
        """Whether a start of this team's thing by this person counts against it."""
        return _is_of(team, person, self.budget.scope, self.budget.subject)

    @property
    def bar(self) -> int:
        return min(100, self.percent)

    @property
    def scope_label(self) -> str:
        return budget_rules.SCOPES.get(self.budget.scope, self.budget.scope)


@dataclass(frozen=True, slots=True)
class Day:
    """Today, whole: shares add up to `spent`."""

    start: datetime
    end: datetime
    spent: Decimal
    saved: Decimal
    burn_rate: Decimal
    unpriced: int
    teams: list[Share]
    people: list[Share]
    by_resource: dict[UUID, Decimal]
    end_of_day: Forecast
    end_of_month: Forecast


def _rates(actor: Actor) -> list[Interval]:
    return list(Interval.objects.visible_to(actor).filter(ended_at=None))


def _rate(rows: list[Interval], scope: str, subject: str) -> Decimal:
    return sum((r.price for r in rows if r.price is not None and _is_of(r.team, r.person, scope, subject)), ZERO)


def _is_of(team: str, person: str, scope: str, subject: str) -> bool:
    return scope == "organization" or (team if scope == "team" else person) == subject


def _budgets(actor: Actor) -> list[Budget]:
    return list(Budget.objects.visible_to(actor).order_by("scope", "subject", "period"))


def _shares(spent: dict[str, Decimal], rows: list[Interval], scope: str, budgets: list[Budget]) -> list[Share]:
    limits = {b.subject: b.amount for b in budgets if b.scope == scope and b.period == "day"}
    names = {*(n for n, money in spent.items() if money), *limits}
    found = [Share(n, spent.get(n, ZERO), _rate(rows, scope, n), limits.get(n)) for n in names]
    return sorted(found, key=lambda s: (-s.spent, s.name))


def today(*, actor: Actor, organization: Organization) -> Day:
    """Spent today in the organization's own day, by team and person, and where that leads. Forbidden without costs.view."""
    actor.require("costs.view", "see what things cost")
    now = clock.now()
    start, end = budget_rules.window("day", organization.timezone, now)
    found = totals.between(actor, start, end)
    rows, budgets = _rates(actor), _budgets(actor)
    rate = _rate(rows, "organization", "")
    day, month = _forecasts(actor, organization, now, (start, end), found.spent, rate)
    return Day(
        start=start,
        end=end,
        spent=found.spent,
        saved=found.saved,
        burn_rate=rate,
        unpriced=sum(r.price is None for r in rows),
        teams=_shares(found.by("team"), rows, "team", budgets),
        people=_shares(found.by("person"), rows, "person", budgets),
        by_resource=found.by_resource(),
        end_of_day=day,
        end_of_month=month,
    )


def _forecasts(
    actor: Actor,
    organization: Organization,
    now: datetime,
    day: tuple[datetime, datetime],
    spent: Decimal,
    rate: Decimal,
) -> tuple[Forecast, Forecast]:
    start, end = day
    rest = rate * _hours(now, end)
    first, last = budget_rules.window("month", organization.timezone, now)
    month = spent + totals.between(actor, first, start, things=False).spent
    known = _days_before(actor, organization, start)
    pace = budget_rules.median(known) if len(known) >= FEWEST_DAYS else None
    days_left = round((last - end).total_seconds() / 86400)
    at_pace = None if pace is None else month + rest + pace * days_left
    return (
        Forecast(end, spent, spent + rest, spent + rest, len(known)),
        Forecast(last, month, month + rate * _hours(now, last), at_pace, len(known)),
    )


def _days_before(actor: Actor, organization: Organization, start: datetime) -> list[Decimal]:
    """What each of the last fourteen whole days cost, since the ledger began."""
    first = Interval.objects.visible_to(actor).order_by("started_at").values_list("started_at", flat=True).first()
    if first is None:
        return []
    zone, days, right = ZoneInfo(organization.timezone), [], start
    for _ in range(PACE_DAYS):
        left = (right.astimezone(zone) - timedelta(days=1)).astimezone(ZoneInfo("UTC"))
        if left < first:
            break
        days.append((left, right))
        right = left
    return totals.spent_on(actor, days)


def _hours(start: datetime, end: datetime) -> Decimal:
    return Decimal(max(0.0, (end - start).total_seconds())) / 3600


def standings(*, actor: Actor, organization: Organization, only: UUID | None = None) -> list[Standing]:
    """Every budget with how far it is used up, and what it did in this period. Forbidden without costs.view."""
    actor.require("costs.view", "see budgets")
    budgets = [b for b in _budgets(actor) if only in (None, b.id)]
    if only is not None and not budgets:
        raise NotFound("There is no such budget.")
    if not budgets:
        return []
    now, rows = clock.now(), _rates(actor)
    windows = {p: budget_rules.window(p, organization.timezone, now) for p in {b.period for b in budgets}}
    sums = {p: totals.between(actor, *w, things=False) for p, w in windows.items()}
    steps = list(
        BudgetStep.objects.visible_to(actor)
        .filter(budget__in=budgets, window__in=[w[0] for w in windows.values()])
        .order_by("at")
    )
    return [_standing(b, sums[b.period], windows[b.period], rows, steps, now) for b in budgets]


def _standing(
    budget: Budget,
    found: totals.Totals,
    window: tuple[datetime, datetime],
    rows: list[Interval],
    steps: list[BudgetStep],
    now: datetime,
) -> Standing:
    mine = found.grouped(lambda k: _is_of(k.team, k.person, budget.scope, budget.subject))
    spent, rate = mine.get(True, ZERO), _rate(rows, budget.scope, budget.subject)
    left = budget.amount - spent
    out = now + timedelta(hours=float(left / rate)) if rate > 0 and left > 0 else None
    return Standing(
        budget=budget,
        rules=Rules.from_settings(budget.settings),
        spent=spent,
        burn_rate=rate,
        percent=budget_rules.share(spent, budget.amount),
        start=window[0],
        end=window[1],
        runs_out_at=out if out and out < window[1] else None,
        steps=tuple(s for s in steps if s.budget_id == budget.id and s.window == window[0]),
    )


def subjects(*, actor: Actor) -> dict[str, list[str]]:
    """Teams and people that the ledger knows, for the choices of a form."""
    rows = Interval.objects.visible_to(actor)
    return {
        name: sorted(v for v in rows.exclude(**{name: ""}).order_by().values_list(name, flat=True).distinct()[:500])
        for name in ("team", "person")
    }
