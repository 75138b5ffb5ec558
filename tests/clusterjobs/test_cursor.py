"""A log read in any portions, over any seconds, is the log."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterjobs.cursor import Cursor, NotALog
from tests.fakes.kubelet import File

pytestmark = pytest.mark.unit
START = datetime(2031, 6, 12, 9, 0, tzinfo=UTC)


def look(cursor: Cursor, file: File, chance: random.Random) -> tuple[Cursor, bytes]:
    """One answer, cut anywhere, broken off anywhere; the cursor goes through JSON in between."""
    since = cursor.begin()
    answer = file.read(datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if since is not None else "")
    answer = answer[: chance.randint(0, len(answer))] if chance.random() < 0.3 else answer
    got, at = [], 0
    while at < len(answer):
        step = chance.choice((1, 7, 100, 5000, 100_000))
        got.append(cursor.feed(answer[at : at + step]))
        at += step
    return Cursor.of(cursor.state()), b"".join(got)


LINES = st.lists(
    st.tuples(st.sampled_from([0, 1, 30, 16_384, 40_000, 70_000]), st.floats(0, 3), st.integers(0, 999_999_999)),
    max_size=30,
)


@given(LINES, st.integers(0, 2**32))
@settings(max_examples=150)
def test_nothing_is_lost_doubled_or_reordered(lines: list[tuple[int, float, int]], seed: int) -> None:
    chance, file, cursor, at = random.Random(seed), File(), Cursor(), START
    written, got = b"", b""
    for number, (size, pause, nano) in enumerate(lines):
        line = b"%d " % number + b"x" * size + b"\n"
        at += timedelta(seconds=int(pause))
        for start in range(0, len(line), 16_384):  # a long line may take seconds
            part = line[start : start + 16_384]
            file.entries.append((at, nano, part, not part.endswith(b"\n")))
            written += part
            if chance.random() < 0.2:
                at += timedelta(seconds=1)
            if chance.random() < 0.3:
                cursor, fresh = look(cursor, file, chance)
                got += fresh
    for _ in range(20):
        cursor, fresh = look(cursor, file, chance)
        got += fresh
    cursor, fresh = look(cursor, file, random.Random(1))
    assert (got + fresh, cursor.gap) == (written, False)


def test_only_the_newest_seconds_are_asked_for_again() -> None:
    file, cursor = File(), Cursor()
    for second in range(60):
        file.write(b"line\n" * 100, START + timedelta(seconds=second))
    cursor.feed(b"") if cursor.begin() else cursor.feed(file.read())
    assert cursor.begin() == int((START + timedelta(seconds=57)).timestamp())


def test_a_file_that_was_rotated_away_is_said_and_nothing_comes_twice() -> None:
    file, cursor = File(), Cursor()
    file.write(b"one\n", START, 1)
    cursor.begin()
    assert cursor.feed(file.read()) == b"one\n"
    file.write(b"two\n", START, 2)
    file.write(b"three\n", START + timedelta(seconds=1), 3)
    file.rotate(keep=1)
    since = cursor.begin()
    assert cursor.feed(file.read("" if since is None else "2031-06-12T09:00:00Z")) == b"three\n"
    assert cursor.gap


def test_words_of_the_node_are_no_log() -> None:
    cursor = Cursor()
    cursor.begin()
    with pytest.raises(NotALog):
        cursor.feed(b"unable to retrieve container logs for containerd://5f1d0c4c1f3c4a3e8b7d\n")
