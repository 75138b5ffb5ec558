"""Lists and watches read in pieces of any size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire.listing import BadListing, read_lines, read_list

pytestmark = pytest.mark.unit
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=6), VALUES, max_size=4)


def pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    place = 0
    for size in [*sizes, len(data)]:
        if data[place : place + size]:
            yield data[place : place + size]
        place += size


@given(st.lists(OBJECTS, max_size=5), st.booleans(), st.booleans(), st.lists(st.integers(1, 30), max_size=200))
def test_any_list_in_any_pieces(items: list[dict[str, Any]], last: bool, indent: bool, sizes: list[int]) -> None:
    rest = {"kind": "PodList", "metadata": {"resourceVersion": "7", "continue": "x}],{"}}
    body = {"items": items, **rest} if last else {**rest, "items": items}
    data = json.dumps(body, indent=2 if indent else None, ensure_ascii=False).encode()
    found: list[dict[str, Any]] = []
    assert read_list(pieces(data, sizes), found.append) == rest
    assert found == items


@given(st.integers(0, 10_000))
def test_a_list_cut_anywhere_is_an_error(place: int) -> None:
    data = json.dumps({"kind": "List", "items": [{"a": "ä" * 20, "n": i} for i in range(20)], "metadata": {}}).encode()
    place %= len(data)
    with pytest.raises(BadListing):
        read_list(pieces(data[:place], [7, 50]), lambda item: None)


@pytest.mark.parametrize(
    "data", [b"<html>", b"[]", b"null", b'{"items": [}', b'{"items": [1 2]}', b'{"a" 1}', b'{"a":1} x', b"{}"]
)
def test_what_is_no_list(data: bytes) -> None:
    with pytest.raises(BadListing):
        read_list([data], lambda item: None)


def test_a_null_list_is_empty() -> None:
    found: list[Any] = []
    assert read_list([b'{"items": null, "kind": "X"}'], found.append) == {"items": None, "kind": "X"}
    assert found == []


def test_a_list_is_read_to_its_end_so_that_the_connection_is_free() -> None:
    source = iter([b'{"items": []}', b"\n", b""])
    read_list(source, lambda item: None)
    assert list(source) == []


@given(st.lists(OBJECTS, max_size=6), st.lists(st.integers(1, 20), max_size=100))
def test_watch_lines_in_any_pieces(events: list[dict[str, Any]], sizes: list[int]) -> None:
    data = b"".join(json.dumps(e, ensure_ascii=False).encode() + b"\n" for e in events)
    assert list(read_lines(pieces(data, sizes))) == events


@pytest.mark.parametrize("data", [b'{"a":1}\n{"b"', b"nonsense\n", b"[1]\n"])
def test_broken_watch_lines(data: bytes) -> None:
    with pytest.raises(BadListing):
        list(read_lines([data]))
