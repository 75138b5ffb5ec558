"""Logs: byte for byte, once, in order; by line, by offset, searched."""

from __future__ import annotations

import gzip
import random
import re

import pytest
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts import services as accounts
from core.errors import InvalidInput
from taskrunner import selectors, services
from taskrunner.models import LogPiece, LogStream, Task
from taskrunner.services.logging import WrongOffset

pytestmark = pytest.mark.django_db


class Writer:
    """A worker that writes the log of one task."""

    def __init__(self, worker, task) -> None:
        self.facts = {"worker": worker, "task_id": task.id, "fence": 1}
        self.task = task

    def __call__(self, stream: str, offset: int, data: bytes) -> int:
        return services.append_log(**self.facts, stream=stream, offset=offset, data=data)

    @property
    def attempt(self):
        return selectors.attempt_of(self.task)

    def stored(self, stream: str) -> bytes:
        return b"".join(selectors.log_bytes(attempt=self.attempt, stream=stream))


@pytest.fixture
def write(join, submit) -> Writer:
    task, worker = submit(), join()
    services.claim(worker=worker)
    return Writer(worker, task)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(min_size=1, max_size=300)), max_size=12),
    st.data(),
)
def test_what_is_written_is_what_is_stored_whatever_is_repeated(write, pieces, data):
    LogPiece.objects.all().delete()
    LogStream.objects.all().delete()
    wrote = {"stdout": b"", "stderr": b""}
    for stream, content in pieces:
        at = len(wrote[stream])
        back = data.draw(st.integers(0, at))  # the agent did not hear an answer and says some of it again
        whole = wrote[stream] + content
        assert write(stream, back, whole[back:]) == len(whole)
        wrote[stream] = whole
    for stream, content in wrote.items():
        assert write.stored(stream) == content
        if content:
            start = data.draw(st.integers(0, len(content)))
            assert selectors.read_bytes(attempt=write.attempt, stream=stream, offset=start) == content[start:]


def test_a_gap_is_refused_with_the_true_offset(write):
    assert write("stdout", 0, b"abc") == 3
    with pytest.raises(WrongOffset) as gap:
        write("stdout", 10, b"x")
    assert gap.value.offsets == {"stdout": 3, "stderr": 0}
    assert services.log_end(**write.facts) == {"stdout": 3, "stderr": 0}
    with pytest.raises(InvalidInput):
        write("stdlog", 0, b"x")


def test_both_streams_in_one_request_in_their_order(alice, submit):
    _, text = accounts.create_enrolment_token(actor=alice.actor, kind="worker", name="test")
    worker, token = services.register(enrolment=text, facts={"name": "w", "cpu": 4000, "memory": 8192, "storage": 9999})
    write = Writer(worker, submit())
    services.claim(worker=worker)

    def post(body: bytes, *, zipped: bool = False, **offsets: int):
        where = "&".join(f"{name}={at}" for name, at in offsets.items())
        return Client(headers={"Authorization": f"Agent {token}"}).post(
            f"/api/agent/tasks/{write.task.id}/logs?fence=1&{where}",
            gzip.compress(body) if zipped else body, content_type="application/vnd.docker.multiplexed-stream",
            headers={"Content-Encoding": "gzip"} if zipped else {},
        )  # fmt: skip

    def send(pieces: list[tuple[int, bytes]], **how: int):
        frames = (bytes([number, 0, 0, 0]) + len(data).to_bytes(4, "big") + data for number, data in pieces)
        return post(b"".join(frames), **how)

    first = [(1, b"one\n"), (2, b"oops\n"), (1, b"two\n")]
    answer = send(first, stdout=0, stderr=0)
    assert (answer.status_code, answer.json()["offsets"]) == (202, {"stdout": 8, "stderr": 5})
    # said again, with more behind it
    again = send([*first, (2, b"\xff\n"), (1, b"three\n")], stdout=0, stderr=0, zipped=True)
    assert (again.status_code, again.json()["offsets"]) == (202, {"stdout": 14, "stderr": 7})
    view = selectors.log_lines(attempt=write.attempt)
    assert [(line.stream, line.text) for line in view.lines] == [
        ("stdout", "one"),
        ("stderr", "oops"),
        ("stdout", "two"),
        ("stderr", "\ufffd"),
        ("stdout", "three"),
    ]
    gap = send([(1, b"x")], stdout=14, stderr=9)
    assert (gap.status_code, gap.json()["offsets"]) == (416, {"stdout": 14, "stderr": 7})
    assert send([(3, b"x")], stdout=14, stderr=7).status_code == 422
    assert send([(1, b"")] * 1025, stdout=14, stderr=7).status_code == 422
    assert post(b"\x01\0\0\0\0\0\0\x09short", stdout=14, stderr=7).status_code == 422
    assert (write.stored("stdout"), write.stored("stderr")) == (b"one\ntwo\nthree\n", b"oops\n\xff\n")


