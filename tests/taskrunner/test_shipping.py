"""What comes together before it is sent: lines stay whole where they can, and no byte is lost or moved in its stream."""

from __future__ import annotations

import gzip
import json
import random
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from agent.transport import Reply, Unreachable
from agent.worker import shipping
from agent.worker.frames import BadFrame, Demultiplexer, Unchunker, joined
from agent.worker.shipping import Shipper, Stale, _Buffer


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
    buffer.put([("stdout", b"one\ntw")])
    assert taken(buffer) == [("stdout", b"one\n")]
    buffer.put([("stderr", b"oops\n")])
    buffer.put([("stdout", b"o\nthree\n")])
    assert taken(buffer) == [("stdout", b"two\n"), ("stderr", b"oops\n"), ("stdout", b"three\n")]


def test_but_not_for_long(moment: list[float]) -> None:
    buffer = _Buffer()
    buffer.put([("stdout", b"42 %")])
    assert taken(buffer) == []
    moment[0] = 0.6
    buffer.put([("stdout", b"\r43 %")])
    assert taken(buffer) == []
    moment[0] = 1.1
    assert taken(buffer) == [("stdout", b"42 %\r43 %")]
    buffer.put([("stdout", b"x" * (shipping.LONGEST_HELD + 1))])
    assert len(taken(buffer)[0][1]) == shipping.LONGEST_HELD + 1


def test_the_last_line_without_an_end_is_sent_at_the_end(moment: list[float]) -> None:
    buffer = _Buffer()
    buffer.put([("stdout", b"no newline")])
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
        buffer.put([(stream, content)])
        put[stream] += content
        moment[0] += chance.choice((0.0, 0.3, 2.0))
        if chance.random() < 0.5:
            take()
    buffer.close()
    while (pieces := buffer.take()) is not None:
        for stream, content in pieces:
            got[stream] += bytes(content)
    assert got == put


def test_two_streams_in_quick_turns_make_few_runs_and_keep_their_order_while_they_are_few(moment: list[float]) -> None:
    buffer, lines = _Buffer(), [(name, f"{n}\n".encode()) for n in range(30_000) for name in ("stdout", "stderr")]
    buffer.put(lines)
    runs = taken(buffer)
    exact = shipping.MANY - 1
    assert runs[:exact] == lines[:exact]
    assert len(runs) < shipping.MANY + 5
    for stream in ("stdout", "stderr"):
        assert b"".join(content for name, content in runs if name == stream) == b"".join(
            content for name, content in lines if name == stream
        )


class Platform:
    """Stores what is sent as the platform does; answers go wrong as `chance` has it."""

    def __init__(self, chance: random.Random, stored: dict[str, bytes]) -> None:
        self.chance, self.stored = chance, stored
        self.requests = 0

    def request(self, method: str, path: str, *, body: bytes, packed: bool, headers: dict[str, str]) -> Reply:
        self.requests += 1
        luck = self.chance.random()
        if luck < 0.1:
            raise Unreachable("lost on its way")
        if luck < 0.2:
            return Reply(503, {}, b"")
        given = dict(parse_qsl(urlsplit(path).query))
        at = {name: int(given[name]) for name in self.stored}
        if any(start > len(self.stored[name]) for name, start in at.items()):
            return self.answer(416)
        for name, content in Demultiplexer().feed(gzip.decompress(body) if packed else body):
            at[name] += len(content)
            missing = at[name] - len(self.stored[name])
            if missing > 0:
                self.stored[name] += content[-missing:]
        if luck < 0.3:
            raise Unreachable("the answer was lost")
        return self.answer(202)

    def answer(self, status: int) -> Reply:
        offsets = {name: len(content) for name, content in self.stored.items()}
        return Reply(status, {}, json.dumps({"offsets": offsets}).encode())


@pytest.mark.parametrize("seed", range(10))
def test_the_platform_has_every_byte_whatever_is_lost_on_the_way(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(shipping.Backoff, "failed", lambda self, at_least=0.0: 0.0)
    monkeypatch.setattr(shipping, "LARGEST", 3000)
    chance, wrote = random.Random(seed), {"stdout": b"", "stderr": b""}
    frames = []
    for _ in range(400):
        stream = chance.choice(list(wrote))
        content = bytes(chance.choices(b"ab\n\xff", k=chance.randrange(1, 60)))
        frames.append((stream, content))
        wrote[stream] += content
    log = joined(frames)
    had = {name: content[: chance.randrange(len(content))] for name, content in wrote.items()}
    platform = Platform(chance, dict(had))  # an agent before this one had sent so much

    def read(follow: bool) -> Any:
        return (log[at : at + 700] for at in range(0, len(log), 700))

    shipper = Shipper(platform, "task", 1, read, {name: len(content) for name, content in had.items()})  # type: ignore[arg-type]
    shipper.follow()
    asked = platform.requests
    shipper.finish()
    assert platform.stored == wrote
    assert platform.requests == asked, "nothing was left to send"


def test_a_platform_that_lost_a_part_is_not_written_on() -> None:
    platform = Platform(random.Random(4), {"stdout": b"", "stderr": b""})
    platform.chance = type("Calm", (), {"random": lambda self: 1.0})()
    read = lambda follow: iter([joined([("stdout", b"0123456789")])])  # noqa: E731
    with pytest.raises(Stale):
        Shipper(platform, "task", 1, read, {"stdout": 5, "stderr": 0}).follow()  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(10))
def test_chunks_come_in_any_cut(seed: int) -> None:
    chance = random.Random(seed)
    parts = [chance.randbytes(chance.choice((1, 9, 300))) for _ in range(60)]
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    chunks, got, at = Unchunker(), b"", 0
    while at < len(body):
        assert not chunks.ended
        step = chance.randrange(1, 200)
        got += chunks.feed(body[at : at + step])
        at += step
        if chunks.ended:
            break
    assert got == b"".join(parts)
    assert chunks.ended


def test_what_is_no_chunk_is_refused() -> None:
    with pytest.raises(BadFrame):
        Unchunker().feed(b"hello\r\n")
