"""The platform's side: hostile and broken messages, heartbeats, skewed clocks."""

from __future__ import annotations

import copy
import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.transport import pack
from agent.wire.message import Usage
from clusters.inventory import ingest
from clusters.inventory.delta import State, digest_of

pytestmark = pytest.mark.unit
NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
RECORDS = {"nodes": {"n1": {"name": "n1"}}}
FULL: dict[str, Any] = {
    "format": 1, "kind": "full", "session": "s", "sequence": 1, "digest": digest_of(RECORDS), "at": "2026-11-21T12:00:00Z",
    "cluster": {"uid": "u"}, "agent": {"version": "1.0.0"}, "sources": {"nodes": {"state": "ok"}}, "records": RECORDS,
    "usage": [{"n": 1, "at": "2026-11-21T11:59:00Z", "window": 15, "nodes": {"n1": [5, None]}, "pods": {"a/b": {"c": [1, 2]}}}],
}  # fmt: skip


def body(**more: Any) -> bytes:
    return pack(json.dumps({**copy.deepcopy(FULL), **more}).encode())


def test_a_good_message_is_read_whole() -> None:
    message = ingest.read(body())
    assert (message.kind, message.session, message.sequence) == ("full", "s", 1)
    assert message.samples[0].nodes == {"n1": Usage(5, None)}
    assert message.samples[0].pods == {"a/b": {"c": Usage(1, 2)}}
    state = State()
    verdict = ingest.receive(ingest.Held(), state, message, NOW)
    assert (verdict.status, verdict.applied) == (200, True)
    assert state.records == RECORDS
    assert verdict.changes.set == RECORDS
    assert verdict.held == ingest.Held("s", 1, FULL["digest"], 1, (), NOW)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"format": 2}, "unsupported_format"), ({"format": "1"}, "unsupported_format"), ({"format": None}, "unsupported_format"),
        ({"kind": "half"}, "malformed"), ({"session": ""}, "malformed"), ({"session": "x" * 500}, "malformed"), ({"sequence": -1}, "malformed"),
        ({"sequence": True}, "malformed"), ({"sequence": 1.0}, "malformed"), ({"at": "now"}, "malformed"), ({"cluster": None}, "malformed"),
        ({"cluster": {}}, "malformed"), ({"records": []}, "malformed"), ({"records": {"nodes": []}}, "malformed"),
        ({"records": {"nodes": {"n1": 7}}}, "malformed"), ({"usage": {}}, "malformed"), ({"usage": [{"n": 1}]}, "malformed"),
        ({"usage": [{**FULL["usage"][0], "nodes": {"n1": [1]}}]}, "malformed"), ({"usage": [{**FULL["usage"][0], "nodes": {"n1": [-1, 1]}}]}, "malformed"),
        ({"usage": [{**FULL["usage"][0], "pods": {"a/b": [1, 2]}}]}, "malformed"), ({"sources": {"nodes": {}}}, "malformed"),
        ({"kind": "delta", "base": {"sequence": 0}}, "malformed"), ({"kind": "delta", "base": 5}, "malformed"),
        ({"kind": "delta", "base": {"sequence": 0, "digest": "x"}, "gone": {"nodes": [1]}}, "malformed"),
    ],
)  # fmt: skip
def test_bad_messages(change: dict[str, Any], code: str) -> None:
    with pytest.raises(ingest.BadMessage) as bad:
        ingest.read(body(**change))
    assert bad.value.code == code
    status, told = ingest.refusal(bad.value)
    assert status == {"malformed": 400, "unsupported_format": 415}[code]
    assert told["code"] == code


@given(st.binary(max_size=400))
def test_noise_is_refused_not_crashed_on(noise: bytes) -> None:
    for packed in (noise, pack(noise)):
        with pytest.raises(ingest.BadMessage):
            ingest.read(packed)


@pytest.mark.parametrize("text", ["[" * 100_000, "null", "[]", '"x"', "1"])
def test_json_that_is_no_message(text: str) -> None:
    with pytest.raises(ingest.BadMessage):
        ingest.read(pack(text.encode()))


def test_a_full_snapshot_whose_digest_lies_changes_nothing() -> None:
    state = State.of(copy.deepcopy(RECORDS))
    held = ingest.Held("s", 1, state.digest)
    verdict = ingest.receive(held, state, ingest.read(body(sequence=2, digest="0" * 32)), NOW)
    assert (verdict.status, verdict.body["code"], verdict.held) == (409, "resync_required", held)
    assert state.records == RECORDS


