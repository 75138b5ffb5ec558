"""A fleet of simulated workers under kills, partitions, broker flushes and skewed clocks: every effect once, none lost.

    python -m tests.stack -- python -m tests.campaigns.task_fleet --tasks 20000 --agents 50 --seed 1

prints the findings (there must be none) and what was done, as JSON. What runs is the platform: real threads, a real
database, leases swept by two sweepers at once. The requests of every fifth agent (`--http 0.2`) enter at the HTTP
handler, those of the others at the services, which costs a quarter of the time. Simulated are the machines and time: in
one step all agents act at the same time, then the clock goes on by some seconds. Every web thread and every sweeper
reads its own wrong clock, as servers do. After `--seconds` nothing more is submitted, and what was is judged.

An agent follows the rules of docs/agent-protocol.md: no container before the first renewal, a renewal every 10 s, the
container killed when three quarters of the lease went by without one. Of a request either the way there or the way back
may be cut, and some that seemed lost arrive much later. What the machines did is written down apart from the platform, and the two are compared at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import random
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID, uuid4

import zstandard

Send = Callable[[str, Any, str], Awaitable[tuple[int, Any]]]
STEP_SECONDS = 2.5
LEASE_SECONDS, RENEW_SECONDS, KILL_AFTER = 45.0, 10.0, 0.75
SKEWS = (-4.0, 0.0, 4.0, 1.5)  # seconds; the widest pair is 8 apart, less than the quarter lease left for the kill
ROOM = {"cpu": 4000, "memory": 4096, "storage": 10_000}
PLACES = 8
LONGEST_STEPS = 2000


class Cut(Exception):
    """The request or its answer was lost."""


class Clock:
    """Simulated time, and how wrong each thread has it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = datetime.fromisoformat("2031-06-12T09:00:00+00:00")
        self._skews: dict[int, float] = {}
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """What `core.clock.now` says meanwhile."""
        me = threading.get_ident()
        with self._lock:
            skew = self._skews.setdefault(me, SKEWS[len(self._skews) % len(SKEWS)])
        return self._began + timedelta(seconds=self.seconds + skew)


@dataclass
class Container:
    """One run of a task on a machine; `wanted` is how it ends by itself."""

    task: str
    fence: int
    runs_for: float
    wanted: str
    output: bytes
    asked: float = 0.0  # agent's time of the last renewal that was granted; 0 before the first
    tried: float = -1e9
    began: float | None = None
    ended: float | None = None
    killed: bool = False
    told_start: bool = False
    sent: int = 0
    cancel: bool = False
    gone: bool = False


@dataclass
class Network:
    """How a machine reaches the platform."""

    chance: random.Random
    cut_until: float = -1.0
    flaky: float = 0.0


@dataclass
class World:
    """What really happened, and how often."""

    clock: Clock
    done: Counter[str] = field(default_factory=Counter)
    runs: dict[str, list[Container]] = field(default_factory=lambda: defaultdict(list))
    accepted: dict[tuple[str, int], str] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)


