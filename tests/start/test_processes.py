"""Two web processes on one port: both answer, one that is killed is started again, none outlives the parent."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import pytest

from tests.live.processes import wait_for
from tests.live.server import Scaled

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]


class TwoWebs(Scaled):
    """Of the parts only the web server, in two processes."""

    def commands(self) -> dict[str, list[str]]:
        return {"web": super().commands()["web"]}


def serving(pid: int) -> set[int]:
    """The processes that serve, below this one."""
    below = {int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    return {n for n in below if b"spawn_main" in Path(f"/proc/{n}/cmdline").read_bytes()}


def gone(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_two_processes_share_the_port_and_end_with_their_parent() -> None:
    with TwoWebs(CURFEW_WEB_PROCESSES="2") as curfew:
        parent = curfew.parts["web"].pid
        first = wait_for(lambda: len(found := serving(parent)) == 2 and found, what="two processes", seconds=60)
        os.kill(min(first), signal.SIGKILL)
        second = wait_for(
            lambda: len(found := serving(parent)) == 2 and min(first) not in found and found,
            what="another in place of the one that was killed",
            seconds=60,
        )
        assert max(first) in second
        assert {httpx.get(f"{curfew.base_url}/healthz", timeout=30).status_code for _ in range(20)} == {200}
        curfew.kill9()
        wait_for(lambda: all(gone(pid) for pid in second), what="the end of both", seconds=20)
        curfew.restart()
        assert curfew.answers()
