"""Removals and launches of nodes, broken at every write: SIGKILL of the worker's process, 409, 500, no answer, a lost answer.

    python -m tests.campaigns.policy_drains
    python -m tests.campaigns.policy_drains --points 12
    python -m tests.campaigns.policy_drains --orders replace

A cluster on the fake API server and moto over HTTP: four nodes, one of which is taken away under a budget that lets one pod go
at a time; or one node and a pod that waits for another; or two, of which one is replaced by a cheaper one that stays closed
until the pods that fit elsewhere have moved. Each trial breaks one write in one way; a quarter of the removals also
meet a budget that closes for good, and must be given up. Afterwards the action has ended, no node is closed or carries our
hold, no pod is lost, no machine was bought twice or forgotten, and the group wants exactly the machines it has. Prints JSON; exit code 1 when anything differs, or when a point was never met.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.campaigns.hibernate_crash import (
    MODES,
    READ_SECONDS,
    STATUS,
    Breaker,
    Nursery,
    Write,
    _aws_error,
    _say,
    _setup,
)

ORDERS = REMOVE, LAUNCH, REPLACE = "remove", "launch", "replace"
REPLICAS = 12


class DrainNursery(Nursery):
    """Forks workers of this campaign."""

    module = "tests.campaigns.policy_drains"

    def __init__(self, kube: str, aws: str) -> None:
        import subprocess

        command = [sys.executable, "-m", self.module, "--worker", kube, aws]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._line() == "ready"


def nursery(kube_url: str, aws_url: str) -> None:
    """The other side of `DrainNursery`."""
    _setup()
    from django.db import connections

    lead_to(kube_url, aws_url)
    connections.close_all()
    _say(sys.stdout, "ready")
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            assert sys.stdin.readline().strip() == "go"
            run_all()
            os._exit(0)
        _say(sys.stdout, str(pid))
        _, status = os.waitpid(pid, 0)
        _say(sys.stdout, "0" if status == 0 else "killed")


def run_all() -> None:
    """What a worker does: take over what a dead one held, and run whatever is due until everything has ended."""
    from datetime import timedelta

    from core import clock
    from operations import runner
    from operations.enums import ACTIVE, Status
    from operations.models import Operation

    every = Operation.objects.all_orgs()
    every.filter(status=Status.RUNNING).update(lease_expires_at=clock.now() - timedelta(seconds=1))
    runner.reap_expired()
    while due := every.filter(status__in=ACTIVE).order_by("not_before").first():
        every.filter(id=due.id, status=Status.QUEUED).update(not_before=clock.now())
        runner.run_operation(due.id)


def lead_to(kube_url: str, aws_url: str) -> None:
    """The ways to the cluster lead to the fakes; waiting costs nothing; no answer is no answer soon."""
    from contextlib import contextmanager

    from kubernetes.client import ApiClient, Configuration

    from accounts.providers.aws import AwsConnection
    from accounts.providers.base import Credentials, Timeouts
    from clusters.providers import kube
    from clusters.providers.aws_groups import AwsNodeGroups
    from operations import runner
    from policies.enforcing import executors, gateway
    from policies.providers.aws_machines import AwsMachines
    from tests.clusters.sleeping.aws import REGION
    from tests.policies.enforcing.world import NAME

    values = {"access_key_id": "AKIA" + "A" * 16, "secret_access_key": "s" * 40}
    credentials = Credentials("aws", "keys", region=REGION, values=values, endpoints={"aws": aws_url})
    connection = AwsConnection(credentials, timeouts=Timeouts(connect=3.0, read=READ_SECONDS))

    @contextmanager
    def open_kube(cluster: Any) -> Any:
        with ApiClient(Configuration(host=kube_url)) as api:
            yield kube.HttpKube(api)

    kube.TIMEOUTS = (3.0, READ_SECONDS)
    gateway.open_kube = open_kube
    gateway.open_groups = lambda cluster: AwsNodeGroups(connection, region=REGION, cluster=NAME)
    gateway.open_machines = lambda cluster: AwsMachines(connection, region=REGION)
    executors.LOOK_AGAIN_SECONDS = 0.0
    executors.WAIT_SECONDS = 0.05
    executors.DRAIN_SECONDS, executors.RemoveNodes.patience = 6.0, 20.0
    runner.backoff = lambda attempt: 0.0
    runner.MOST_LOST_LEASES = 1000


class Campaign:
    """One database; a cluster built anew for each trial."""

    def __init__(self, seed: int) -> None:
        from tests.policies.enforcing.world import Cloud, Cluster

        self.random = random.Random(seed)
        self.cloud, self.breaker = Cloud().__enter__(), Breaker()
        self.kube = Cluster(self.cloud)
        self.kube.up()
        self.row = self._database()
        self.cloud.tokens.clear()
        lead_to(self.kube.url, self.cloud.url)
        self.nursery = DrainNursery(self.kube.url, self.cloud.url)
        self._hook()
        self.findings: list[str] = []
        self.outcomes: Counter[str] = Counter()
        self.kills = 0

    def _database(self) -> Any:
        from accounts.models import Organization
        from clusters.enums import Method, State
        from clusters.models import Cluster
        from core import clock
        from costs.models import CatalogPrice
        from policies.document import Document
        from policies.models import Policy, PolicyAssignment
        from tests.policies.enforcing.conftest import QUICK
        from tests.policies.enforcing.world import BIG, NAME, SMALL

        now = clock.now()
        org = Organization.objects.create(name="Larkspur")
        for instance_type, hourly in ((BIG, "0.214"), (SMALL, "0.107")):
            CatalogPrice.objects.create(
                provider="aws",
                region="eu-west-1",
                instance_type=instance_type,
                lifecycle="on_demand",
                hourly=hourly,
                source="AWS list price",
                as_of=now.date(),
            )
        row = Cluster.objects.create(
            organization_id=org.id,
            name=NAME,
            method=Method.KUBECONFIG,
            credentials="sealed",
            cloud="aws",
            region="eu-west-1",
            state=State.LIVE,
            created_at=now,
        )
        document = Document.from_json(QUICK).to_json()
        policy = Policy.objects.create(
            organization_id=org.id, name="quick", document=document, created_at=now, updated_at=now
        )
        PolicyAssignment.objects.create(organization_id=org.id, cluster=row, policy=policy, mode="enforce", since=now)
        return row

    def _hook(self) -> None:
        from tests.fakes.kube_store import Refusal

        def before(line: str) -> None:
            mode = self.breaker.meet(_plain(line))
            if mode in STATUS or mode in ("kill_before", "lost"):
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

    def trial(self, order: str, armed: dict[Write, str], *, blocked: bool = False) -> None:
        """One action, broken where armed; then judge."""
        from operations.enums import ACTIVE
        from operations.models import Operation
        from policies.enforcing import looking
        from policies.enforcing.models import NodeAction

        self.breaker.armed = {}
        self._build(order)
        if order == LAUNCH:
            looking.react(cluster_id=self.row.id)
        else:
            looking.plan_cluster(cluster_id=self.row.id)
        kind = LAUNCH if order == LAUNCH else REMOVE
        action = NodeAction.objects.all_orgs().filter(kind=kind).latest("started_at")
        self.breaker.begin(order)
        self.breaker.armed = dict(armed)
        if blocked:
            Operation.objects.all_orgs().filter(id=action.operation_id).update(state={"looked": True})
            self.kube.forever.add("web-pdb")
        for _ in range(20):
            due = Operation.objects.all_orgs().filter(status__in=ACTIVE).first()
            if due is None:
                break
            if not self.nursery.work(str(due.id), self.breaker):
                self.kills += 1
        action.refresh_from_db()
        self.outcomes[action.outcome] += 1
        title = f"{list(armed.items())} {'blocked' if blocked else ''}"
        if self.breaker.armed and not blocked:
            self.findings.append(f"never met: {title}")
        self._judge(order, action, title, blocked=blocked)

    def _build(self, order: str) -> None:
        """A fresh cluster."""
        from moto.moto_api._internal.models import moto_api_backend

        from tests.policies.enforcing.world import NAME, budget, deployment

        moto_api_backend.reset()
        self.cloud.prepare(NAME)
        self.kube.forever.clear()
        for table in self.kube.store.tables.values():
            if table.kind.plural != "namespaces":
                table.objects.clear()
                table.order = None
        self._govern(order)
        if order == REPLACE:
            self.cloud.template_asg("workers", 1, 2, 4)
            for name, cpu in (("full", "3400m"), ("large", "1700m"), ("small", "400m")):
                self.kube.create(deployment(name, 1, cpu=cpu))
                self.kube.live()
            return
        self.cloud.template_asg("workers", 1, 4 if order == REMOVE else 1, 6)
        self.kube.create(deployment("web", REPLICAS, cpu="200m" if order == REMOVE else "350m"))
        self.kube.create(budget("web", 1))
        self.kube.live()
        self.kube.live()

    def _govern(self, order: str) -> None:
        """A replacement takes a policy that buys cheaper nodes, and a template of on-demand machines."""
        from core import clock
        from policies.document import Document
        from policies.models import NodeTemplate, Policy
        from tests.policies.enforcing.conftest import QUICK

        cards = dict(QUICK)
        NodeTemplate.objects.all_orgs().delete()
        if order == REPLACE:
            cards["consolidation"] = {**QUICK["consolidation"], "level": "aggressive"}
            NodeTemplate.objects.create(
                organization_id=self.row.organization_id,
                name="m5",
                purchasing="on_demand",
                families=["m5"],
                architectures=["amd64"],
                is_default=True,
                created_at=clock.now(),
                updated_at=clock.now(),
            )
        Policy.objects.all_orgs().update(document=Document.from_json(cards).to_json())

    def _judge(self, order: str, action: Any, title: str, *, blocked: bool) -> None:
        from tests.policies.enforcing.world import BIG, SMALL

        self.kube.live()
        self.kube.live()
        _, wanted, _, machines = self.cloud.sizes("workers")
        pods = self.kube.all("pods")
        checks = {
            "the action has ended": action.ended_at is not None,
            "it holds nothing": action.cordoned == [],
            "no node is closed": self.kube.closed() == [],
            "no pod is lost": len(pods) == (3 if order == REPLACE else REPLICAS) and self.kube.waiting() == [],
            "the group wants what it has": wanted
            == machines
            == len(self.kube.all("nodes"))
            == len(self.cloud.running()),
            "as many nodes as meant": machines == (2 if order != REMOVE else 3 if action.outcome == "done" else 4),
            "of the types that were meant": order != REPLACE or sorted(self.cloud.running().values()) == [SMALL, BIG],
            "finished unless blocked": blocked or action.outcome == "done",
            "given up when blocked": not blocked or action.outcome == "given_up",
        }
        self.findings += [
            f"{what}: no, {action.outcome} {action.words} ({title})" for what, ok in checks.items() if not ok
        ]

    def points(self, orders: Sequence[str], modes: Sequence[str]) -> list[tuple[Write, str]]:
        """Every write of an undisturbed removal, launch and replacement, in every way it can break."""
        self.breaker.seen.clear()
        for order in orders:
            self.trial(order, {})
        return [(write, mode) for write in dict.fromkeys(self.breaker.seen) for mode in modes]

    def close(self) -> None:
        self.nursery.close()
        self.kube.down()
        self.cloud.__exit__(None, None, None)


def _plain(line: str) -> str:
    """A write without the names that are made anew for each trial."""
    method, _, path = line.partition(" ")
    if path.endswith("/eviction"):
        return "POST eviction"
    return f"{method} node" if "/nodes/" in path else f"{method} {path.split('/')[-1]}"


def run(
    seed: int,
    most: int,
    modes: Sequence[str] = MODES,
    say: Any = lambda line: None,
    orders: Sequence[str] = ORDERS,
) -> dict[str, Any]:
    """The whole campaign; `most` points (0: all), drawn at random when there are more."""
    began = time.monotonic()
    campaign = Campaign(seed)
    try:
        points = campaign.points(orders, modes)
        writes = len(points) // len(modes)
        if most and len(points) > most:
            points = campaign.random.sample(points, most)
        for number, (write, mode) in enumerate(points, 1):
            found = len(campaign.findings)
            campaign.trial(write[0], {write: mode}, blocked=write[0] == REMOVE and number % 4 == 0)
            say(f"{number}/{len(points)}: {mode} at {write}, {len(campaign.findings) - found} findings")
            for finding in campaign.findings[found:]:
                say(f"  {finding}")
        return {
            "campaign": "policy_drains",
            "orders": list(orders),
            "writes": writes,
            "points": len(points),
            "met": len(campaign.breaker.met),
            "by_way": dict(Counter(mode for _, mode in campaign.breaker.met)),
            "worker_processes_killed": campaign.kills,
            "outcomes": dict(campaign.outcomes),
            "seed": seed,
            "seconds": round(time.monotonic() - began),
            "findings": campaign.findings,
        }
    finally:
        campaign.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.policy_drains", description=__doc__)
    parser.add_argument("--worker", nargs=2, metavar=("KUBE", "AWS"), help=argparse.SUPPRESS)
    parser.add_argument("--points", type=int, default=0, help="so many at random; 0: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--orders", nargs="+", choices=ORDERS, default=list(ORDERS))
    parser.add_argument("--out", type=Path, help="write the summary there, too")
    options = parser.parse_args()
    if options.worker:
        nursery(*options.worker)
        return 0
    os.environ["CURFEW_DATA"] = tempfile.mkdtemp(prefix="curfew-drains-")
    _setup()
    logging.disable(logging.CRITICAL)
    summary = run(options.seed, options.points, options.modes, lambda line: _say(sys.stderr, line), options.orders)
    text = json.dumps(summary, indent=1)
    _say(sys.stdout, text)
    if options.out:
        options.out.write_text(text)
    return 1 if summary["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