class Agent:
    """A machine with its agent process. `rate` is how fast its clock goes."""

    def __init__(self, name: str, send: Send, world: World, chance: random.Random) -> None:
        self.name, self.send, self.world, self.chance = name, send, world, chance
        self.late: list[tuple[float, str, Any, str]] = []
        self.network = Network(chance)
        self.held: list[Container] = []
        self.away_until = -1.0
        self.rate = chance.uniform(0.99, 1.01)

    @property
    def now(self) -> float:
        return self.world.clock.seconds * self.rate

    async def ask(self, path: str, body: Any = b"", query: str = "") -> tuple[int, Any]:
        """A request of this machine; Cut when it or its answer is lost."""
        cut = self.world.clock.seconds < self.network.cut_until or self.chance.random() < self.network.flaky
        if cut and self.chance.random() < 0.5:
            self.world.done["requests_lost"] += 1
            if self.chance.random() < 0.5 and "claim" not in path:
                self.late.append((self.world.clock.seconds + self.chance.uniform(5, 120), path, body, query))
            raise Cut
        answer = await self.send(path, body, query)
        self.world.done["requests"] += 1
        if cut:
            self.world.done["answers_lost"] += 1
            raise Cut
        if answer[0] >= 500:
            self.world.findings.append(f"{path} answered {answer[0]} {answer[1]!r}")
        return answer

    async def _deliver_late(self) -> None:
        """What seemed lost arrives, whatever has become of its task; nobody reads the answer."""
        due = [each for each in self.late if each[0] <= self.world.clock.seconds]
        self.late = [each for each in self.late if each[0] > self.world.clock.seconds]
        for _, path, body, query in due:
            status, _ = await self.send(path, body, query)
            self.world.done[f"late_answered_{status}"] += 1

    async def step(self) -> None:
        """All that is due now: containers side by side, then a claim when there is room."""
        await self._deliver_late()
        if self.world.clock.seconds < self.away_until:
            return
        await asyncio.gather(*(self._tend(container) for container in list(self.held)))
        self.held = [container for container in self.held if not container.gone]
        free = PLACES - len(self.held)
        if free:
            wait = "&wait=0.02" if self.chance.random() < 0.05 else ""
            try:
                status, given = await self.ask("/api/agent/claim", query=f"most={free}{wait}")
            except Cut:
                return
            for order in given["orders"] if status == 200 else []:
                self.held.append(self._container(order))
            self.world.done["claims"] += 1

    def _container(self, order: dict[str, Any]) -> Container:
        wishes = order["environment"]
        return Container(
            order["task"], order["fence"], float(wishes["SECONDS"]) * self.chance.uniform(0.8, 1.2),
            "error" if order["fence"] <= int(wishes["FAILS"]) else "ok",
            f"{order['task']} under {order['fence']}\n".encode() * self.chance.randint(1, 4),
        )  # fmt: skip

    async def _tend(self, box: Container) -> None:
        """Renew, start, send, tell the end: as far as the network lets it."""
        now = self.now
        if box.asked and now - box.asked > LEASE_SECONDS * KILL_AFTER and box.ended is None:
            self._stop(box)
            self.world.done["killed_for_the_lease"] += 1
            box.gone = True
            return
        try:
            if now - box.tried >= RENEW_SECONDS or not box.asked:
                box.tried = now
                if not await self._renew(box, now):
                    return
            if box.began is None:
                box.began = self.world.clock.seconds
                self.world.runs[box.task].append(box)
            await self._run(box)
        except Cut:
            if not box.asked and self.chance.random() < 0.3:
                box.gone = True  # gives up; the first lease runs out

    async def _renew(self, box: Container, now: float) -> bool:
        status, given = await self.ask(f"/api/agent/tasks/{box.task}/renew", {"fence": box.fence})
        if status != 200:
            self._refused(box, status)
            return False
        box.asked = now
        if given["cancel"] and box.ended is None:
            box.cancel = True
            self._stop(box)
        return True

    async def _run(self, box: Container) -> None:
        path = f"/api/agent/tasks/{box.task}"
        if not box.told_start:
            status, _ = await self.ask(f"{path}/start", {"fence": box.fence})
            if status != 200:
                return self._refused(box, status)
            box.told_start = True
        began = box.began or 0.0
        if box.ended is None and self.world.clock.seconds - began >= box.runs_for:
            box.ended = began + box.runs_for
        if box.ended is None:
            return None
        if box.sent < len(box.output) and not box.cancel:
            query = f"stream=stdout&fence={box.fence}&offset={box.sent}"
            status, given = await self.ask(f"{path}/logs", box.output[box.sent :], query)
            if status not in (202, 416):
                return self._refused(box, status)
            box.sent = given["offset"]
        word = "cancelled" if box.cancel else box.wanted
        content = {"fence": box.fence, "exit_class": word, "exit_code": 0 if word == "ok" else 1}
        status, _ = await self.ask(f"{path}/finish", content)
        if status != 200:
            return self._refused(box, status)
        self.world.accepted[box.task, box.fence] = word
        box.gone = True
        return None

    def _refused(self, box: Container, status: int) -> None:
        if status != 409:
            self.world.findings.append(f"{box.task} under {box.fence} was refused with {status}")
        self.world.done["stale_refused"] += 1
        self._stop(box)
        box.gone = True

    def _stop(self, box: Container) -> None:
        if box.began is not None and box.ended is None:
            box.ended, box.killed = self.world.clock.seconds, True

    def suffer(self, share: float) -> None:
        """Perhaps something bad: the machine dies, its agent alone dies, the network goes away or drops."""
        if self.world.clock.seconds < max(self.away_until, self.network.cut_until):
            return
        self.network.flaky = 0.0
        luck = self.chance.random()
        if luck < share:  # the machine: its containers are gone, the agent comes back with nothing but its token
            for box in self.held:
                self._stop(box)
            self.held, self.away_until = [], self.world.clock.seconds + self.chance.uniform(5, 120)
            self.world.done["machines_killed"] += 1
        elif luck < 2 * share:  # the agent alone, started again soon; it knows its containers from their labels
            self.held = [box for box in self.held if box.began is not None]
            for box in self.held:
                box.told_start, box.sent, box.tried = False, 0, -1e9
            self.away_until = self.world.clock.seconds + self.chance.uniform(0, 20)
            self.world.done["agents_killed"] += 1
        elif luck < 3 * share:
            self.network.cut_until = self.world.clock.seconds + self.chance.uniform(5, 150)
            self.world.done["partitions"] += 1
        elif luck < 6 * share:
            self.network.flaky = self.chance.uniform(0.1, 0.6)
            self.world.done["flaky_spells"] += 1


