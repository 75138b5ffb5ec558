"""Random histories against an independent integrator: the sums are exact, however the events arrive."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from costs import ledger

START = datetime(2026, 3, 28, tzinfo=UTC)
PHASES = ("awake", "asleep", "gone")
SECONDS = st.integers(0, 6 * 3600)
MONEY = st.one_of(st.none(), st.decimals(0, 100, places=8, allow_nan=False))

moments = st.builds(
    lambda s, micro: START + timedelta(seconds=s, microseconds=micro), SECONDS, st.sampled_from([0, 0, 0, 1, 999_999])
)
histories = st.lists(st.tuples(moments, st.sampled_from(PHASES)), max_size=14)
price_lists = st.lists(st.tuples(moments, MONEY, MONEY), max_size=5, unique_by=lambda p: p[0])


def events_of(history: list[tuple[datetime, str]]) -> list[ledger.Event]:
    return [ledger.Event(at, order, phase, key=f"k{order}") for order, (at, phase) in enumerate(history)]


def prices_of(given_prices: list[tuple[datetime, Decimal | None, Decimal | None]]) -> list[ledger.Price]:
    return [ledger.Price(at, awake, asleep, "test") for at, awake, asleep in given_prices]


def integrate(history: list, given_prices: list, left: datetime, right: datetime) -> tuple[Fraction, Fraction]:
    """Money spent and kept from left to right, by stepping over every moment at which anything changes. Exact fractions."""
    edges = sorted({left, right, *(at for at, *_ in history), *(at for at, *_ in given_prices)})
    spent = kept = Fraction(0)
    for a, b in pairwise(edges):
        if a < left or b > right:
            continue
        phase = None
        best = None
        for order, (at, named) in enumerate(history):
            if at <= a and (best is None or (at, order) >= best):
                best, phase = (at, order), named
        valid = [p for p in given_prices if p[0] <= a]
        if phase in (None, "gone") or not valid:
            continue
        _, awake, asleep = max(valid, key=lambda p: p[0])
        hours = Fraction((b - a) // timedelta(microseconds=1), 3_600_000_000)
        own = awake if phase == "awake" else asleep
        spent += Fraction(own) * hours if own is not None else 0
        if phase == "asleep" and own is not None and awake is not None:
            kept += (Fraction(awake) - Fraction(own)) * hours
    return spent, kept


def sums(spans: list[ledger.Span], left: datetime, right: datetime) -> tuple[Decimal, Decimal]:
    spent = kept = Decimal(0)
    for span in spans:
        part = ledger.overlap(span.start, span.end, left, right)
        if part is None:
            continue
        spent += ledger.amount(span.price, *part)
        if span.phase == "asleep" and span.price is not None:
            kept += (
                ledger.amount(span.awake_price, *part) - ledger.amount(span.price, *part)
                if span.awake_price is not None
                else 0
            )
    return spent, kept


def close(mine: Decimal, other: Fraction) -> bool:
    return abs(Fraction(mine) - other) <= Fraction(1, 10**8)


@settings(max_examples=300, deadline=None)
@given(histories, price_lists, moments, moments)
def test_sums_are_exact(history: list, given_prices: list, one: datetime, other: datetime) -> None:
    left, right = sorted((one, other))
    spans = ledger.spans(events_of(history), prices_of(given_prices))
    spent, kept = sums(spans, left, right)
    wanted_spent, wanted_kept = integrate(history, given_prices, left, right)
    assert close(spent, wanted_spent)
    assert close(kept, wanted_kept)


@settings(max_examples=200, deadline=None)
@given(histories, price_lists, st.randoms(use_true_random=False), st.data())
def test_order_and_repetition_do_not_matter(
    history: list, given_prices: list, random: object, data: st.DataObject
) -> None:
    events = events_of(history)
    repeated = data.draw(st.lists(st.sampled_from(events), max_size=6)) if events else []
    shuffled = [*events, *repeated]
    random.shuffle(shuffled)
    prices = prices_of(given_prices)
    random.shuffle(prices)
    assert ledger.spans(shuffled, prices) == ledger.spans(events, prices_of(given_prices))


@settings(max_examples=200, deadline=None)
@given(histories, price_lists)
def test_intervals_tile_the_time(history: list, given_prices: list) -> None:
    """They run forward, do not overlap, only the last may be open, and neighbours differ in phase or in price list."""
    spans = ledger.spans(events_of(history), prices_of(given_prices))
    for before, after in pairwise(spans):
        assert before.end is not None
        assert before.end <= after.start
        if before.end == after.start and before.phase == after.phase:
            assert after.start in {at for at, *_ in given_prices}
    assert all(s.end is None or s.end > s.start for s in spans)
    assert all(s.phase in ("awake", "asleep") for s in spans)


@settings(max_examples=100, deadline=None)
@given(histories, price_lists, st.lists(moments, min_size=1, max_size=6))
def test_parts_add_up_to_the_whole(history: list, given_prices: list, cuts: list[datetime]) -> None:
    spans = ledger.spans(events_of(history), prices_of(given_prices))
    edges = sorted({START, START + timedelta(hours=6), *cuts})
    whole = sums(spans, edges[0], edges[-1])
    parts = [sums(spans, a, b) for a, b in pairwise(edges)]
    assert abs(sum((p[0] for p in parts), Decimal(0)) - whole[0]) <= Decimal("1e-8")
    assert abs(sum((p[1] for p in parts), Decimal(0)) - whole[1]) <= Decimal("1e-8")
