"""Deltas, digests and the codec."""

from __future__ import annotations

import copy
import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire.codec import WireError, from_wire, iso, moment, to_wire
from agent.wire.model import COLLECTIONS, Autoscaler, Condition, Container, Node, Owner, Pod, PodSpec, Taint, Volume
from clusters.inventory.delta import Changes, State, diff, digest_of

pytestmark = pytest.mark.unit
RECORDS = st.dictionaries(
    st.sampled_from(["nodes", "pods", "specs"]),
    st.dictionaries(st.sampled_from("abcdef"), st.dictionaries(st.sampled_from("xyz"), st.integers(0, 3) | st.text(max_size=3)), min_size=1),
)  # fmt: skip


@given(RECORDS, RECORDS)
def test_the_difference_applied_gives_the_other(old: dict[str, Any], new: dict[str, Any]) -> None:
    state = State.of(copy.deepcopy(old))
    changes = diff(old, new)
    state.apply(changes)
    assert state.records == new
    assert state.digest == digest_of(new)
    state.apply(changes)
    assert (state.records, state.digest) == (new, digest_of(new)), "twice is once"
    assert len(diff(new, new)) == 0


@given(RECORDS, RECORDS)
def test_digests_tell_different_records_apart(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (digest_of(one) == digest_of(other)) is (one == other)


def test_a_delta_may_remove_what_is_not_there() -> None:
    state = State.of({"nodes": {"a": {"x": 1}}})
    state.apply(Changes(gone={"nodes": ["a", "never"], "pods": ["b"]}))
    assert state.records == {}
    assert state.digest == digest_of({})


def test_the_digest_counts_where_a_record_stands() -> None:
    assert digest_of({"nodes": {"a": {}}}) != digest_of({"pods": {"a": {}}}) != digest_of({"pods": {"b": {}}})


TIMES = st.integers(0, 4 * 10**15).map(
    lambda micro: dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=micro)
)
EXAMPLES = st.one_of(
    st.builds(
        Pod, namespace=st.text(), name=st.text(), spec=st.text(), created_at=st.none() | TIMES,
        owner=st.none() | st.builds(Owner, kind=st.text(), name=st.text()), ready=st.booleans(),
    ),
    st.builds(Node, name=st.text(), taints=st.lists(st.builds(Taint, key=st.text()), max_size=2).map(tuple),
              capacity=st.dictionaries(st.text(), st.integers(0, 2**63 - 1)),
              conditions=st.lists(st.builds(Condition, type=st.text(), status=st.text(), since=st.none() | TIMES), max_size=2).map(tuple)),
    st.builds(PodSpec, containers=st.lists(st.builds(Container, name=st.text()), max_size=2).map(tuple),
              spread=st.lists(st.dictionaries(st.text(), st.integers() | st.text())).map(tuple)),
    st.builds(Autoscaler, namespace=st.text(), name=st.text(), min=st.none() | st.integers(0, 9)),
    st.builds(Volume, name=st.text(), bytes=st.none() | st.integers(0, 2**62), zones=st.lists(st.text()).map(tuple)),
)  # fmt: skip


@given(EXAMPLES)
def test_records_survive_the_wire(record: Any) -> None:
    wire = json.loads(json.dumps(to_wire(record)))
    assert from_wire(type(record), wire) == record


def test_defaults_are_left_out() -> None:
    assert to_wire(Pod("ns", "name", "spec")) == {"namespace": "ns", "name": "name", "spec": "spec"}


def test_fields_of_a_newer_agent_are_ignored() -> None:
    assert from_wire(Taint, {"key": "a", "colour": "blue"}) == Taint("a")


@pytest.mark.parametrize(
    ("kind", "value", "named"),
    [
        (Pod, {"namespace": "a", "name": "b"}, "spec is missing"), (Pod, [], "an object"), (Pod, {"namespace": 1, "name": "b", "spec": "c"}, "Pod.namespace"),
        (Node, {"name": "a", "ready": 1}, "Node.ready"), (Node, {"name": "a", "capacity": {"cpu": "1"}}, "Node.capacity"),
        (Node, {"name": "a", "capacity": {"cpu": True}}, "whole number"), (Node, {"name": "a", "capacity": {"cpu": 2**63}}, "64 bits"),
        (Node, {"name": "a", "taints": {"key": "b"}}, "a list"), (Node, {"name": "a", "taints": [{"value": "b"}]}, "Taint: key is missing"),
        (Node, {"name": "a", "created_at": "yesterday"}, "not a time"), (Node, {"name": "a", "created_at": "2026-01-01T00:00:00"}, "no time zone"),
        (Node, {"name": "a" * 70_000}, "a text"), (Node, {"name": "a", "capacity": {"cpu": 1.5}}, "whole number"),
    ],
)  # fmt: skip
def test_wrong_types_are_named(kind: type, value: Any, named: str) -> None:
    with pytest.raises(WireError, match=named):
        from_wire(kind, value)


def test_times_are_utc() -> None:
    assert iso(moment("2026-07-01T12:00:00+02:00")) == "2026-07-01T10:00:00Z"


@pytest.mark.parametrize("kind", COLLECTIONS.values())
def test_every_collection_has_a_wire_form(kind: type) -> None:
    required = {"namespace": "a", "name": "b", "spec": "c", "kind": "d", "uid": "e"}
    assert set(to_wire(from_wire(kind, required))) <= set(required)