def _delta(**more: Any) -> ingest.Message:
    base = {"sequence": 1, "digest": FULL["digest"]}
    return ingest.read(
        body(kind="delta", sequence=2, base=base, set={"nodes": {"n2": {"name": "n2"}}}, gone={}, **more)
    )


def test_a_delta_that_does_not_add_up_makes_everything_due() -> None:
    state = State.of(copy.deepcopy(RECORDS))
    verdict = ingest.receive(ingest.Held("s", 1, state.digest), state, _delta(digest="0" * 32), NOW)
    assert (verdict.status, verdict.applied) == (409, False)
    after = {"nodes": {"n1": {"name": "n1"}, "n2": {"name": "n2"}}}
    again = ingest.receive(verdict.held, state, _delta(digest=digest_of(after)), NOW)
    assert again.status == 409, "only a full snapshot fits now"
    assert ingest.receive(verdict.held, state, ingest.read(body(sequence=3)), NOW).status == 200
    assert state.records == RECORDS


def test_a_delta_without_its_base_is_refused_and_changes_nothing() -> None:
    for held in (ingest.Held(), ingest.Held("s", 5, "x"), ingest.Held("other", 1, FULL["digest"])):
        state = State.of(copy.deepcopy(RECORDS))
        verdict = ingest.receive(held, state, _delta(digest="f" * 32), NOW)
        assert verdict.status == (200 if held.sequence == 5 else 409)
        assert not verdict.applied
        assert state.records == RECORDS


def beat(**more: Any) -> bytes:
    fields = {
        "format": 1,
        "session": "s",
        "sequence": 3,
        "digest": "d",
        "at": "2026-11-21T12:00:00Z",
        "cluster": {"uid": "u"},
    }
    return json.dumps({**fields, **more}).encode()


@pytest.mark.parametrize(
    ("held", "resync"),
    [
        (ingest.Held("s", 3, "d"), False), (ingest.Held("s", 4, "e"), False), (ingest.Held("s", 3, "e"), True), (ingest.Held("s", 2, "c"), True),
        (ingest.Held("t", 3, "d"), True), (ingest.Held(), True),
    ],
)  # fmt: skip
def test_a_heartbeat_finds_out_what_is_missing(held: ingest.Held, resync: bool) -> None:
    reply = ingest.heartbeat_reply(held, ingest.read_heartbeat(beat()), NOW, sync_now=True)
    assert reply["resync"] is resync
    assert (reply["received"], reply["standby"], reply["sync_now"]) == (True, False, True)


def test_only_the_agent_in_charge_keeps_the_cluster_live() -> None:
    held = ingest.Held("s", 3, "d", heard_at=NOW)
    later = NOW + dt.timedelta(seconds=15)
    assert ingest.heard(held, ingest.read_heartbeat(beat()), later).heard_at == later
    assert ingest.heard(held, ingest.read_heartbeat(beat(session="t")), later).heard_at == NOW


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"null", b"{}", beat(session=5), beat(sequence="x"), beat(at=None), beat(sources=[1]), beat(sources={"nodes": 1}),
     beat(counts={"nodes": -1}), beat(order_results=[1]), beat(cluster="x"), beat(format=9), b"{" * 1000, beat(x="y" * 300_000)],
)  # fmt: skip
def test_bad_heartbeats(raw: bytes) -> None:
    with pytest.raises(ingest.BadMessage):
        ingest.read_heartbeat(raw)


@given(st.integers(-100_000, 100_000))
def test_a_skewed_clock_is_put_right(seconds: int) -> None:
    """An agent whose clock is hours off tells times by its own clock; what counts is when it sent them."""
    agent_now = NOW + dt.timedelta(seconds=seconds)
    sample = ingest.Sample(1, agent_now - dt.timedelta(seconds=120))
    skew = ingest.clock_skew(agent_now.timestamp(), NOW)
    off = ingest.corrected([sample], skew)[0].at - (NOW - dt.timedelta(seconds=120))
    assert abs(off) <= dt.timedelta(seconds=5.1)


def test_clocks_without_a_word_are_trusted() -> None:
    assert ingest.clock_skew(None, NOW) == dt.timedelta()
    assert ingest.clock_skew(1e300, NOW) == dt.timedelta()