async def over_http(handler: Any, token: str, path: str, body: Any, query: str) -> tuple[int, Any]:
    """One request as a server hands it over."""
    kind = b"application/octet-stream"
    if not isinstance(body, bytes):
        body, kind = json.dumps(body).encode(), b"application/json"
    scope = {
        "type": "http", "method": "POST", "path": path, "query_string": query.encode(), "client": ("127.0.0.1", 1),
        "headers": [
            (b"host", b"testserver"), (b"authorization", f"Agent {token}".encode()), (b"content-type", kind),
            (b"content-length", str(len(body)).encode()),
        ],
        "scheme": "http", "server": ("testserver", 80), "root_path": "", "http_version": "1.1",
    }  # fmt: skip
    first, sent = [{"type": "http.request", "body": body}], []

    async def receive() -> dict[str, Any]:
        if first:
            return first.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await handler({**scope, "asgi": {"version": "3.0"}}, receive, send)
    answer = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], json.loads(answer) if answer else None


def at_the_services(worker: Any, path: str, body: Any, query: str) -> tuple[int, Any]:
    """The same request without HTTP; status and answer as the views give them."""
    from core.errors import CurfewError
    from taskrunner import services

    words, options = path.split("/")[3:], dict(parse_qsl(query))
    try:
        if words[0] == "claim":
            claims = services.claim_some(worker=worker, most=int(options["most"]), call=uuid4(), begins=True)
            orders = [
                {"task": str(c.task.id), "fence": c.task.fence, "environment": c.task.environment} for c in claims
            ]
            return (200, {"orders": orders}) if orders else (204, None)
        how: dict[str, Any] = {"worker": worker, "task_id": UUID(words[1])}
        if words[2] == "logs":
            given = {"fence": int(options["fence"]), "offset": int(options["offset"]), "stream": options["stream"]}
            return 202, {"offset": services.append_log(**how, **given, data=body)}
        answer = {"renew": services.renew, "start": services.start, "finish": services.finish}[words[2]](**how, **body)
        return 200, {"cancel": answer} if words[2] == "renew" else {}
    except CurfewError as refused:
        return refused.status, {"offset": getattr(refused, "offset", None)}


