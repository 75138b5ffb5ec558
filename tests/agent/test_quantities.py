"""Quantities against exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusters.inventory.quantities import BadQuantity, amount, format_bytes, format_cpu, milli, nano, units

pytestmark = pytest.mark.unit
SUFFIXES = {
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1), "k": Fraction(1000), "M": Fraction(10**6),
    "G": Fraction(10**9), "T": Fraction(10**12), "P": Fraction(10**15), "E": Fraction(10**18), "Ki": Fraction(2**10), "Mi": Fraction(2**20),
    "Gi": Fraction(2**30), "Ti": Fraction(2**40), "Pi": Fraction(2**50), "Ei": Fraction(2**60),
    "e3": Fraction(1000), "E-2": Fraction(1, 100), "e+1": Fraction(10),
}  # fmt: skip
LIMIT = 2**63 - 1


def _away_from_zero(value: Fraction) -> int:
    return -((-value).numerator // value.denominator) if value >= 0 else value.numerator // value.denominator


@given(
    st.sampled_from(["", "-", "+"]),
    st.integers(0, 10**15),
    st.sampled_from(["", ".", ".5", ".125", ".000000001", ".30"]),
    st.sampled_from(sorted(SUFFIXES)),
)
def test_every_form_exactly(sign: str, whole: int, fraction: str, suffix: str) -> None:
    value = Fraction(f"{whole}{fraction if len(fraction) > 1 else ''}") * SUFFIXES[suffix]
    if sign == "-":
        value = -value
    in_nano = _away_from_zero(value * 10**9)
    in_nano = max(-LIMIT * 10**9, min(LIMIT * 10**9, in_nano))
    text = f"{sign}{whole}{fraction}{suffix}"
    assert nano(text) == in_nano
    assert milli(text) == _away_from_zero(Fraction(in_nano, 10**6))
    assert units(text) == _away_from_zero(Fraction(in_nano, 10**9))


@pytest.mark.parametrize(
    ("text", "thousandths"),
    [("100m", 100), ("0.1", 100), ("1", 1000), ("1n", 1), ("1500u", 2), ("1.5", 1500), (".5", 500), ("2e3", 2_000_000), ("1E", 10**21), (2, 2000), (0.25, 250)],
)  # fmt: skip
def test_millis(text: str | int | float, thousandths: int) -> None:
    assert milli(text) == min(thousandths, LIMIT * 1000)


@pytest.mark.parametrize(
    "text",
    ["", " ", "m", "1 Gi", "1K", "1kb", "1gi", "0x10", "1e", "1e1.5", "--1", "1.2.3", "NaN", "inf", "١", "1Gi\n", "9" * 80, "."],
)  # fmt: skip
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(BadQuantity):
        nano(text)


@given(st.integers(0, 2**63 - 1))
def test_written_and_read_again(value: int) -> None:
    assert milli(format_cpu(value)) == value or value > LIMIT // 1000
    assert units(format_bytes(value)) == value


def test_cpu_is_told_in_thousandths_and_the_rest_in_units() -> None:
    assert amount("cpu", "250m") == 250
    assert amount("limits.cpu", "1") == 1000
    assert amount("memory", "1Gi") == 2**30
    assert amount("nvidia.com/gpu", "8") == 8
