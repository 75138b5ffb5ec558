"""What a budget does when money runs out: the owner's rules, and what follows from them. Pure Python.

Warnings are always given. Acting (refusing new starts, putting to sleep what is idle) happens only when the owner said
so, and never to something that is not known to be idle: not knowing counts as busy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from core.errors import InvalidInput

ORDERS: dict[str, str] = {
    "dearest": "The dearest first",
    "idle_longest": "What has been idle longest first",
    "newest": "What was woken last first",
}
SCOPES: dict[str, str] = {"organization": "The organization", "team": "A team", "person": "A person"}
PERIODS: dict[str, str] = {"day": "Day", "month": "Month"}
USUAL_WARNINGS = (50, 80, 100)
MOST_WARNINGS = 8


@dataclass(frozen=True, slots=True)
class Rules:
    """`warn_at` and `act_at` are per cent of the amount; `lifted_until` suspends acting, never warning."""

    warn_at: tuple[int, ...] = USUAL_WARNINGS
    act_at: int = 100
    refuse_starts: bool = False
    sleep_idle: bool = False
    order: str = "dearest"
    lifted_until: datetime | None = None

    @classmethod
    def from_settings(cls, told: Mapping[str, Any]) -> Rules:
        """The rules of a budget's row; what is missing or damaged there is the usual, and acts never."""
        lifted = told.get("lifted_until")
        return cls(
            warn_at=tuple(p for p in told.get("warn_at", USUAL_WARNINGS) if isinstance(p, int)),
            act_at=int(told.get("act_at", 100)),
            refuse_starts=told.get("refuse_starts") is True,
            sleep_idle=told.get("sleep_idle") is True,
            order=told["order"] if told.get("order") in ORDERS else "dearest",
            lifted_until=datetime.fromisoformat(lifted) if isinstance(lifted, str) else None,
        )

    def to_settings(self) -> dict[str, Any]:
        return {
            "warn_at": list(self.warn_at),
            "act_at": self.act_at,
            "refuse_starts": self.refuse_starts,
            "sleep_idle": self.sleep_idle,
            "order": self.order,
            "lifted_until": self.lifted_until.isoformat() if self.lifted_until else None,
        }

    def checked(self) -> Rules:
        """The same with warnings sorted and each once. Raises InvalidInput per field."""
        errors: dict[str, list[str]] = {}
        if len(self.warn_at) > MOST_WARNINGS or any(not 1 <= p <= 500 for p in self.warn_at):
            errors["warn_at"] = [f"At most {MOST_WARNINGS} thresholds between 1 and 500 per cent."]
        if not 1 <= self.act_at <= 500:
            errors["act_at"] = ["A share between 1 and 500 per cent."]
        if self.order not in ORDERS:
            errors["order"] = [f"One of: {', '.join(ORDERS)}."]
        if errors:
            raise InvalidInput(errors=errors)
        return replace(self, warn_at=tuple(sorted(set(self.warn_at))))

    def acts(self, now: datetime) -> bool:
        """Whether it may act at all now."""
        return (self.refuse_starts or self.sleep_idle) and not (self.lifted_until and now < self.lifted_until)


@dataclass(frozen=True, slots=True)
class Awake:
    """Something awake that a budget could put to sleep. `idle_since` None: busy, or not known, which counts as busy."""

    kind: str
    id: UUID
    name: str
    hourly: Decimal | None
    since: datetime | None
    idle_since: datetime | None
    protected: bool = False


def share(spent: Decimal, amount: Decimal) -> int:
    """Per cent of the budget that is spent, rounded down: 100 means that it is used up."""
    return int(spent * 100 / amount) if amount > 0 else 0


def reached(rules: Rules, spent: Decimal, amount: Decimal) -> list[int]:
    """The warnings that are due by now, the lowest first."""
    percent = share(spent, amount)
    return [p for p in rules.warn_at if percent >= p]


def to_sleep(candidates: Iterable[Awake], order: str) -> list[Awake]:
    """What may be put to sleep, in the owner's order: only what is known to be idle, costs something and is not
    protected."""
    idle = [c for c in candidates if c.idle_since is not None and c.hourly != 0 and not c.protected]
    return sorted(idle, key=lambda c: (_rank(c, order), str(c.id)))


def _rank(one: Awake, order: str) -> tuple[float, float]:
    cost, idle = -float(one.hourly or 0), one.idle_since.timestamp() if one.idle_since else 0.0
    if order == "idle_longest":
        return idle, cost
    if order == "newest":
        return -(one.since.timestamp() if one.since else 0.0), idle
    return cost, idle


def window(period: str, timezone: str, now: datetime) -> tuple[datetime, datetime]:
    """Start and end (UTC) of the local day or month that holds the moment."""
    zone = ZoneInfo(timezone)
    first = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if period == "month":
        first = first.replace(day=1)
        last = (first + timedelta(days=32)).replace(day=1)
    else:
        last = first + timedelta(days=1)
    return first.astimezone(ZoneInfo("UTC")), last.replace(fold=0).astimezone(ZoneInfo("UTC"))


def median(values: Sequence[Decimal]) -> Decimal | None:
    """The middle of the values; None without any."""
    ordered = sorted(values)
    if not ordered:
        return None
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
