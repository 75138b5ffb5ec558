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


@dataclass(frozen=True)
class Charged:
    """A run as EC2 charges it: never shorter than a minute, and after the minute of the run before it."""

    pending: float
    began: float
    ended: float | None
    after_another: bool  # it began within the minute of the run before it
    a_minute: bool  # it ended before its own minute was over


def charged_runs(spans: Iterable[tuple[float, float, float | None]], least: float = 60.0) -> list[Charged]:
    """The runs that EC2 charges, in order."""
    charged: list[Charged] = []
    for pending, began, ended in spans:
        before = charged[-1].ended if charged else None
        start = began if before is None else max(began, before)
        end = None if ended is None else max(ended, start + least)
        charged.append(Charged(pending, start, end, start != began, end != ended))
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

    def edge(
        self, words: str, earliest: float, at: float, written: float, outages: Sequence[Outage], carried: float = 0.0
    ) -> float:
        """One end of a span: not before it began, and no later than an observation can be. Returns how late it was.

        An edge that follows from another by the minute that is charged is late by as much as that one (`carried`).
        """
        disturbed, latest = latest_of(at, outages)
        latest = max(latest, at + carried + CLOCK_SLACK) if carried > 0 else latest
        (self.outage_lags if disturbed else self.ordinary_lags).append(written - at)
        if not earliest - CLOCK_SLACK <= written <= latest:
            self.findings.append(
                f"{words}: at the provider {at:.3f}, in the ledger {written:.3f} (allowed {earliest:.3f} to {latest:.3f})"
            )
        return written - at


def latest_of(at: float, outages: Sequence[Outage]) -> tuple[bool, float]:
    """Whether an outage kept Curfew from seeing it, and when it must have been seen."""
    disturbed = [o for o in outages if o.killed_at - ORDINARY_LAG <= at <= o.settled_at]
    return bool(disturbed), max([at + ORDINARY_LAG, *(o.settled_at + ORDINARY_LAG for o in disturbed)])


def ledger(
    nodes: Iterable[Row], intervals: Sequence[Row], changes: Sequence[Row], outages: Sequence[Outage], since: float
) -> Ledger:
    """Awake time in the ledger against running time at the provider, for spans that began after `since`.

    Two runs are one stretch in the ledger when the second began before anybody had to see that the first had ended.
    """
    result = Ledger()
    for node in nodes:
        name = node["instance_name"]
        real = charged_runs(s for s in running_spans(changes, node["provider_id"]) if s[1] >= since)
        written = [s for s in awake_spans(intervals, node["id"]) if s[0] >= since - CLOCK_SLACK]
        result.spans += len(real)
        at, late = 0, 0.0
        for awake, asleep in written:
            if at == len(real):
                result.findings.append(f"{name}: awake from {awake:.3f} in the ledger, not at the provider")
                break
            run = real[at]
            late = result.edge(f"{name} began", run.pending, run.began, awake, outages, late * run.after_another)
            while run.ended is not None and at + 1 < len(real):
                seen_by = max(latest_of(run.ended, outages)[1], run.ended + late * run.a_minute + CLOCK_SLACK)
                if real[at + 1].began > seen_by or (asleep is not None and asleep <= seen_by):
                    break
                at += 1
                run = real[at]
            at += 1
            if (run.ended is None) != (asleep is None):
                result.findings.append(f"{name}: ended {run.ended} at the provider, {asleep} in the ledger")
            elif run.ended is not None and asleep is not None:
                late = result.edge(f"{name} ended", run.ended, run.ended, asleep, outages, late * run.a_minute)
        if at < len(real):
            result.findings.append(f"{name}: {len(real) - at} runs at the provider are not in the ledger")
    return result
