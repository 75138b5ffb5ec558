"""How amounts, lengths of time and moments read. Plain functions, no Django."""

from __future__ import annotations

import datetime as dt
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

NO_DATA = "no data"
_SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "INR": "₹", "BRL": "R$", "AUD": "A$", "CAD": "CA$"}
_WHOLE = {"JPY", "KRW"}
_CENT = Decimal("0.01")
_SMALLEST = Decimal("0.000001")


def money(amount: Decimal | int | str | None, currency: str = "USD") -> str:
    """Amount with its currency. Two decimals, more below a cent, so that a small price never reads as nothing.

    None is "no data". Raises ValueError for what is not a number.
    """
    if amount is None or amount == "":
        return NO_DATA
    try:
        value = Decimal(str(amount))
    except InvalidOperation as error:
        raise ValueError(f"not an amount: {amount!r}") from error
    if not value.is_finite():
        return NO_DATA
    sign, size = ("−" if value < 0 else ""), abs(value)
    symbol = _SYMBOLS.get(currency)
    text = _digits(size, currency)
    less = "<" if text.startswith("<") else ""
    text = text.removeprefix("<")
    if not text.strip("0.,"):
        sign = ""
    return f"{less}{sign}{symbol}{text}" if symbol else f"{less}{sign}{text} {currency}"


def _digits(size: Decimal, currency: str) -> str:
    if currency in _WHOLE and size >= 1:
        return f"{size.quantize(Decimal(1), ROUND_HALF_UP):,}"
    if size == 0 or size >= _CENT:
        return f"{size.quantize(_CENT, ROUND_HALF_UP):,}"
    if size < _SMALLEST:
        return f"<{_SMALLEST}"
    places = -size.adjusted() + 1  # two significant digits
    return f"{size.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP):f}"


def duration(value: dt.timedelta | int | float | Decimal | None) -> str:
    """The two largest units: "38 s", "4 min", "4 h 02 min", "3 d 4 h". Negative lengths read as 0 s."""
    if value is None:
        return NO_DATA
    seconds = value.total_seconds() if isinstance(value, dt.timedelta) else float(value)
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes} min {whole % 60:02d} s" if minutes < 10 and whole % 60 else f"{minutes} min"
    hours = minutes // 60
    if hours < 24:
        return f"{hours} h {minutes % 60:02d} min" if minutes % 60 else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"


def day(value: dt.date) -> str:
    """ "12 Jun 2031"."""
    return f"{value.day} {value:%b %Y}"


def exact(value: dt.datetime) -> str:
    """ "12 Jun 2031, 14:02:11 UTC"."""
    return f"{day(value)}, {value:%H:%M:%S %Z}"


def moment(value: dt.datetime, style: str, now: dt.datetime) -> str:
    """The text of a moment before the browser has put it into the reader's zone."""
    if style == "rel":
        away = (value - now).total_seconds()
        if abs(away) < 1:
            return "now"
        return f"in {duration(away)}" if away > 0 else f"{duration(-away)} ago"
    if style == "time":
        return f"{value:%H:%M %Z}"
    if style == "date":
        return day(value)
    return f"{day(value)}, {value:%H:%M %Z}"
