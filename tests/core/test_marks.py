"""What is due seldom is due once a window in this process, and again afterwards."""

from __future__ import annotations

import pytest

from core import marks


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    moment = [1000.0]
    monkeypatch.setattr(marks.time, "monotonic", lambda: moment[0])
    return moment


def test_due_once_a_window(now: list[float]) -> None:
    assert [marks.due("a", 5), marks.due("a", 5), marks.due("b", 5)] == [True, False, True]
    now[0] += 4.9
    assert not marks.due("a", 5)
    now[0] += 0.2
    assert marks.due("a", 5)
    assert not marks.due("a", 5)


def test_forgets_the_oldest_when_there_are_too_many(now: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "MOST", 2)
    for name in ("a", "b", "c"):
        assert marks.due(name, 60)
    assert not marks.due("c", 60)
    assert marks.due("a", 60)