def test_lines_over_both_streams(write):
    write("stdout", 0, b"one\ntwo\n")
    write("stderr", 0, b"oops\n\xff\xfe")
    write("stdout", 8, b"three\n")
    view = selectors.log_lines(attempt=write.attempt)
    assert [(line.number, line.stream, line.text) for line in view.lines] == [
        (0, "stdout", "one"),
        (1, "stdout", "two"),
        (2, "stderr", "oops"),
        (3, "stderr", "\ufffd\ufffd"),
        (4, "stdout", "three"),
    ]
    assert (view.total, view.stdout, view.stderr) == (5, 14, 7)
    assert [line.text for line in selectors.log_lines(attempt=write.attempt, first=-2, count=2).lines] == [
        "\ufffd\ufffd",
        "three",
    ]
    assert [line.number for line in selectors.log_lines(attempt=write.attempt, stream="stderr").lines] == [2, 3]


def test_any_window_of_a_long_log_is_right(write):
    lines = [f"line {n} {'x' * (n % 40)}" for n in range(3000)]
    text = "".join(f"{line}\n" for line in lines).encode()
    for start in range(0, len(text), 9000):
        cut = text.rfind(b"\n", 0, min(start + 9000, len(text))) + 1
        have = services.log_end(**write.facts)["stdout"]
        write("stdout", have, text[have:cut])
    chance = random.Random(3)
    for _ in range(20):
        first, count = chance.randrange(3000), chance.randrange(1, 400)
        got = [line.text for line in selectors.log_lines(attempt=write.attempt, first=first, count=count).lines]
        assert got == lines[first : first + count]


def test_search_finds_what_a_plain_search_finds(write):
    chance = random.Random(5)
    lines = [f"{n} {chance.choice(['step', 'Error', 'eval'])} {chance.randrange(100)}" for n in range(2000)]
    for start in range(0, 2000, 250):
        have = services.log_end(**write.facts)["stdout"]
        write("stdout", have, "".join(f"{line}\n" for line in lines[start : start + 250]).encode())
    for wanted, regex in (
        ("error", False),
        (r"error \d7$", True),
        (r"^1\d\d eval", True),
        ("7", False),
        (r"a.b(c", False),
    ):
        pattern = re.compile(wanted if regex else re.escape(wanted), 0 if regex else re.IGNORECASE)
        expected = [n for n, line in enumerate(lines) if pattern.search(line)]
        hits, count, more = selectors.search_log(attempt=write.attempt, wanted=wanted, regex=regex, most=500)
        assert (count, [hit.line.number for hit in hits]) == (len(expected), expected[:500])
        assert more == (len(expected) > 500)
    hit = selectors.search_log(attempt=write.attempt, wanted="^1000 ", regex=True)[0][0]
    assert [line.number for line in hit.before + hit.after] == [998, 999, 1001, 1002]  # 1000 begins a piece
    with pytest.raises(InvalidInput):
        selectors.search_log(attempt=write.attempt, wanted="(a", regex=True)


def test_a_hit_has_its_context_however_the_log_came_in(write):
    text = "".join(f"line {n}{' hit' if n in (0, 3, 4, 11) else ''}\n" for n in range(12))
    chance, at = random.Random(7), 0
    while at < len(text):  # whole lines, one to three a piece
        end = at
        for _ in range(chance.randrange(1, 4)):
            end = text.find("\n", end) + 1 or len(text)
        at = write("stdout", at, text[at:end].encode())
    for context in (0, 1, 3):
        hits, count, _ = selectors.search_log(attempt=write.attempt, wanted="hit", context=context)
        assert count == 4
        for hit in hits:
            n = hit.line.number
            around = [*range(max(0, n - context), n), *range(n + 1, min(12, n + 1 + context))]
            assert [line.number for line in (*hit.before, *hit.after)] == around
            assert all(line.text.startswith(f"line {line.number}") for line in (*hit.before, hit.line, *hit.after))


def test_progress_is_kept_from_what_is_printed(write):
    write("stdout", 0, b"::progress 40 loading\n")
    task = Task.objects.all_orgs().get(id=write.task.id)
    assert (task.progress, task.progress_words) == (40, "loading")
