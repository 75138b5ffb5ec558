"""How long `./curfew demo` takes to its first page, new and again, and what it uses while nothing happens.

    python -m bench.startup

Starts the very command of the README on a data folder of its own; packages are installed before (the time of `pip` and
`npm` on a cold cache depends on the network and is measured apart, see RESULTS.md). "First page" is the first 200 of
`GET /` after redirects, from the moment of the command. Memory is the resident set, processor time that of user and
system together; the sandbox cloud, a process of the demo's, is counted apart.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from bench.support import report
from tests.live.processes import Child, clean_environment, wait_for
from tests.stack import free_port

PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


def first_page(url: str) -> bool:
    """Whether the first page can be had."""
    try:
        return httpx.get(url, timeout=10, follow_redirects=True).status_code == 200
    except httpx.HTTPError:
        return False


def family(pid: int) -> Iterator[int]:
    """A process and all of its descendants."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from family(int(child))


def memory_mb(pid: int) -> float:
    """Resident set of one process in MB (10^6 bytes)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_SIZE / 1e6


def processor_seconds(pid: int) -> float:
    """User and system time of one process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.startup", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    parser.add_argument("--starts", type=int, default=5, help="second starts to measure")
    parser.add_argument("--command", choices=["demo", "up"], default="demo")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="curfew-startup-"))
    seconds: list[float] = []
    idle: dict[str, object] = {}
    try:
        for number in range(1 + options.starts):
            port = free_port()
            command = ["./curfew", options.command, "--no-browser", "--data", str(folder / "data"), "--port", str(port)]
            began = time.monotonic()
            child = Child("demo", command, env=clean_environment(), log=folder / "output.log")
            try:
                wait_for(
                    lambda url=f"http://127.0.0.1:{port}/": first_page(url),
                    what="the first page",
                    seconds=300,
                    every=0.02,
                    child=child,
                )  # type: ignore[misc]
                seconds.append(time.monotonic() - began)
                if number == options.starts:
                    idle = rest(child.pid, options.idle_seconds)
            finally:
                stopping = time.monotonic()
                child.end(15)
                stop_seconds = time.monotonic() - stopping
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    again = sorted(seconds[1:])
    report(
        "startup",
        command=options.command,
        new_data_folder_seconds=round(seconds[0], 2),
        again_seconds={"n": len(again), "p50": round(again[len(again) // 2], 2), "max": round(again[-1], 2)}
        if again
        else None,
        stop_seconds=round(stop_seconds, 2),
        **idle,
    )


def rest(pid: int, seconds: float) -> dict[str, object]:
    """Leave it alone for a while; memory and processor use of the server and of its children at the end."""
    time.sleep(seconds)
    members = list(family(pid))
    before = {member: processor_seconds(member) for member in members}
    span = 20.0
    time.sleep(span)
    rows = {
        member: {
            "memory_mb": round(memory_mb(member), 1),
            "processor_percent": round(100 * (processor_seconds(member) - before[member]) / span, 2),
        }
        for member in members
        if Path(f"/proc/{member}").exists()
    }
    children = {
        ("sandbox" if "sandbox" in command_of(m) else command_of(m)[:60]): row for m, row in rows.items() if m != pid
    }
    return {"after_idle_seconds": seconds, "server": rows[pid], "children": children}


if __name__ == "__main__":
    main()
