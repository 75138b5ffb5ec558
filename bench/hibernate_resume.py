"""A sleep of 500 resources (of 640 objects, as some rest already), its worker killed again and again: how long it takes, and how often each was changed.

    python -m bench.hibernate_resume --workloads 640 --kills 10

Uses the campaign's fake API server and worker processes. Prints JSON; exit code 1 when a resource was changed more than
once, or one was left out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from typing import Any

from tests.campaigns import hibernate_crash


def run(workloads: int, kills: int) -> dict[str, Any]:
    """One sleep, killed `kills` times at equal distances; every object's changes are counted by the API server."""
    from clusters.sleeping import services
    from clusters.sleeping.models import SleepSnapshot
    from operations.models import Operation

    campaign = hibernate_crash.Campaign(workloads, seed=1)
    try:
        campaign.breaker.seen.clear()
        operation = services.request_sleep(actor=campaign.actor, cluster_id=campaign.cluster.id)
        campaign.breaker.begin("sleep")
        _arm(campaign, workloads, kills)
        began = time.monotonic()
        killed = 0
        while not campaign.nursery.work(str(operation.id), campaign.breaker):
            killed += 1
        seconds = time.monotonic() - began
        ended = Operation.objects.all_orgs().get(id=operation.id)
        entries = SleepSnapshot.objects.all_orgs().get().entries
        done = Counter(line for line in campaign.kube.writes if line.startswith("PATCH"))
        return {
            "bench": "hibernate_resume",
            "resources": len(entries),
            "changed_once": sum(1 for count in done.values() if count == 1),
            "asked_more_than_once": sum(1 for count in done.values() if count > 1),
            "left_out": len(entries) - len(done),
            "status": str(ended.status),
            "workers_killed": killed,
            "seconds": round(seconds, 1),
            "load": round(os.getloadavg()[0], 1),
        }
    finally:
        campaign.close()


def _arm(campaign: hibernate_crash.Campaign, workloads: int, kills: int) -> None:
    """Kill after every n-th object was changed, before its answer is sent."""
    lines = [
        f"PATCH /apis/apps/v1/namespaces/{obj['metadata']['namespace']}/deployments/{obj['metadata']['name']}"
        for obj in campaign.kube.all("deployments")
        if obj["metadata"]["name"].startswith("w") and obj["spec"].get("replicas", 1)
    ]
    step = max(1, len(lines) // max(1, kills))
    campaign.breaker.armed = {("sleep", line, 0): "kill_after" for line in lines[::step][:kills]}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.hibernate_resume", description=__doc__)
    parser.add_argument("--workloads", type=int, default=640)
    parser.add_argument("--kills", type=int, default=10)
    options = parser.parse_args()
    os.environ["CURFEW_DATA"] = tempfile.mkdtemp(prefix="curfew-resume-")
    hibernate_crash._setup()
    summary = run(options.workloads, options.kills)
    sys.stdout.write(json.dumps(summary, indent=1) + "\n")
    good = summary["status"] == "succeeded" and not summary["asked_more_than_once"] and not summary["left_out"]
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
