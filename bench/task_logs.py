"""Logs of a real container through a real agent into the store: lines a second beside `docker logs`, what processor time
agent and server take for a million lines (which other work on the machine changes little), and a search.

python -m bench.task_logs --lines 1000000
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.startup import processor_seconds
from bench.support import ROOT, report

sys.path.insert(0, str(ROOT))

from tests.fakes.dockerd import IMAGE, DockerEngine
from tests.live.server import Embedded
from tests.taskrunner.live import LiveWorker


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    options = parser.parse_args()
    half = options.lines // 2
    script = f"seq 1 {half} & seq 1 {half} >&2; wait"
    wanted = hashlib.sha256("".join(f"{n}\n" for n in range(1, half + 1)).encode()).hexdigest()
    with DockerEngine() as engine, Embedded() as curfew:
        engine.busybox()
        worker = LiveWorker(curfew, curfew.member("Bench", "a@bench.test"), engine, Path(tempfile.mkdtemp()))
        worker.start()
        warm = worker.submit("true")
        worker.ended(warm)
        starts = []
        for _ in range(5):
            began = time.perf_counter()
            task = worker.submit("true")
            while worker.task(task)["started_at"] is None:
                time.sleep(0.01)
            starts.append(time.perf_counter() - began)
            worker.ended(task)
        pids = {"agent": worker.child.pid, "server": curfew.parts["web"].pid, "dockerd": engine.pid}
        used = {name: processor_seconds(pid) for name, pid in pids.items() if pid}
        began = time.perf_counter()
        task = worker.submit(script)
        worker.ended(task, seconds=900)
        seconds = time.perf_counter() - began
        used = {name: processor_seconds(pids[name]) - before for name, before in used.items()}
        digests = {name: hashlib.sha256(worker.stored(task, name)).hexdigest() for name in ("stdout", "stderr")}
        assert set(digests.values()) == {wanted}, "a byte is lost, doubled or out of order"
        began = time.perf_counter()
        found = worker.api.get(f"/api/tasks/{task}/logs", params={"search": "99999$", "regex": "true"}).json()
        search = time.perf_counter() - began
        beside = _docker_alone(engine, script)
        worker.end()
    report(
        "task_logs",
        lines=options.lines,
        lines_per_second=round(options.lines / seconds),
        cpu_seconds_a_million={name: round(1e6 * cpu / options.lines, 2) for name, cpu in used.items()},
        docker_logs_lines_per_second=round(options.lines / beside),
        search_seconds=round(search, 3),
        search_hits=found["count"],
        submit_to_started_p50=round(sorted(starts)[2], 3),
    )


def _docker_alone(engine: DockerEngine, script: str) -> float:
    """Seconds for the same container with `docker logs -f` reading it to a null device."""
    command = ["docker", "--host", f"unix://{engine.socket}"]
    options = ["--network", "host", "--log-driver", "local", "--log-opt", "max-size=1000g"]
    began = time.perf_counter()
    made = subprocess.run(
        [*command, "run", "--detach", *options, IMAGE, "sh", "-c", script], check=True, capture_output=True, text=True
    )
    name = made.stdout.strip()
    subprocess.run(
        [*command, "logs", "--follow", name], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    seconds = time.perf_counter() - began
    subprocess.run([*command, "rm", "--force", name], check=True, capture_output=True)
    return seconds


if __name__ == "__main__":
    main()
