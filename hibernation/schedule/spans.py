"""Arithmetic on spans: sorted lists of half-open integer ranges `(start, end)` that neither touch nor overlap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Span = tuple[int, int]
Spans = Sequence[Span]


def union(spans: Iterable[Span]) -> list[Span]:
    """Any ranges, in any order, as sorted spans that do not touch; empty ranges vanish."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if start >= end:
            continue
        if merged and start <= merged[-1][1]:
            if end > merged[-1][1]:
                merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged


def append(spans: list[Span], start: int, end: int) -> None:
    """Add a range that starts at or after the last span's end, joining the two when they touch."""
    if spans and spans[-1][1] == start:
        spans[-1] = (spans[-1][0], end)
    else:
        spans.append((start, end))


def intersect(left: Spans, right: Spans) -> list[Span]:
    """What both lists cover."""
    both: list[Span] = []
    i = j = 0
    while i < len(left) and j < len(right):
        start, end = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if start < end:
            both.append((start, end))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return both


def covers(spans: Spans, point: int) -> bool:
    """Whether a point lies inside one of the spans."""
    return any(start <= point < end for start, end in spans)


def total(spans: Spans) -> int:
    """The length of all spans together."""
    return sum(end - start for start, end in spans)
