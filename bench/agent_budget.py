"""What the cluster agent costs where it runs: memory and CPU at 1,000 nodes and 10,000 pods, in its own process.

    python -m bench.agent_budget --nodes 1000 --pods 10000 --seconds 60 --churn 20

The API server (a fake one) and the platform's endpoints run in this process; the agent is `python -m agent cluster`
with its defaults (heartbeat 15 s, delta 10 s, usage 60 s). `churn` pods a second change their status, one node a
second writes one of its conditions. Measured from /proc of the agent: `start` until its first snapshot has been taken,
`steady` for the seconds after a settling pause. Exit code 1 when 150 MB or 0.1 core are exceeded.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.support import ROOT, report
from tests.agent.platform import TOKEN, Platform
from tests.fakes import kube_objects as make
from tests.fakes.kube import FakeKube

MOST_BYTES = 150 * 1000 * 1000
MOST_CORES = 0.1
SETTLE = 10.0


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int, what: str) -> int:
    """VmRSS or VmHWM (the highest so far) in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(what):
            return int(line.split()[1]) * 1024
    raise RuntimeError(what)


def wait(true: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise RuntimeError("the agent did not get there in time")
        time.sleep(0.05)


def churn(kube: FakeKube, rng: random.Random, per_second: int, seconds: float, each: Callable[[], None]) -> int:
    """Change pods and nodes evenly for so many seconds; returns how many."""
    pods, nodes = kube.all("pods", ""), kube.all("nodes", "")
    began, count = time.monotonic(), 0
    while (now := time.monotonic() - began) < seconds:
        if count < now * per_second:
            metadata = rng.choice(pods)["metadata"]
            state = {"name": "app", "restartCount": count, "ready": True, "state": {"running": {}}, "lastState": {}}
            kube.change("pods", metadata["namespace"], metadata["name"], {"status": {"containerStatuses": [state]}})
            count += 1
        if count % max(1, per_second) == 0 and per_second:
            condition = {"type": "Ready", "lastHeartbeatTime": make.stamp(now)}
            kube.change("nodes", "", rng.choice(nodes)["metadata"]["name"], {"status": {"conditions": [condition]}})
            count += 1
        each()
        time.sleep(0.01)
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--churn", type=int, default=20)
    options = parser.parse_args()
    with FakeKube() as kube, Platform() as platform:
        kube.seed(nodes=options.nodes, pods=options.pods)
        environment = {**os.environ, "CURFEW_TOKEN": TOKEN, "MALLOC_ARENA_MAX": "2", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "agent", "cluster", "--url", platform.url, "--api-server", kube.url]
        agent = subprocess.Popen(command, env=environment, cwd=ROOT)
        try:
            began = time.monotonic()
            wait(lambda: platform.messages, 300)
            first = {"seconds": round(time.monotonic() - began, 1), "cpu_seconds": round(cpu_seconds(agent.pid), 2)}
            wait(lambda: platform.samples, 120)
            time.sleep(SETTLE)
            peaks: list[int] = []
            cpu, sent, start = cpu_seconds(agent.pid), len(platform.log), time.monotonic()
            changed = churn(
                kube, random.Random(1), options.churn, options.seconds, lambda: peaks.append(memory(agent.pid, "VmRSS"))
            )
            used, elapsed = cpu_seconds(agent.pid) - cpu, time.monotonic() - start
            highest = memory(agent.pid, "VmHWM")
            kinds = [m.kind for m in platform.messages]
            body = sum(len(r.body) for r in platform.log[sent:])
            wait(lambda: len(platform.snapshot.pods) == options.pods, 30)
        finally:
            agent.terminate()
            agent.wait(20)
    cores = used / elapsed
    report(
        "agent_budget",
        nodes=options.nodes,
        pods=options.pods,
        changes=changed,
        first_snapshot=first,
        steady={
            "seconds": round(elapsed, 1),
            "cores": round(cores, 4),
            "rss_bytes_max": max(peaks),
            "bytes_sent": body,
            "samples": len(platform.samples),
        },
        rss_bytes_highest_ever=highest,
        messages={"full": kinds.count("full"), "delta": kinds.count("delta")},
        limits={"rss_bytes": MOST_BYTES, "cores": MOST_CORES},
    )
    return 0 if highest <= MOST_BYTES and cores <= MOST_CORES else 1


if __name__ == "__main__":
    sys.exit(main())
