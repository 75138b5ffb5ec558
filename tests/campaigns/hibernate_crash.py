"""A cluster's sleep and wake, broken at every write: SIGKILL of the worker's process, 409, 500 and no answer.

    python -m tests.campaigns.hibernate_crash --per-cycle 12
    python -m tests.campaigns.hibernate_crash --workloads 20 --points 60

A fleet of 200 workloads on the fake API server and its groups of nodes in moto over HTTP. One undisturbed night tells
every write that there is; a point is one of them, broken in one way. Each night breaks up to `--per-cycle` of them, far
from one another, each once; after it every object and every group must be as before, to the field. Prints JSON; exit
code 1 when anything differs, an order did not succeed, or a point was never met.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests import prepared

# Killed before and after the change; refused twice; done without an answer; lost without an answer.
ROOT = Path(__file__).resolve().parents[2]
MODES = ("kill_before", "kill_after", "conflict", "error", "no_answer", "lost")
ORDERS = ("sleep", "wake")
READ_SECONDS, SILENCE_SECONDS = 2.0, 2.6
STATUS = {"conflict": (409, "Conflict"), "error": (500, "InternalError")}
Write = tuple[str, str, int]  # order, what, how many of it came before in this order


@dataclass
class Breaker:
    """Meets every write of both servers, in the order in which they come, and breaks the armed ones."""

    order: str = ""
    pid: int = 0
    armed: dict[Write, str] = field(default_factory=dict)
    met: list[tuple[Write, str]] = field(default_factory=list)
    seen: list[Write] = field(default_factory=list)
    _counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _pending: dict[int, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, order: str) -> None:
        with self._lock:
            self.order = order
            self._counts.clear()

    def meet(self, line: str) -> str:
        """The way in which this write is broken, "" for none; a write that comes again is another one."""
        what = "DELETE claim" if "/nodeclaims/" in line else line
        with self._lock:
            write = (self.order, what, self._counts[self.order, what])
            self._counts[self.order, what] += 1
            self.seen.append(write)
            mode = self.armed.pop(write, "")
            if mode:
                self.met.append((write, mode))
            self._pending[threading.get_ident()] = mode
        if mode == "kill_before":
            self.kill()
        if mode == "lost":
            time.sleep(SILENCE_SECONDS)
        return mode

    def leave(self) -> str:
        """After the write was done."""
        mode = self._pending.pop(threading.get_ident(), "")
        if mode == "kill_after":
            self.kill()
        if mode == "no_answer":
            time.sleep(SILENCE_SECONDS)
        return mode

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


class Nursery:
    """A process that forks workers: each a process of its own, with its own connections, ready at once."""

    def __init__(self, module: str, kube: str, aws: str) -> None:
        command = [sys.executable, "-m", module, "--worker", kube, aws]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def work(self, operation: str, breaker: Breaker) -> bool:
        """Let a worker run the operation to its end; False when it was killed."""
        assert self._process.stdin is not None
        self._process.stdin.write(operation + "\n")
        self._process.stdin.flush()
        breaker.pid = int(self._line())
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self._line() == "0"

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=20)
        self._process.stdout.close()


def nursery(kube_url: str, aws_url: str) -> None:
    """The other side of `Nursery`; without an address of the API server it goes through the cluster's agent."""
    _setup()
    from django.db import connections

    _lead_to(kube_url, aws_url)
    connections.close_all()
    _say(sys.stdout, "ready")
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            assert sys.stdin.readline().strip() == "go"
            run_to_end(line.strip())
            os._exit(0)
        _say(sys.stdout, str(pid))
        _, status = os.waitpid(pid, 0)
        _say(sys.stdout, "0" if status == 0 else "killed")


def _lead_to(kube_url: str, aws_url: str) -> None:
    """The ways to the cluster lead to the fakes; waiting costs nothing; no answer is no answer soon."""
    from contextlib import contextmanager

    from kubernetes.client import ApiClient, Configuration

    from accounts.providers.aws import AwsConnection
    from accounts.providers.base import Credentials, Timeouts
    from clusters.providers import kube
    from clusters.providers.aws_groups import AwsNodeGroups
    from clusters.sleeping import executors, gateway, hands
    from operations import runner
    from tests.clusters.sleeping import fleet
    from tests.clusters.sleeping.aws import REGION

    values = {"access_key_id": "AKIA" + "A" * 16, "secret_access_key": "s" * 40}
    credentials = Credentials("aws", "keys", region=REGION, values=values, endpoints={"aws": aws_url})
    connection = AwsConnection(credentials, timeouts=Timeouts(connect=3.0, read=READ_SECONDS))
    for service in ("autoscaling", "eks"):
        connection.client(service, region=REGION)

    @contextmanager
    def open_kube(cluster: Any) -> Any:
        with ApiClient(Configuration(host=kube_url)) as api:
            yield kube.HttpKube(api)

    kube.TIMEOUTS = (3.0, READ_SECONDS)
    if kube_url:  # else the agent's own way is taken
        gateway.open_kube = open_kube
    gateway.open_groups = lambda cluster: AwsNodeGroups(connection, region=REGION, cluster=fleet.NAME)
    executors.WAIT_SECONDS = 0.0
    hands.PAUSE_SECONDS = 0.01
    runner.backoff = lambda attempt: 0.0
    runner.MOST_LOST_LEASES = 1000


