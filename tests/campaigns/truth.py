"""What Curfew wrote down, compared with what the cloud did. Pure functions on rows and records; times in epoch seconds.

Every function returns findings: sentences with the figures needed to look into them. None means nothing was wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Row = Mapping[str, Any]
START, STOP, SCAN = "node.start", "node.stop", "account.scan"
CALLS = {START: "StartInstances", STOP: "StopInstances"}
FINAL = {"succeeded", "failed", "cancelled"}
CLOCK_SLACK = 1.5  # EC2 tells launch times in whole seconds
ORDINARY_LAG = 10.0  # an observation may be this late while Curfew runs: one poll and its work, on a busy machine
STATE_WORDS = {
    "running": "running",
    "pending": "starting",
    "stopping": "stopping",
    "stopped": "stopped",
    "shutting-down": "gone",
    "terminated": "gone",
}


@dataclass(frozen=True)
class Outage:
    """From the kill of a part until everything had settled again."""

    killed_at: float
    settled_at: float


@dataclass
class Counted:
    """Calls at the provider set against the operations that ordered them."""

    findings: list[str] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    repeated: int = 0  # orders sent again after a kill, that changed nothing at the provider
    most_calls_of_one_operation: int = 0


def unended(operations: Iterable[Row]) -> list[str]:
    """Operations that have not ended, or failed without a reason."""
    findings = []
    for row in operations:
        if row["status"] not in FINAL:
            findings.append(
                f"{row['kind']} {row['id']} of {row['resource_label']} is stuck: {row['status']}, lease {row['lease_owner'] or 'none'}"
            )
        elif row["status"] == "failed" and not (row["error"] and row["error_code"]):
            findings.append(f"{row['kind']} {row['id']} of {row['resource_label']} failed without a reason")
    return findings


def lost(accepted: Iterable[str], operations: Iterable[Row]) -> list[str]:
    """Operations that were promised with a 202 and are not there."""
    known = {row["id"] for row in operations}
    return [f"operation {operation} was accepted and is gone" for operation in accepted if operation not in known]


def orders(
    operations: Sequence[Row], calls: Sequence[Row], changes: Sequence[Row], instances: Mapping[str, str]
) -> Counted:
    """Every start and stop at the provider belongs to one operation, and changed the instance at most once for it.

    `instances` gives the instance of a node's id. EC2 takes no token with a start, so a call belongs to the operation
    on its node that was active when it came; only one can be.
    """
    result = Counted()
    for kind, action in CALLS.items():
        rows = [row for row in operations if row["kind"] == kind]
        made = [call for call in calls if call["action"] == action and call["status"] == 200]
        per_operation: Counter[str] = Counter()
        for call in made:
            for instance in call["instances"]:
                result.calls[action] += 1
                owner = _owner(rows, instances, instance, call["at"])
                if owner is None:
                    result.findings.append(f"{action} of {instance} at {call['at']:.3f} belongs to no operation")
                else:
                    per_operation[owner["id"]] += 1
        began = "pending" if kind == START else "stopping"
        effects: Counter[str] = Counter()
        for change in changes:
            if change["to"] == began and change["from"]:
                owner = _owner(rows, instances, change["instance"], change["at"])
                if owner is None:
                    result.findings.append(
                        f"{change['name']} became {began} at {change['at']:.3f} without an operation"
                    )
                else:
                    effects[owner["id"]] += 1
        result.findings += [f"operation {i} made its node {began} {n} times" for i, n in effects.items() if n > 1]
        result.repeated += sum(per_operation.values()) - len(per_operation)
        result.most_calls_of_one_operation = max([result.most_calls_of_one_operation, *per_operation.values()])
        result.findings += _without_effect(rows, effects, changes, instances, "running" if kind == START else "stopped")
    return result


def _owner(rows: Iterable[Row], instances: Mapping[str, str], instance: str, at: float) -> Row | None:
    for row in rows:
        until = row["finished_at"] or float("inf")
        if instances.get(row["resource_id"]) == instance and row["created_at"] - 0.1 <= at <= until + 0.1:
            return row
    return None


def _without_effect(
    rows: Iterable[Row], effects: Mapping[str, int], changes: Sequence[Row], instances: Mapping[str, str], wanted: str
) -> list[str]:
    """Successes whose node was not in the wanted state when they ended."""
    findings = []
    for row in rows:
        if row["status"] != "succeeded" or row["resource_id"] not in instances:
            continue
        state = _state_at(changes, instances[row["resource_id"]], row["finished_at"])
        if state not in {wanted, "pending"} if wanted == "running" else state not in {wanted, "stopping"}:
            findings.append(
                f"{row['kind']} {row['id']} succeeded although its node was {state} (effects: {effects.get(row['id'], 0)})"
            )
    return findings


def _state_at(changes: Iterable[Row], instance: str, at: float) -> str:
    state = "unknown"
    for change in changes:
        if change["instance"] == instance and change["at"] <= at + 0.1:
            state = change["to"]
    return state


def states(nodes: Iterable[Row], cloud: Mapping[str, str]) -> list[str]:
    """Nodes whose observed state is not what the provider says now."""
    return [
        f"{node['instance_name']} is {cloud[node['provider_id']]} at the provider and {node['provider_state']} here"
        for node in nodes
        if STATE_WORDS[cloud[node["provider_id"]]] != node["provider_state"]
    ]


def wishes(nodes: Iterable[Row], operations: Sequence[Row], cloud: Mapping[str, str]) -> list[str]:
    """Nodes that are not as their last successful operation left them."""
    findings = []
    for node in nodes:
        mine = [
            r
            for r in operations
            if r["resource_id"] == node["id"] and r["kind"] in CALLS and r["status"] == "succeeded"
        ]
        if mine:
            last = max(mine, key=lambda row: row["finished_at"])
            wanted = "running" if last["kind"] == START else "stopped"
            if cloud[node["provider_id"]] != wanted:
                findings.append(
                    f"{node['instance_name']} is {cloud[node['provider_id']]}; its last operation was {last['kind']}"
                )
    return findings


def running_spans(changes: Iterable[Row], instance: str) -> list[tuple[float, float, float | None]]:
    """`(pending since, running since, not running any more since)` of one instance, in order; None while it runs."""
    spans: list[tuple[float, float, float | None]] = []
    pending: float | None = None
    for change in changes:
        if change["instance"] != instance:
            continue
        if change["to"] == "pending":
            pending = change["at"]
        elif change["to"] == "running":
            spans.append((pending or change["at"], change["at"], None))
        elif change["from"] == "running" and spans:
            spans[-1] = (*spans[-1][:2], change["at"])
    return spans


def charged_spans(
    spans: Iterable[tuple[float, float, float | None]], least: float = 60.0
) -> list[tuple[float, float, float | None]]:
    """The stretches that EC2 charges: none is shorter than a minute, and one that begins within it goes on from there."""
    charged: list[tuple[float, float, float | None]] = []
    for pending, began, ended in spans:
        before = charged[-1][2] if charged else None
        start = began if before is None else max(began, before)
        end = None if ended is None else max(ended, start + least)
        if before is not None and began <= before:
            charged[-1] = (*charged[-1][:2], end)
        else:
            charged.append((pending, began, end))
    return charged


def awake_spans(intervals: Iterable[Row], node: str) -> list[tuple[float, float | None]]:
    """Stretches that the ledger calls awake; neighbours (a price changed) are one."""
    spans: list[tuple[float, float | None]] = []
    for row in intervals:
        if row["resource_id"] != node or row["phase"] != "awake":
            continue
        if spans and spans[-1][1] == row["started_at"]:
            spans[-1] = (spans[-1][0], row["ended_at"])
        else:
            spans.append((row["started_at"], row["ended_at"]))
    return spans


@dataclass
class Ledger:
    """The comparison of one account's ledger, and how late edges were written with and without an outage (seconds)."""

    findings: list[str] = field(default_factory=list)
    spans: int = 0
    ordinary_lags: list[float] = field(default_factory=list)
    outage_lags: list[float] = field(default_factory=list)

    def edge(self, words: str, earliest: float, at: float, written: float, outages: Sequence[Outage]) -> None:
        """One end of a span: not before it began, and no later than an observation can be."""
        disturbed = [o for o in outages if o.killed_at - ORDINARY_LAG <= at <= o.settled_at]
        latest = max([at + ORDINARY_LAG, *(o.settled_at + ORDINARY_LAG for o in disturbed)])
        (self.outage_lags if disturbed else self.ordinary_lags).append(written - at)
        if not earliest - CLOCK_SLACK <= written <= latest:
            self.findings.append(
                f"{words}: at the provider {at:.3f}, in the ledger {written:.3f} (allowed {earliest:.3f} to {latest:.3f})"
            )


def ledger(
    nodes: Iterable[Row], intervals: Sequence[Row], changes: Sequence[Row], outages: Sequence[Outage], since: float
) -> Ledger:
    """Awake time in the ledger against running time at the provider, for spans that began after `since`."""
    result = Ledger()
    for node in nodes:
        name = node["instance_name"]
        real = charged_spans(s for s in running_spans(changes, node["provider_id"]) if s[1] >= since)
        written = [s for s in awake_spans(intervals, node["id"]) if s[0] >= since - CLOCK_SLACK]
        result.spans += len(real)
        if len(real) != len(written):
            result.findings.append(
                f"{name}: {len(real)} running stretches at the provider, {len(written)} awake ones in the ledger"
            )
            continue
        for (pending, began, ended), (awake, asleep) in zip(real, written, strict=True):
            result.edge(f"{name} began", pending, began, awake, outages)
            if (ended is None) != (asleep is None):
                result.findings.append(f"{name}: ended {ended} at the provider, {asleep} in the ledger")
            elif ended is not None and asleep is not None:
                result.edge(f"{name} ended", ended, ended, asleep, outages)
    return result
