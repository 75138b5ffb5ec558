"""Nights that go through the agent's signed orders, with SIGKILL of the worker's process and of the agent's own.

    python -m tests.campaigns.hibernate_agent --workloads 40 --points 0 --seed 1
    python -m tests.campaigns.hibernate_agent --workloads 6 --points 6

The fleet of `hibernate_crash`, but nobody holds a way to its API server: a real `python -m agent cluster` carries the
orders out, over HTTP on both sides, and is started anew when it was killed. A point is one write of a night broken in one
way: the worker killed while its order is carried out, the agent killed before or after the API server made the change, or
409 and 500 from the API server. A worker's successor begins at once, and sees that what was asked for and not yet delivered
is over (as it is after the lease), or, every second time, still on its way. After each night every object and every group
must be as before, to the field. Prints JSON; exit code 1 when anything differs.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.campaigns import hibernate_crash
from tests.campaigns.hibernate_crash import ROOT, Breaker, Campaign

MODES = ("kill_before", "kill_after", "agent_before", "agent_after", "conflict", "error")
ANSWER_SECONDS = 3.0  # how long a worker waits for an agent that was killed; 25 in earnest
PACE_SECONDS, IDLE_SECONDS = 0.02, 0.15  # 0.3 and 1 in earnest, while somebody waits


class AgentBreaker(Breaker):
    """Kills the agent's process, too. Questions that are sent by POST change nothing and are let through."""

    def __init__(self, agent: AgentProcess) -> None:
        super().__init__()
        self.agent = agent

    def meet(self, line: str) -> str:
        mode = "" if line.startswith("POST /apis/") else super().meet(line)
        if mode == "agent_before":
            self.agent.kill()
        return mode

    def leave(self) -> str:
        mode = super().leave()
        if mode == "agent_after":
            self.agent.kill()
        return mode


class AgentProcess:
    """The agent as its manifest starts it, and started again as Kubernetes would."""

    def __init__(self, platform: str, kube: str, token: str, key: str) -> None:
        self._command = [sys.executable, "-m", "tests.campaigns.hibernate_agent", "--agent", platform, kube, key]
        self._environment = {**os.environ, "CURFEW_TOKEN": token}
        self._lock = threading.Lock()
        self._ended = False
        self.kills = 0
        self._process = self._begin()
        threading.Thread(target=self._restart, daemon=True).start()

    def _begin(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, cwd=ROOT, env=self._environment, stdin=subprocess.PIPE)

    def _restart(self) -> None:
        while not self._ended:
            self._process.wait()
            self._let_go()
            with self._lock:
                if not self._ended:
                    self._process = self._begin()

    def _let_go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def kill(self) -> None:
        with self._lock:
            os.kill(self._process.pid, signal.SIGKILL)
            self.kills += 1

    def close(self) -> None:
        with self._lock:
            self._ended = True
            self._process.kill()
        self._process.wait(timeout=20)


class AgentCampaign(Campaign):
    """One fleet, its agent, the platform's own HTTP, one database, and nights."""

    module = "tests.campaigns.hibernate_agent"

    def _database(self) -> Any:
        from accounts.models import Organization
        from clusters import services
        from core.actor import Actor
        from tests.clusters.sleeping import fleet

        organization = Organization.objects.create(name="Larkspur")
        self.actor = Actor.system("campaign", organization.id)
        made = services.create_cluster(actor=self.actor, name=fleet.NAME)
        self.platform = serve()
        self.agent = AgentProcess(self.platform, self.kube.url, made.token, services.orders_key(made.cluster))
        self.breaker = AgentBreaker(self.agent)
        deadline = time.monotonic() + 60
        while True:
            row = type(made.cluster).objects.all_orgs().get(id=made.cluster.id)
            if row.agent_can and row.uid:
                return row
            assert time.monotonic() < deadline, "the agent was never heard"
            time.sleep(0.1)

    def bury(self) -> None:
        """What a killed worker asked for is over when its successor begins; or it comes through in its midst."""
        from clusters.orders.models import AgentOrder
        from core import clock

        if self.random.random() < 0.5:
            AgentOrder.objects.all_orgs().filter(answered_at=None).update(expires_at=clock.now())

    def summary(self) -> dict[str, Any]:
        from clusters.orders.models import AgentOrder

        return {
            "agent_processes_killed": self.agent.kills,
            "orders_of_the_last_hour": AgentOrder.objects.all_orgs().count(),
        }

    def close(self) -> None:
        self.agent.close()
        super().close()


def serve() -> str:
    """The platform over HTTP, in threads of this process; returns its address."""
    from django.core.wsgi import get_wsgi_application
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Nothing."""

    server = make_server("127.0.0.1", 0, get_wsgi_application(), threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def be_agent(platform: str, kube: str, key: str) -> int:
    """The agent itself, in a hurry."""
    from agent import __main__ as program
    from agent.cluster import heartbeat, main

    threading.Thread(target=_end_with_parent, daemon=True).start()
    heartbeat.SOON, heartbeat.jittered = PACE_SECONDS, lambda seconds, spread: IDLE_SECONDS
    main.own_namespace = lambda: "curfew"
    words = ["--url", platform, "--api-server", kube, "--allow-orders", "--orders-key", key, "--log-level", "ERROR"]
    return program.main(["cluster", *words])


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def be_nursery(kube: str, aws: str) -> None:
    from clusters.orders import kube as ways

    ways.ANSWER_SECONDS, ways.PAUSE = ANSWER_SECONDS, PACE_SECONDS
    hibernate_crash.nursery("", aws)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.hibernate_agent", description=__doc__)
    parser.add_argument("--worker", nargs=2, metavar=("KUBE", "AWS"), help=argparse.SUPPRESS)
    parser.add_argument("--agent", nargs=3, metavar=("URL", "KUBE", "KEY"), help=argparse.SUPPRESS)
    parser.add_argument("--workloads", type=int, default=40)
    parser.add_argument("--per-cycle", type=int, default=6, help="points of one night (1: each alone)")
    parser.add_argument("--points", type=int, default=0, help="so many at random; 0: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--out", type=Path, help="write the summary there, too")
    options = parser.parse_args()
    if options.agent:
        return be_agent(*options.agent)
    if options.worker:
        hibernate_crash._setup()
        be_nursery(*options.worker)
        return 0
    os.environ["CURFEW_DATA"] = tempfile.mkdtemp(prefix="curfew-crash-")
    hibernate_crash._setup()
    return hibernate_crash.report(options, AgentCampaign)


if __name__ == "__main__":
    sys.exit(main())