class Campaign:
    """Submits, lets agents act and things break, sweeps, and judges."""

    def __init__(
        self, *, tasks: int, agents: int, organizations: int, seed: int, share: float, http: float, seconds: float
    ) -> None:
        from accounts import services as accounts
        from config.web import ThreadedHandler
        from core import clock, hooks
        from taskrunner import services
        from tests.personas import make_organization, make_person

        self.chance = random.Random(seed)
        self.clock = Clock()
        self.plain_now, clock.now = clock.now, self.clock.now
        self.world = World(self.clock)
        handler, pool = ThreadedHandler(len(SKEWS)), ThreadPoolExecutor(len(SKEWS))

        def sender(worker: Any, token: str, *, whole: bool) -> Send:
            def send(path: str, body: Any, query: str) -> Awaitable[tuple[int, Any]]:
                if whole:
                    self.world.done["requests_over_http"] += 1
                    return over_http(handler, token, path, body, query)
                return asyncio.get_running_loop().run_in_executor(pool, at_the_services, worker, path, body, query)

            return send

        self.wanted, self.share = tasks, share
        self.left, self.until = tasks, time.monotonic() + seconds
        self.ended: Counter[UUID] = Counter()
        self.on_end: Callable[..., None] = lambda task: self.ended.update([task.id])
        hooks.task_ended.subscribe(self.on_end)
        self.people, self.agents, self.made = [], [], []
        for n in range(organizations):
            person = make_person(f"owner{n}", make_organization(f"Fleet {n}"), "owner")
            self.people.append(person)
            _, enrolment = accounts.create_enrolment_token(actor=person.actor, kind="worker", name="fleet")
            for m in range(agents // organizations):
                worker, token = services.register(enrolment=enrolment, facts={"name": f"w{n}-{m}", **ROOM})
                chance = random.Random(self.chance.random())
                number = len(self.agents)
                whole = int((number + 1) * http) > int(number * http)
                self.agents.append(Agent(worker.name, sender(worker, token, whole=whole), self.world, chance))

    def close(self) -> None:
        from core import clock, hooks, live

        live._notices.flush()
        clock.now = self.plain_now
        hooks.task_ended._subscribers.remove(self.on_end)

    def submit(self, most: int) -> None:
        """Some more tasks of every organization: some fail first, some need another, few are cancelled later."""
        from taskrunner import services

        for person in self.people:
            count = min(most, self.left)
            self.left -= count
            rows = []
            for n in range(count):
                fails = self.chance.choices((0, 1, 2), (90, 7, 3))[0]
                environment = {"SECONDS": f"{self.chance.uniform(1, 15):.1f}", "FAILS": str(fails)}
                need = [str(n - 1)] if n and self.chance.random() < 0.05 else []
                rows.append(
                    {
                        "key": str(n), "needs": need, "name": f"t{n}", "image": "busybox:1", "environment": environment,
                        "cpu": 500, "memory": 256, "priority": self.chance.randint(0, 3), "retries": 20,
                        "retry_on": ["lost", "error"],
                    }
                )  # fmt: skip
            if rows:
                self.made += [(person, task.id) for task in services.submit_many(actor=person.actor, tasks=rows)]

    def cancel_some(self) -> None:
        from core.errors import InvalidState
        from taskrunner import services

        if self.made and self.chance.random() < 0.5:
            person, task_id = self.chance.choice(self.made[-400:])
            try:
                services.cancel(actor=person.actor, task_id=task_id)
                self.world.done["cancelled"] += 1
            except InvalidState:
                pass

    def sweep(self) -> int:
        """As the worker does every few seconds; here in two at once."""
        from django.db import connections

        from taskrunner import services

        try:
            taken = services.sweep_leases()
            services.sweep_waiting()
            return taken
        finally:
            if threading.current_thread() is not threading.main_thread():
                connections.close_all()

    def flush_broker(self) -> None:
        """Everything in Redis is gone and every listener is cut off; without Redis the cache is emptied."""
        from django.conf import settings
        from django.core.cache import cache

        self.world.done["broker_flushes"] += 1
        if not settings.REDIS_URL:
            cache.clear()
            return
        import redis

        with redis.Redis.from_url(settings.REDIS_URL) as broker:
            broker.flushall()
            broker.client_kill_filter(_type="pubsub")

    async def run(self) -> None:
        """Until every task has ended, at most LONGEST_STEPS steps."""
        a_step = max(1, round(len(self.agents) * PLACES * STEP_SECONDS / 12 / len(self.people)))
        for number in range(LONGEST_STEPS):
            calm = self.left == 0 and number % 2  # the last ones must be able to end
            if not calm:
                for agent in self.agents:
                    agent.suffer(self.share)
            if number % 25 == 24:
                await asyncio.to_thread(self.flush_broker)
            if self.left and time.monotonic() > self.until:
                self.wanted, self.left = self.wanted - self.left, 0
            if self.left:
                await asyncio.to_thread(self.submit, a_step)
            sweeps = [asyncio.to_thread(self.sweep) for _ in range(2)] if number % 2 else []
            taken = await asyncio.gather(
                *sweeps, asyncio.to_thread(self.cancel_some), *(agent.step() for agent in self.agents)
            )
            self.world.done["leases_taken_back"] += sum(taken[: len(sweeps)])
            if number % 20 == 0:
                await asyncio.to_thread(self._capacity_held)
                sys.stderr.write(f"step {number}: {len(self.ended)} of {len(self.made)} ended\n")
            self.clock.seconds += STEP_SECONDS
            if not self.left and await asyncio.to_thread(self._all_ended):
                self.world.done["steps"] = number + 1
                return
        self.world.findings.append("not every task has ended")

    def _all_ended(self) -> bool:
        from taskrunner.enums import FINAL
        from taskrunner.models import Task

        return not Task.objects.all_orgs().exclude(status__in=FINAL).exists()

    def _capacity_held(self) -> None:
        from django.db.models import Count, Sum

        from taskrunner.enums import HELD
        from taskrunner.models import Task

        rows = Task.objects.all_orgs().filter(status__in=HELD).order_by().values("worker")
        for row in rows.annotate(n=Count("id"), cpu=Sum("cpu")):
            if row["cpu"] > ROOM["cpu"]:
                self.world.findings.append(f"a worker holds {row['n']} tasks with {row['cpu']} millicores")

    def judge(self) -> None:
        """Compare what the platform holds with what the machines did."""
        from audit.models import AuditEntry
        from taskrunner.models import Attempt, LogStream, Task

        found = self.world.findings
        tasks = {str(task.id): task for task in Task.objects.all_orgs().defer("sealed")}
        if len(tasks) != self.wanted:
            found.append(f"{len(tasks)} tasks of {self.wanted}")
        attempts: dict[str, list[Any]] = defaultdict(list)
        for attempt in Attempt.objects.order_by("task_id", "number"):
            attempts[str(attempt.task_id)].append(attempt)
        ends = Counter(
            AuditEntry.objects.all_orgs()
            .filter(verb__in=["task.finished", "task.cancelled"])
            .values_list("target_id", flat=True)
        )
        sizes = dict(LogStream.objects.values_list("attempt_id", "stdout"))
        stored = self._stored_logs()
        for task_id, task in tasks.items():
            tries, runs = attempts[task_id], self.world.runs.get(task_id, [])
            if (self.ended[task.id], ends[task_id]) != (1, 1):
                found.append(f"{task_id}: ended {self.ended[task.id]} times, {ends[task_id]} audit lines")
            self._judge_attempts(task, tries)
            self._judge_runs(task_id, runs)
            for attempt in tries:
                if attempt.exit_class == "ok":
                    kept = (sizes.get(attempt.id), stored[attempt.id])
                    self._judge_good(task_id, [run for run in runs if run.fence == attempt.number], kept)
        for (task_id, fence), word in self.world.accepted.items():
            kept = [t.exit_class for t in attempts[task_id] if t.number == fence]
            if kept not in ([word], ["cancelled"]):
                found.append(f"{task_id}: {word} was accepted under {fence}, but kept as {kept}")
        self.world.done["attempts"] = sum(len(each) for each in attempts.values())
        self.world.done["containers"] = sum(len(runs) for runs in self.world.runs.values())
        self.world.done.update({f"tasks_{name}": n for name, n in Counter(t.status for t in tasks.values()).items()})

    def _stored_logs(self) -> dict[int, bytes]:
        from taskrunner.models import LogPiece

        stored: dict[int, bytes] = defaultdict(bytes)
        pieces = LogPiece.objects.order_by("attempt_id", "number").values_list("attempt_id", "offset", "data")
        for attempt_id, offset, data in pieces.iterator():
            if offset != len(stored[attempt_id]):
                self.world.findings.append(f"the log of attempt {attempt_id} has a hole or an overlap at {offset}")
            stored[attempt_id] += zstandard.decompress(bytes(data))
        return stored

    def _judge_attempts(self, task: Any, tries: list[Any]) -> None:
        """Every fence has one attempt, which ended; one good attempt makes a success, none anything else."""
        found, good = self.world.findings, sum(t.exit_class == "ok" for t in tries)
        if [t.number for t in tries] != list(range(1, task.fence + 1)):
            found.append(f"{task.id}: attempts {[t.number for t in tries]} under fence {task.fence}")
        if any(t.finished_at is None for t in tries):
            found.append(f"{task.id}: an attempt never ended")
        if task.status not in ("succeeded", "cancelled") or good != (task.status == "succeeded"):
            found.append(f"{task.id}: {task.status} with {good} good attempts, {task.reason}")

    def _judge_good(self, task_id: str, ran: list[Container], kept: tuple[int | None, bytes]) -> None:
        """The good attempt is one container that ran to its end, and its log is kept to the byte."""
        if len(ran) != 1 or ran[0].killed or ran[0].wanted != "ok":
            self.world.findings.append(f"{task_id}: {len(ran)} containers ran under the good fence")
        elif kept != (len(ran[0].output), ran[0].output):
            self.world.findings.append(f"{task_id}: of its log {ran[0].output!r} {kept} is kept")

    def _judge_runs(self, task_id: str, runs: list[Container]) -> None:
        """No two containers of a task at the same time, none twice under one fence."""
        if len({run.fence for run in runs}) != len(runs):
            self.world.findings.append(f"{task_id}: two containers under one fence")
        in_order = sorted(runs, key=lambda run: run.began or 0.0)
        for one, other in itertools.pairwise(in_order):
            if one.ended is None or one.ended > (other.began or 0.0):
                self.world.findings.append(
                    f"{task_id}: under {one.fence} until {one.ended}, under {other.fence} from {other.began}"
                )


def run(*, tasks: int, agents: int, organizations: int = 5, seed: int, **how: float) -> dict[str, Any]:
    """The whole campaign on the database and broker that Django is set up for; its summary."""
    campaign = Campaign(tasks=tasks, agents=agents, organizations=organizations, seed=seed, **how)
    began = time.monotonic()
    try:
        asyncio.run(campaign.run())
        campaign.judge()
    finally:
        campaign.close()
    world = campaign.world
    return {
        "findings": world.findings[:50], "tasks": campaign.wanted, "agents": agents, "seed": seed,
        "seconds": round(time.monotonic() - began, 1), "simulated_seconds": world.clock.seconds,
        **dict(sorted(world.done.items())),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--agents", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=0.004, help="chance of each kind of fault an agent and step")
    parser.add_argument("--http", type=float, default=0.2, help="share of the agents that speak whole HTTP")
    parser.add_argument("--seconds", type=float, default=86_400, help="submit no more after so long")
    options = parser.parse_args()
    from bench.support import report, setup_django

    setup_django()
    logging.getLogger("channels_redis.pubsub").setLevel(logging.CRITICAL)  # its listeners are cut off on purpose
    from django.db import connection

    report("task_fleet", database=connection.vendor, **run(**vars(options)))


if __name__ == "__main__":
    main()
