"""Random faults between real agents, an API server and a real platform: what is lost, what is wrong a minute later.

    python -m tests.campaigns.cluster_faults --minutes 5 --seed 1

Agents are processes (`python -m agent cluster`) that are killed with SIGKILL, doubled, started with clocks hours off;
their messages are lost, doubled, late, cut, refused; the API server answers 401, 403, 429, 500, slowly, breaks off, goes
down and comes back; the platform is killed and started again. Meanwhile objects are made, changed and deleted. After
each round the faults end, and within 60 seconds the platform must hold exactly what the API server holds, say that the
cluster lives, and have no alert open about it. One JSON line with what happened; exit code 1 when anything differs.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.fakes import kube_objects as make
from tests.live.agents import MISHAPS
from tests.live.cluster import Connected, Lark

SECONDS = 60.0
API_FAULTS: dict[str, dict[str, Any]] = {
    "401": {"status": 401},
    "403": {"status": 403},
    "429": {"status": 429},
    "500": {"status": 500},
    "slow": {"delay": 1.0},
    "cut": {"cut_after": 2000},
}
PLACES = ("/api/v1/nodes", "/api/v1/pods", "/apis/apps/v1/deployments", "/version", "GET /")


class Round:
    """One round of faults on one cluster."""

    def __init__(self, prod: Connected, dice: random.Random, tally: Counter[str]) -> None:
        self.prod, self.dice, self.tally = prod, dice, tally
        self.down = False

    def run(self, steps: int) -> None:
        acts = (self.kill, self.second, self.skewed, self.mishap, self.api, self.api_down, self.closed, self.forget)
        for _ in range(steps):
            act = self.dice.choice(acts)
            self.tally[act.__name__] += 1
            act()
            self.change()
            time.sleep(self.dice.uniform(0.0, 1.2))

    def mend(self) -> None:
        """End every fault; one agent runs at least."""
        self.prod.road.mend()
        self.prod.kube.faults.clear()
        if self.down:
            self.prod.kube.up()
            self.down = False
        if not self.prod.agents.running:
            self.prod.agents.start()

    def kill(self) -> None:
        for name in self.dice.sample(sorted(self.prod.agents.running), min(1, len(self.prod.agents.running))):
            self.prod.agents.kill9(name)
        if self.dice.random() < 0.7:
            self._start(0.0)

    def second(self) -> None:
        self._start(0.0)

    def skewed(self) -> None:
        self._start(self.dice.choice((-1, 1)) * self.dice.uniform(600, 10 * 3600))

    def _start(self, clock_off: float) -> None:
        free = [name for name in ("one", "two") if name not in self.prod.agents.running]
        if free:
            self.prod.agents.start(free[0], clock_off=clock_off)

    def mishap(self) -> None:
        chosen = self.dice.choices(MISHAPS, k=self.dice.randint(1, 4))
        self.tally.update(chosen)
        self.prod.road.next(*chosen)

    def api(self) -> None:
        name = self.dice.choice(sorted(API_FAULTS))
        self.tally[f"api {name}"] += 1
        self.prod.kube.fail(self.dice.choice(PLACES), times=self.dice.randint(1, 6), **API_FAULTS[name])
        if self.dice.random() < 0.5:
            self.prod.kube.store.compact()
        self.prod.kube.cut()

    def api_down(self) -> None:
        if self.down:
            self.prod.kube.up()
        else:
            self.prod.kube.down()
        self.down = not self.down

    def closed(self) -> None:
        self.prod.road.closed = not self.prod.road.closed

    def forget(self) -> None:
        """Whoever watches now must list anew."""
        self.prod.kube.store.compact()
        self.prod.kube.cut()

    def change(self) -> None:
        """What goes on in the cluster meanwhile."""
        kube = self.prod.kube
        for _ in range(self.dice.randint(0, 5)):
            pods = kube.all("pods", "")
            what = self.dice.random()
            if what < 0.5 or len(pods) < 5:
                kube.create(make.pod(f"p-{self.dice.randrange(10**9)}", "team-0"))
            elif what < 0.8:
                place = self.dice.choice(pods)["metadata"]
                kube.delete("pods", place["namespace"], place["name"])
            else:
                node = self.dice.choice(kube.all("nodes", ""))["metadata"]["name"]
                kube.change("nodes", "", node, {"spec": {"unschedulable": self.dice.random() < 0.5}})


def run(lark: Lark, folder: Path, *, seconds: float, seed: int, kill_platform: bool = True) -> dict[str, Any]:
    """Rounds until the time is over; what happened, with `findings`."""
    dice, tally, findings = random.Random(seed), Counter[str](), []
    waited: list[float] = []
    deadline, rounds = time.monotonic() + seconds, 0
    with lark.connect(folder) as prod:
        prod.kube.seed(nodes=4, pods=30)
        while time.monotonic() < deadline:
            rounds += 1
            one = Round(prod, dice, tally)
            if not prod.agents.running:
                prod.agents.start()
            one.run(dice.randint(2, 7))
            if kill_platform and dice.random() < 0.2:
                tally["platform killed"] += 1
                lark.curfew.kill9()
                one.change()
                lark.curfew.restart()
            one.mend()
            try:
                waited.append(prod.settled(SECONDS))
                left = prod.alerts()
                if left:
                    findings.append(f"round {rounds}: alerts stay open: {left}")
            except AssertionError as wrong:
                findings.append(f"round {rounds}: {str(wrong)[:1500]}")
    waited.sort()
    return {
        "rounds": rounds,
        "seed": seed,
        "happened": dict(sorted(tally.items())),
        "right_after_seconds": {
            "median": round(waited[len(waited) // 2], 1) if waited else None,
            "longest": round(waited[-1], 1) if waited else None,
        },
        "findings": findings,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--heartbeat", type=int, default=1, help="seconds between heartbeats; 15 as shipped")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="curfew-faults-") as folder, Lark(heartbeat=options.heartbeat) as lark:
        told = run(lark, Path(folder), seconds=60 * options.minutes, seed=options.seed)
    sys.stdout.write(json.dumps(told) + "\n")
    return 1 if told["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
