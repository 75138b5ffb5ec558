"""How long a pod waits, from being unschedulable until the cloud is asked for a machine.

    python -m bench.pending_pods --rounds 30

A fake API server and moto over HTTP; the watch, the engine with the whole catalogue of a template (m5, c5, r5) in three zones,
the operation's row and a worker thread that takes its hints. Prints JSON; exit code 1 above the limit of 2 s at p95.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import queue
import statistics
import sys
import tempfile
import threading
import time
from typing import Any

LIMIT_SECONDS = 2.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.pending_pods", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    os.environ["CURFEW_DATA"] = tempfile.mkdtemp(prefix="curfew-pending-")
    from tests.campaigns import policy_drains

    policy_drains._setup()
    logging.disable(logging.CRITICAL)
    found = measure(policy_drains.Campaign(seed=1), options.rounds)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return 0 if found["p95_seconds"] <= LIMIT_SECONDS else 1


def measure(campaign: Any, rounds: int) -> dict[str, Any]:
    """Seconds of each round."""
    from core import tasks
    from operations import runner
    from policies.enforcing import watching
    from policies.models import NodeTemplate

    row = campaign.row
    NodeTemplate.objects.create(
        organization_id=row.organization_id,
        name="general",
        families=["m5", "c5", "r5"],
        architectures=["amd64"],
        zones=["eu-west-1a", "eu-west-1b", "eu-west-1c"],
        purchasing="hybrid",
        is_default=True,
        created_at=row.created_at,
        updated_at=row.created_at,
    )
    campaign.kube.before = lambda line: None
    campaign.kube.after = lambda line: None
    asked = threading.Event()
    campaign.cloud.before = lambda what: None
    campaign.cloud.after = lambda what: asked.set() if what == "CreateFleet" else None
    hints: queue.Queue[str] = queue.Queue()
    tasks._send = lambda name, kwargs: hints.put(kwargs["operation_id"])  # type: ignore[assignment]

    def work() -> None:
        while True:
            runner.run_operation(hints.get())

    threading.Thread(target=work, daemon=True).start()
    keeper = watching.Keeper()
    keeper.tend()
    time.sleep(1.0)
    seconds = []
    for _ in range(rounds):
        seconds.append(_round(campaign, asked))
        keeper.tend()
    keeper.stop()
    campaign.nursery.close()
    seconds.sort()
    return {
        "rounds": len(seconds),
        "median_seconds": round(statistics.median(seconds), 2),
        "p95_seconds": round(seconds[int(0.95 * (len(seconds) - 1))], 2),
        "most_seconds": round(seconds[-1], 2),
        "load": os.getloadavg()[0],
    }


def _round(campaign: Any, asked: threading.Event) -> float:
    """A cluster with one node, and a deployment one of whose pods needs another."""
    from policies.enforcing.models import NodeAction

    time.sleep(1.0)
    NodeAction.objects.all_orgs().filter(kind="launch").delete()
    asked.clear()
    campaign._build("launch")
    assert asked.wait(60), "no machine was asked for"
    return time.monotonic() - float(campaign.kube.waited_at)


if __name__ == "__main__":
    sys.exit(main())
