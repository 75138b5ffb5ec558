"""The skyline of a day: each hour a column of windows, lit for what was spent, dark for what was kept. Pure drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from zoneinfo import ZoneInfo

from costs.reporting import Hour

COLUMN = 40
HEIGHT = 120
STEP = 8
MOST = 14
UNITS = tuple(Decimal(digit).scaleb(power) for power in range(-8, 5) for digit in (1, 2, 5))


@dataclass(frozen=True, slots=True)
class Window:
    """One rectangle; `css` is lit, dark or plan."""

    x: int
    y: int
    css: str


@dataclass(frozen=True, slots=True)
class Label:
    """One hour under the picture; `column` is 0 to 23, the columns that the style sheet knows."""

    column: int
    text: str
    now: bool = False


@dataclass(frozen=True, slots=True)
class Skyline:
    """The picture in numbers: `unit` is the money of one window, `now_x` where the present is."""

    width: int
    height: int
    windows: list[Window]
    labels: list[Label]
    unit: Decimal
    now_x: float
    busiest: Hour | None
    planned: Decimal


def draw(hours: Sequence[Hour], now: datetime, timezone: str) -> Skyline:
    """The windows of the hours of one local day (23, 24 or 25 of them)."""
    highest = max((h.spent + h.kept + h.planned for h in hours), default=Decimal(0))
    unit = next((u for u in UNITS if highest <= u * MOST), UNITS[-1])
    windows = [window for column, hour in enumerate(hours) for window in _column(column, hour, unit)]
    elapsed = (now - hours[0].start).total_seconds() / 3600 if hours else 0.0
    busiest = max(hours, key=lambda h: h.spent, default=None)
    return Skyline(
        width=COLUMN * len(hours),
        height=HEIGHT,
        windows=windows,
        labels=_labels(hours, now, timezone),
        unit=unit,
        now_x=round(min(max(elapsed, 0.0), len(hours)) * COLUMN, 1),
        busiest=busiest if busiest and busiest.spent else None,
        planned=sum((h.planned for h in hours), Decimal(0)),
    )


def _count(amount: Decimal, unit: Decimal) -> int:
    """Whole windows of an amount: at least one for anything at all, so that little never looks like nothing."""
    return max(1, int((amount / unit).quantize(Decimal(1), ROUND_HALF_UP))) if amount > 0 else 0


def _column(column: int, hour: Hour, unit: Decimal) -> list[Window]:
    kinds = (
        ["lit"] * _count(hour.spent, unit) + ["plan"] * _count(hour.planned, unit) + ["dark"] * _count(hour.kept, unit)
    )
    return [
        Window(column * COLUMN + 5, HEIGHT - STEP * (floor + 1), css) for floor, css in enumerate(kinds[: MOST + 1])
    ]


def _labels(hours: Sequence[Hour], now: datetime, timezone: str) -> list[Label]:
    zone = ZoneInfo(timezone)
    if not hours:
        return []
    current = max((i for i, h in enumerate(hours) if h.start <= now), default=0)
    labels = [Label(min(current, 23), now.astimezone(zone).strftime("%H:%M"), now=True)]
    labels += [
        Label(i, hours[i].start.astimezone(zone).strftime("%H:%M"))
        for i in (0, 6, 12, 18)
        if i < len(hours) and abs(i - current) > 2
    ]
    if current < 21:
        labels.append(Label(23, "24:00"))
    return sorted(labels, key=lambda one: one.column)
