"""Kubernetes quantities, exactly: "100m", "1.5Gi", "2e3", "12345678n" without a float anywhere.

As the API machinery does it, what is finer than a nano is rounded away from zero, and so is what the asked unit
cannot hold; what exceeds 2^63-1 is cut to it.
"""

from __future__ import annotations

import re
from functools import lru_cache

_QUANTITY = re.compile(r"([+-]?)(?:(\d+)(?:\.(\d*))?|\.(\d+))(?:([KMGTPE]i)|([numkMGTPE])|[eE]([+-]?\d{1,3}))?")
_BINARY = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50, "Ei": 1 << 60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
LARGEST = (1 << 63) - 1
_LONGEST = 64
NANO = 1_000_000_000
MICRO = 1_000_000
Quantity = str | int | float


class BadQuantity(ValueError):
    """The text is not a Kubernetes quantity."""


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


@lru_cache(maxsize=4096)
def _nano(text: str) -> int:
    found = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None or not text.isascii():
        raise BadQuantity(f"{text[:_LONGEST]!r} is not a quantity")
    sign, whole, after, bare, binary, decimal, exponent = found.groups()
    fraction = after or bare or ""
    value = int((whole or "0") + fraction)
    power = 9 - len(fraction)
    if binary:
        value *= _BINARY[binary]
    elif exponent:
        power += int(exponent)
    else:
        power += _DECIMAL[decimal or ""]
    value = value * 10**power if power >= 0 else _ceil_div(value, 10**-power)
    value = min(value, LARGEST * NANO)
    return -value if sign == "-" else value


def nano(quantity: Quantity) -> int:
    """Return the quantity in billionths. Raises BadQuantity."""
    return _nano(quantity if isinstance(quantity, str) else repr(quantity))


def _scaled(quantity: Quantity, unit: int) -> int:
    value = nano(quantity)
    return _ceil_div(value, unit) if value >= 0 else -_ceil_div(-value, unit)


def milli(quantity: Quantity) -> int:
    """Return thousandths, rounded away from zero: millicores of a CPU quantity."""
    return _scaled(quantity, MICRO)


def units(quantity: Quantity) -> int:
    """Return whole units, rounded away from zero: bytes, pods, GPUs."""
    return _scaled(quantity, NANO)


def amount(resource: str, quantity: Quantity) -> int:
    """Return what the wire carries for a resource: millicores for `cpu`, whole units (bytes, pieces) for the rest.

    Cut to 64 bits: the wire has no larger numbers.
    """
    value = milli(quantity) if resource == "cpu" or resource.endswith(".cpu") else units(quantity)
    return max(-LARGEST, min(LARGEST, value))


def format_cpu(millicores: int) -> str:
    """Return the canonical text of a CPU amount: "250m", "2"."""
    return str(millicores // 1000) if millicores % 1000 == 0 else f"{millicores}m"


def format_bytes(count: int) -> str:
    """Return the canonical text of a byte amount with the largest binary suffix that keeps it exact."""
    for suffix in ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki"):
        if count and count % _BINARY[suffix] == 0:
            return f"{count // _BINARY[suffix]}{suffix}"
    return str(count)