def run_to_end(operation_id: str) -> None:
    """What a worker does: take over what a dead one held, and run until the operation has ended."""
    from datetime import timedelta

    from core import clock
    from operations import runner
    from operations.enums import ACTIVE, Status
    from operations.models import Operation

    mine = Operation.objects.all_orgs().filter(id=operation_id)
    mine.filter(status=Status.RUNNING).update(lease_expires_at=clock.now() - timedelta(seconds=1))
    runner.reap_expired()
    while mine.filter(status__in=ACTIVE).exists():
        mine.filter(status=Status.QUEUED).update(not_before=clock.now())
        runner.run_operation(operation_id)


def _setup() -> None:
    import tests.env  # noqa: F401  keys, before Django reads its settings

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    prepared.put_into(Path(os.environ["CURFEW_DATA"]))
    import logging

    import django

    django.setup()
    logging.disable(logging.CRITICAL)


class Campaign:
    """One fleet, one database, and nights."""

    module = "tests.campaigns.hibernate_crash"

    def __init__(self, workloads: int, seed: int) -> None:
        from tests.clusters.sleeping import fleet
        from tests.clusters.sleeping.aws import MotoCloud
        from tests.clusters.sleeping.life import LivingKube

        self.random = random.Random(seed)
        self.cloud, self.breaker = MotoCloud().__enter__(), Breaker()
        self.kube = LivingKube(self.cloud)
        self.kube.up()
        small = workloads < 100
        fleet.build(self.kube, self.cloud, count=workloads, asgs=3 if small else 6, managed=1 if small else 2)
        self.cluster = self._database()
        self.objects, self.groups = self.kube.picture(), self.cloud.state()
        self.nursery = Nursery(self.module, self.kube.url, self.cloud.url)
        self._hook()
        self.findings: list[str] = []
        self.kills = 0

    def _database(self) -> Any:
        from accounts.models import Organization
        from clusters.enums import Method, State
        from clusters.models import Cluster
        from core import clock
        from core.actor import Actor
        from tests.clusters.sleeping import fleet

        organization = Organization.objects.create(name="Larkspur")
        self.actor = Actor.system("campaign", organization.id)
        return Cluster.objects.create(
            organization_id=organization.id,
            name=fleet.NAME,
            method=Method.KUBECONFIG,
            credentials="sealed",
            state=State.LIVE,
            created_at=clock.now(),
        )

    def _hook(self) -> None:
        from tests.fakes.kube_store import Refusal

        def before(line: str) -> None:
            mode = self.breaker.meet(line)
            if mode in STATUS or mode in ("kill_before", "lost", "agent_before"):
                status, reason = STATUS.get(mode, (500, "Killed"))
                raise Refusal(status, reason, "made to fail")

        def cloud_before(what: str) -> tuple[int, bytes] | None:
            mode = self.breaker.meet(what)
            if mode in STATUS or mode in ("kill_before", "lost"):
                return 500 if mode != "conflict" else 400, _aws_error(what, mode)
            return None

        def cloud_after(what: str) -> tuple[int, bytes] | None:
            self.breaker.leave()
            return None

        self.kube.before, self.kube.after = before, lambda line: str(self.breaker.leave()) and None
        self.cloud.before, self.cloud.after = cloud_before, cloud_after

    def night(self, armed: dict[Write, str]) -> None:
        """Sleep and wake, broken where armed; then compare."""
        self.breaker.armed = dict(armed)
        for order in ORDERS:
            self._order(order)
            if order == "sleep":
                self._asleep()
        self.findings += [f"never met: {mode} at {write}" for write, mode in self.breaker.armed.items()]
        self._compare()

    def _order(self, order: str) -> None:
        from clusters.sleeping import services
        from operations.models import Operation

        request = services.request_sleep if order == "sleep" else services.request_wake
        self.breaker.begin(order)
        operation = request(actor=self.actor, cluster_id=self.cluster.id)
        while not self.nursery.work(str(operation.id), self.breaker):
            self.kills += 1
            self.bury()
        ended = Operation.objects.all_orgs().get(id=operation.id)
        if ended.status != "succeeded" or ended.result.get("failed"):
            self.findings.append(f"{order}: {ended.status} {ended.error} {ended.result}")

    def bury(self) -> None:
        """After a worker was killed, before its successor begins."""

    def summary(self) -> dict[str, Any]:
        """What this campaign tells beyond the usual."""
        return {}

    def _asleep(self) -> None:
        """The night did happen: nothing runs that may sleep."""
        awake = [
            d["metadata"]["name"]
            for d in self.kube.all("deployments")
            if d["spec"].get("replicas", 1) and d["metadata"]["name"].startswith("w")
        ]
        if awake:
            self.findings.append(f"awake at night: {awake[:5]}")

    def _compare(self) -> None:
        now, groups = self.kube.picture(), self.cloud.state()
        for name in sorted({*now, *self.objects}):
            if now.get(name) != self.objects.get(name):
                self.findings.append(f"differs: {name}: {now.get(name)} instead of {self.objects.get(name)}"[:600])
        for name in sorted({*groups, *self.groups}):
            if groups.get(name) != self.groups.get(name):
                self.findings.append(f"differs: {name}: {groups.get(name)} instead of {self.groups.get(name)}")

    def points(self, modes: Sequence[str]) -> list[tuple[Write, str]]:
        """Every write of an undisturbed night, in every way it can break."""
        self.breaker.seen.clear()
        self.night({})
        return [(write, mode) for write in dict.fromkeys(self.breaker.seen) for mode in modes]

    def close(self) -> None:
        self.nursery.close()
        self.kube.down()
        self.cloud.__exit__(None, None, None)


