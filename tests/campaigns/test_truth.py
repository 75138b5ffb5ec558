"""The comparison finds what it must find: each kind of wrong book-keeping, made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tests.campaigns import truth

pytestmark = pytest.mark.unit
NODE = {"id": "n1", "instance_name": "flux", "provider_id": "i-1", "provider_state": "running"}


def _operation(**changes: Any) -> dict[str, Any]:
    facts = {
        "id": "o1",
        "kind": truth.START,
        "status": "succeeded",
        "resource_id": "n1",
        "resource_label": "flux",
        "lease_owner": "",
        "error": "",
        "error_code": "",
        "created_at": 99.0,
        "finished_at": 102.0,
    }
    return {**facts, **changes}


def _call(at: float, action: str = "StartInstances") -> dict[str, Any]:
    return {"at": at, "action": action, "instances": ["i-1"], "status": 200}


def _changes(*steps: tuple[float, str]) -> list[dict[str, Any]]:
    before, rows = "", []
    for at, to in steps:
        rows.append({"at": at, "instance": "i-1", "name": "flux", "from": before, "to": to})
        before = to
    return rows


STARTED = _changes((0, "stopped"), (100, "pending"), (101, "running"))


def _interval(start: float, end: float | None, phase: str = "awake") -> dict[str, Any]:
    return {"resource_id": "n1", "phase": phase, "started_at": start, "ended_at": end}


def test_a_start_as_it_should_be_has_no_findings() -> None:
    counted = truth.orders([_operation()], [_call(100)], STARTED, {"n1": "i-1"})
    assert counted.findings == []
    assert (counted.repeated, counted.most_calls_of_one_operation) == (0, 1)


def test_an_order_sent_again_is_counted_but_no_finding_while_it_changes_nothing() -> None:
    counted = truth.orders([_operation()], [_call(100), _call(100.5)], STARTED, {"n1": "i-1"})
    assert counted.findings == []
    assert (counted.repeated, counted.most_calls_of_one_operation) == (1, 2)


def test_a_node_started_twice_by_one_operation_is_found() -> None:
    twice = _changes(
        (0, "stopped"), (100, "pending"), (100.4, "running"), (100.6, "stopped"), (101, "pending"), (101.5, "running")
    )
    (finding,) = truth.orders([_operation()], [_call(100), _call(101)], twice, {"n1": "i-1"}).findings
    assert "2 times" in finding


def test_a_call_that_nobody_ordered_is_found() -> None:
    findings = truth.orders([], [_call(100)], STARTED, {"n1": "i-1"}).findings
    assert len(findings) == 2  # the call and what it did


def test_a_success_without_a_running_node_is_found() -> None:
    (finding,) = truth.orders([_operation()], [], _changes((0, "stopped")), {"n1": "i-1"}).findings
    assert "although its node was stopped" in finding


def test_stuck_lost_and_wordless_operations_are_found() -> None:
    assert truth.unended([_operation(status="running")])
    assert truth.unended([_operation(status="failed")])
    assert not truth.unended([_operation(status="failed", error="No capacity", error_code="capacity"), _operation()])
    assert truth.lost(["o1", "o2"], [_operation()]) == ["operation o2 was accepted and is gone"]


def test_states_and_wishes_are_compared_with_the_provider() -> None:
    assert truth.states([NODE], {"i-1": "running"}) == []
    assert truth.states([NODE], {"i-1": "stopped"})
    assert truth.wishes([NODE], [_operation()], {"i-1": "running"}) == []
    assert truth.wishes([NODE], [_operation()], {"i-1": "stopped"})


@pytest.mark.parametrize(
    ("intervals", "wrong"),
    [
        ([_interval(102, None)], False),
        ([_interval(102, 103), _interval(103, None)], False),  # cut by a price
        ([_interval(112, None)], True),  # later than an observation can be
        ([_interval(90, None)], True),  # before it ran
        ([_interval(102, 104)], True),  # closed although it runs
        ([_interval(102, 104), _interval(105, None)], True),  # a gap that was none
        ([], True),
    ],
)
def test_the_ledger_is_compared_with_the_provider(intervals: list[dict[str, Any]], wrong: bool) -> None:
    assert bool(truth.ledger([NODE], intervals, STARTED, [], 50).findings) is wrong


def test_an_outage_excuses_a_late_edge_and_only_there() -> None:
    late = [_interval(130, None)]
    assert truth.ledger([NODE], late, STARTED, [truth.Outage(100.5, 128)], 50).findings == []
    assert truth.ledger([NODE], late, STARTED, [truth.Outage(140, 150)], 50).findings


AGAIN = _changes(
    (0, "stopped"), (100, "pending"), (101, "running"), (110, "stopped"), (155, "pending"), (156, "running")
)


@pytest.mark.parametrize(
    ("intervals", "wrong"),
    [
        ([_interval(101, None)], False),  # it goes on within the minute
        ([_interval(101, 161), _interval(164, None)], False),  # the minute was over when it was seen again
        ([_interval(101, 161), _interval(180, None)], True),  # much too late
        ([_interval(101, 161)], True),  # never again
        ([_interval(101, 115), _interval(156, None)], True),  # less than the minute that is charged
        ([_interval(101, 161), _interval(164, 170), _interval(172, None)], True),  # once too often
    ],
)
def test_a_run_within_the_minute_of_another_may_be_seen_apart(intervals: list[dict[str, Any]], wrong: bool) -> None:
    assert bool(truth.ledger([NODE], intervals, AGAIN, [], 50).findings) is wrong


def test_what_follows_from_a_late_edge_is_as_late() -> None:
    stopped = AGAIN[:4]
    late, outage = [_interval(114, 174)], [truth.Outage(100, 108)]
    assert truth.ledger([NODE], late, stopped, outage, 50).findings == []
    assert truth.ledger([NODE], [_interval(114, 190)], stopped, outage, 50).findings
    assert truth.ledger([NODE], [_interval(102, 174)], stopped, [], 50).findings
