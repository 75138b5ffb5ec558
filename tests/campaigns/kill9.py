"""SIGKILL at random moments, and after each one a full comparison with what the cloud did.

    python -m tests.campaigns.kill9 --mode embedded --kills 100 --seed 1
    python -m tests.campaigns.kill9 --mode scaled --kills 100 --seed 1 --lease 6
    python -m tests.campaigns.kill9 --mode embedded --kills 30 --seed 1 --answer-seconds 1.5

Embedded, the whole process is killed; scaled out, mostly the worker, sometimes the web server or beat. Prints a
summary as JSON; exit code 1 when there are findings. Leases last 60 s as shipped; `--lease` shortens them for scaled
runs, where a dead worker's work is taken up only after its lease has run out. `--answer-seconds` lets the cloud obey
at once and answer late, so that many kills fall between an order's effect and its answer (`cut_calls`).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

import httpx

from tests.campaigns import truth
from tests.live.client import Api
from tests.live.cloud import WatchedCloud
from tests.live.processes import TookTooLong
from tests.live.server import Curfew, Embedded, Scaled

LONGEST_WAIT = 3.5
SETTLE_SECONDS = 120.0
STATE_SECONDS = 30.0
PARTS = {"embedded": (("web", 1.0),), "scaled": (("worker0", 0.7), ("web", 0.2), ("beat", 0.1))}


@dataclass
class Tally:
    """What happened in a campaign."""

    kills: Counter[str] = field(default_factory=Counter)
    hit: Counter[str] = field(default_factory=Counter)  # operations under way at a kill, by kind and status
    asked: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    accepted: list[str] = field(default_factory=list)
    outages: list[truth.Outage] = field(default_factory=list)
    back_seconds: list[float] = field(default_factory=list)  # kill to the first answer
    settle_seconds: list[float] = field(default_factory=list)  # kill to everything ended and equal
    findings: list[str] = field(default_factory=list)


class Orders(threading.Thread):
    """Random starts, stops and scans, one after the other, while the server is alive or not."""

    def __init__(self, campaign: Campaign, wishes: list[tuple[str, str]]) -> None:
        super().__init__(name="orders", daemon=True)
        self._campaign, self._wishes = campaign, wishes

    def run(self) -> None:
        for verb, what in self._wishes:
            self._campaign.order(verb, what)


class Campaign:
    """One running Curfew, one cloud, one organization, and a random number generator with a known seed."""

    def __init__(self, curfew: Curfew, cloud: WatchedCloud, seed: int) -> None:
        self.curfew, self.cloud = curfew, cloud
        self.random = random.Random(seed)
        self.tally = Tally()
        self.api: Api = curfew.member("Larkspur", "alice@larkspur.test")
        connected = self.api.connect_keys(cloud.keys())
        assert connected.status_code in {200, 201, 202}, f"{connected.status_code} {connected.text}"
        self.account = self._account_id()
        self.api.scanned(self.account)
        self.names = [node.name for node in self.api.nodes()]
        assert len(self.names) >= 10, f"the scan found {self.names}"
        self.began = time.time()

    def _account_id(self) -> str:
        (account,) = self.api.accounts()
        return str(account["id"])

    def run(self, kills: int, *, say: Callable[[str], None] = lambda line: None) -> None:
        """Kill so often; findings of each round are in the tally."""
        for number in range(1, kills + 1):
            found = len(self.tally.findings)
            self.round()
            new = self.tally.findings[found:]
            say(f"{number}/{kills}: settled in {self.tally.settle_seconds[-1]:.1f} s, {len(new)} findings")
            for finding in new:
                say(f"  {finding}")

    def round(self) -> None:
        """Orders, a kill in their midst, a restart, and the comparison."""
        orders = Orders(self, self._wishes())
        orders.start()
        time.sleep(self.random.uniform(0.0, LONGEST_WAIT))
        part = self._victim()
        killed_at = time.time()
        self.curfew.kill9(part)
        self.tally.kills[part] += 1
        self.curfew.restart()
        self.tally.back_seconds.append(time.time() - killed_at)
        orders.join(120)
        self._note_what_was_hit(killed_at)
        self._settle()
        self.tally.outages.append(truth.Outage(killed_at, time.time()))
        self.tally.settle_seconds.append(time.time() - killed_at)
        self.compare()

    def _victim(self) -> str:
        parts = PARTS[self.curfew.mode]
        return self.random.choices([name for name, _ in parts], [weight for _, weight in parts])[0]

    def _wishes(self) -> list[tuple[str, str]]:
        states = self.cloud.watch().states
        chosen = self.random.sample(self._nodes(), k=self.random.randint(1, 4))
        wishes = [
            ("stop" if states[node["provider_id"]] == "running" else "start", node["instance_name"]) for node in chosen
        ]
        if self.random.random() < 0.4:
            wishes.append(("scan", self.account))
        self.random.shuffle(wishes)
        return wishes

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self.curfew.inspector.nodes() if node["instance_name"] in self.names]

    def order(self, verb: str, what: str) -> None:
        """Ask once. The answer may be lost with the server; what was promised with a 202 must be kept."""
        self.tally.asked[verb] += 1
        try:
            answer = (
                self.api.post(f"/api/client/accounts/{what}/resync") if verb == "scan" else self.api.switch(verb, what)
            )
        except (httpx.HTTPError, AssertionError) as lost:
            self.tally.answers[type(lost).__name__] += 1
            return
        self.tally.answers[str(answer.status_code)] += 1
        if answer.status_code == 202:
            self.tally.accepted.append(answer.json()["operation"]["id"])
        elif answer.status_code not in {409, 429, 503}:
            self.tally.findings.append(f"{verb} {what}: {answer.status_code} {answer.text[:300]}")

    def _note_what_was_hit(self, killed_at: float) -> None:
        for row in self.curfew.inspector.operations():
            if row["created_at"] <= killed_at < (row["finished_at"] or float("inf")):
                self.tally.hit[row["kind"]] += 1

    def _settle(self) -> None:
        """Wait until every operation has ended and every node is seen as it is."""
        self._wait(SETTLE_SECONDS, lambda: truth.unended(self.curfew.inspector.operations()))
        self._wait(STATE_SECONDS, self._wrong_states)

    def _wrong_states(self) -> list[str]:
        return truth.states(self._nodes(), self.cloud.watch().states)

    def _wait(self, seconds: float, problems: Callable[[], list[str]]) -> None:
        deadline = time.monotonic() + seconds
        while found := problems():
            if time.monotonic() > deadline:
                self.tally.findings += [f"after {seconds:.0f} s: {finding}" for finding in found]
                return
            time.sleep(0.3)

    def compare(self) -> dict[str, Any]:
        """Everything against everything; findings go to the tally, figures are returned."""
        inspector, seen = self.curfew.inspector, self.cloud.watch()
        operations, nodes = inspector.operations(), self._nodes()
        instances = {node["id"]: node["provider_id"] for node in nodes}
        mine = set(instances.values())
        calls = [c for c in seen.calls if c["at"] >= self.began and mine.issuperset(c["instances"])]
        changes = [c for c in seen.changes if c["instance"] in mine]
        recent = [c for c in changes if c["at"] >= self.began]
        counted = truth.orders(operations, calls, recent, instances)
        books = truth.ledger(nodes, inspector.intervals(), changes, self.tally.outages, self.began)
        audit = inspector.audit()
        findings = [
            *truth.lost(self.tally.accepted, operations),
            *counted.findings,
            *truth.wishes(nodes, operations, seen.states),
            *books.findings,
            *audit["problems"],
        ]
        known = set(self.tally.findings)
        self.tally.findings += [finding for finding in findings if finding not in known]
        return {
            "operations": dict(Counter(f"{row['kind']} {row['status']}" for row in operations)),
            "failures": sorted(
                {
                    f"{row['kind']}: {row['error_code']}: {row['error']}"
                    for row in operations
                    if row["status"] == "failed"
                }
            ),
            "provider_calls": dict(counted.calls),
            "cut_calls": sum(1 for call in calls if call["instances"] and self._was_cut(call)),
            "repeated_calls_without_effect": counted.repeated,
            "most_calls_of_one_operation": counted.most_calls_of_one_operation,
            "ledger_spans": books.spans,
            "ledger_lag_seconds": {"running": _spread(books.ordinary_lags), "with_outage": _spread(books.outage_lags)},
            "audit_entries": audit["entries"],
        }

    def _was_cut(self, call: dict[str, Any]) -> bool:
        """Whether something was killed between the arrival of an order and its answer."""
        return any(
            call["at"] < outage.killed_at < (call["ended"] or outage.settled_at) for outage in self.tally.outages
        )

    def summary(self, kills: int, seed: int) -> dict[str, Any]:
        """The whole campaign as JSON values."""
        figures = self.compare()
        tally = self.tally
        tally.findings += self.curfew.inspector.verdict()
        return {
            "campaign": "kill9",
            "mode": self.curfew.mode,
            "lease_seconds": self.curfew.lease_seconds,
            "seed": seed,
            "answer_seconds": self.cloud.answer_seconds,
            "kills": kills,
            "killed": dict(tally.kills),
            "operations_hit": dict(tally.hit),
            "asked": dict(tally.asked),
            "answers": dict(tally.answers),
            **figures,
            "seconds_to_first_answer": _spread(tally.back_seconds),
            "seconds_to_settled": _spread(tally.settle_seconds),
            "findings": tally.findings,
        }


def _spread(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    ordered = sorted(values)
    return {"n": len(ordered), "p50": round(ordered[len(ordered) // 2], 2), "max": round(ordered[-1], 2)}


def run(
    mode: str,
    kills: int,
    seed: int,
    *,
    lease: int | None = None,
    answer_seconds: float = 0.0,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """One campaign from nothing to its summary."""
    began = time.monotonic()
    with WatchedCloud(transition_seconds=1.0, answer_seconds=answer_seconds) as cloud:
        make = Embedded(cloud) if mode == "embedded" else Scaled(cloud, lease_seconds=lease)
        with make as curfew:
            campaign = Campaign(curfew, cloud, seed)
            try:
                campaign.run(kills, say=say)
            except (AssertionError, TookTooLong, httpx.HTTPError) as broken:
                campaign.tally.findings.append(f"the campaign broke off: {broken!r}")
            summary = {**campaign.summary(kills, seed), "seconds": round(time.monotonic() - began)}
            if summary["findings"]:
                curfew.keep = True
                summary["data_folder"] = str(curfew.folder)
            return summary


def _write(stream: IO[str], text: str) -> None:
    stream.write(text + "\n")
    stream.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.kill9", description=__doc__)
    parser.add_argument("--mode", choices=sorted(PARTS), default="embedded")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lease", type=int, default=None, help="seconds of a lease (scaled; 60 as shipped)")
    parser.add_argument("--answer-seconds", type=float, default=0.0, help="how late starts and stops are answered")
    options = parser.parse_args()
    summary = run(
        options.mode,
        options.kills,
        options.seed,
        lease=options.lease,
        answer_seconds=options.answer_seconds,
        say=lambda line: _write(sys.stderr, line),
    )
    _write(sys.stdout, json.dumps(summary, indent=1))
    return 1 if summary["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