def _aws_error(what: str, mode: str) -> bytes:
    code = "ResourceContention" if mode == "conflict" else "InternalFailure"
    if "/" in what:
        return json.dumps(
            {"message": "made to fail", "__type": "ResourceInUseException" if mode == "conflict" else "ServerException"}
        ).encode()
    return f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>made to fail</Message></Error></ErrorResponse>".encode()


def nights_of(points: list[tuple[Write, str]], per_cycle: int) -> list[dict[Write, str]]:
    """Each point once; a write at most once a night, and the writes of a night far apart."""
    count = -(-len(points) // per_cycle)
    nights: list[dict[Write, str]] = [{} for _ in range(count)]
    for number, (write, mode) in enumerate(points):
        order = [*nights[number % count :], *nights[: number % count]]
        free = next((night for night in order if write not in night), None)
        if free is None:
            nights.append(free := {})
        free[write] = mode
    return nights


def run(
    workloads: int,
    per_cycle: int,
    seed: int,
    most: int,
    modes: Sequence[str] = MODES,
    say: Any = lambda line: None,
    made: type[Campaign] = Campaign,
) -> dict[str, Any]:
    """The whole campaign; `most` points (0: all), drawn at random when there are more."""
    began = time.monotonic()
    campaign = made(workloads, seed)
    try:
        points = campaign.points(modes)
        writes = len(points) // len(modes)
        if most and len(points) > most:
            points = campaign.random.sample(points, most)
        nights = nights_of(points, per_cycle)
        for number, armed in enumerate(nights, 1):
            found = len(campaign.findings)
            campaign.night(armed)
            say(f"{number}/{len(nights)}: {len(armed)} points, {len(campaign.findings) - found} findings")
            for finding in campaign.findings[found:]:
                say(f"  {finding}")
        return {
            "campaign": campaign.module.rpartition(".")[2],
            "objects": len(campaign.objects),
            "groups": len(campaign.groups),
            "writes_of_a_night": writes,
            "points": len(points),
            "met": len(campaign.breaker.met),
            "by_way": dict(Counter(mode for _, mode in campaign.breaker.met)),
            "worker_processes_killed": campaign.kills,
            **campaign.summary(),
            "nights": len(nights),
            "seed": seed,
            "seconds": round(time.monotonic() - began),
            "findings": campaign.findings,
        }
    finally:
        campaign.close()


def _say(stream: IO[str], text: str) -> None:
    stream.write(text + "\n")
    stream.flush()


def report(options: argparse.Namespace, made: type[Campaign] = Campaign) -> int:
    """Run what the options ask for, print the summary; the exit code."""
    summary = run(
        options.workloads,
        options.per_cycle,
        options.seed,
        options.points,
        options.modes,
        say=lambda line: _say(sys.stderr, line),
        made=made,
    )
    shutil.rmtree(os.environ["CURFEW_DATA"], ignore_errors=True)
    text = json.dumps(summary, indent=1)
    _say(sys.stdout, text)
    if options.out:
        options.out.write_text(text)
    return 1 if summary["findings"] else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.hibernate_crash", description=__doc__)
    parser.add_argument("--worker", nargs=2, metavar=("KUBE", "AWS"), help=argparse.SUPPRESS)
    parser.add_argument("--workloads", type=int, default=200)
    parser.add_argument("--per-cycle", type=int, default=12, help="points of one night (1: each alone)")
    parser.add_argument("--points", type=int, default=0, help="so many at random; 0: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--out", type=Path, help="write the summary there, too")
    options = parser.parse_args()
    if options.worker:
        nursery(*options.worker)
        return 0
    os.environ["CURFEW_DATA"] = tempfile.mkdtemp(prefix="curfew-crash-")
    _setup()
    return report(options)


if __name__ == "__main__":
    sys.exit(main())
