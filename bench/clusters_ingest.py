"""Taking in a large cluster's report: seconds and peak memory, of storing it and of working out its figures.

    python -m bench.clusters_ingest --nodes 1000 --pods 10000
    python -m tests.stack -- python -m bench.clusters_ingest        # PostgreSQL

The limits are 2 seconds and 300 MB for the report. The report is made in a process of its own, so that its memory does
not count.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.support import ROOT, report, setup_django

MAKE = (
    "import sys; from tests.clusters.report import Reporter, cluster; "
    "r = Reporter(cluster(int(sys.argv[1]), int(sys.argv[2]))); out = sys.argv[3]; "
    "open(out + '/full', 'wb').write(r.full(usage=r.usage())); "
    "[r.tables['pods'].popitem() for _ in range(50)]; "
    "open(out + '/delta', 'wb').write(r.delta(usage=r.usage())); open(out + '/beat', 'wb').write(r.beat())"
)


def peak_mb() -> float:
    """The largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.clusters_ingest",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=10_000)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="curfew-bench-"))
    subprocess.run(
        [sys.executable, "-c", MAKE, str(options.nodes), str(options.pods), str(folder)], cwd=ROOT, check=True
    )
    setup_django(CURFEW_NO_WORKER="1")
    from django.db import connection

    from accounts import selectors as accounts
    from clusters import services
    from core import live, tasks
    from tests.personas import make_organization, make_person

    live._send = lambda group, message: None  # type: ignore[assignment]
    tasks._send = lambda name, kwargs: None
    owner = make_person("alice", make_organization("Bench"), "owner")
    made = services.create_cluster(actor=owner.actor, name="large")
    token = accounts.agent_token(made.token)
    assert token is not None
    before = peak_mb()
    figures: dict[str, object] = {"memory_before_mb": round(before)}
    for step in ("full", "delta"):
        body = (folder / step).read_bytes()
        began, spent = time.perf_counter(), time.process_time()
        status, answer = services.ingest_snapshot(token=token, body=body)
        figures[f"{step}_seconds"] = round(time.perf_counter() - began, 2)
        figures[f"{step}_cpu_seconds"] = round(time.process_time() - spent, 2)
        figures[f"{step}_kb"] = round(len(body) / 1000)
        figures[f"peak_after_{step}_mb"] = round(peak_mb())
        assert status == 200, answer
        del body
    began, spent = time.perf_counter(), time.process_time()
    assert services.refigure(cluster_id=made.cluster.id)
    figures["figures_seconds"] = round(time.perf_counter() - began, 2)
    figures["figures_cpu_seconds"] = round(time.process_time() - spent, 2)
    figures["peak_after_figures_mb"] = round(peak_mb())
    report("clusters_ingest", database=connection.vendor, nodes=options.nodes, pods=options.pods, **figures)


if __name__ == "__main__":
    main()
