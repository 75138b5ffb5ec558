"""What comes together before it is sent: lines stay whole where they can, and no byte is lost or moved in its stream."""

from __future__ import annotations

import random

import pytest

from agent.worker import shipping
from agent.worker.shipping import _Buffer


@pytest.fixture
def moment(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(shipping, "OFTEN", 0.001)
    monkeypatch.setattr(shipping.time, "monotonic", lambda: now[0])
    return now


def taken(buffer: _Buffer) -> list[tuple[str, bytes]]:
    return [(stream, bytes(content)) for stream, content in buffer.take() or ()]


def test_the_beginning_of_a_line_waits_for_its_end(moment: list[float]) -> None:
    buffer = _Buffer()
    buffer.put("stdout", b"one\ntw")
    assert taken(buffer) == [("stdout", b"one\n")]
    buffer.put("stderr", b"oops\n")
    buffer.put("stdout", b"o\nthree\n")
    assert taken(buffer) == [("stdout", b"two\n"), ("stderr", b"oops\n"), ("stdout", b"three\n")]


def test_but_not_for_long(moment: list[float]) -> None:
    buffer = _Buffer()
    buffer.put("stdout", b"42 %")
    assert taken(buffer) == []
    moment[0] = 0.6
    buffer.put("stdout", b"\r43 %")
    assert taken(buffer) == []
    moment[0] = 1.1
    assert taken(buffer) == [("stdout", b"42 %\r43 %")]
    buffer.put("stdout", b"x" * (shipping.LONGEST_HELD + 1))
    assert len(taken(buffer)[0][1]) == shipping.LONGEST_HELD + 1


def test_the_last_line_without_an_end_is_sent_at_the_end(moment: list[float]) -> None:
    buffer = _Buffer()
    buffer.put("stdout", b"no newline")
    assert taken(buffer) == []
    buffer.close()
    assert taken(buffer) == [("stdout", b"no newline")]
    assert buffer.take() is None


@pytest.mark.parametrize("seed", range(20))
def test_every_byte_of_each_stream_in_its_order(moment: list[float], seed: int) -> None:
    chance, buffer = random.Random(seed), _Buffer()
    put: dict[str, bytes] = {"stdout": b"", "stderr": b""}
    got = dict(put)

    def take() -> None:
        for stream, content in taken(buffer):
            got[stream] += content

    for _ in range(200):
        stream = chance.choice(list(put))
        content = bytes(chance.choices(b"ab\n", (4, 4, 1), k=chance.randrange(1, 12)))
        buffer.put(stream, content)
        put[stream] += content
        moment[0] += chance.choice((0.0, 0.3, 2.0))
        if chance.random() < 0.5:
            take()
    buffer.close()
    while (pieces := buffer.take()) is not None:
        for stream, content in pieces:
            got[stream] += bytes(content)
    assert got == put
