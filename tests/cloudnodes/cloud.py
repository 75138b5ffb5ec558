"""A cloud in memory that keeps the promises of `NodeProvider`: tests move its machines, and it counts what it was asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

from cloudnodes.providers.base import Instance, InstanceState, Progress, Scaling, Started
from core import clock
from core.providers import NotFound, ProviderError

S = InstanceState


@dataclass
class Machine:
    """One machine; `history` is every change of state with its time, which is what a bill would be made from."""

    instance: Instance
    history: list[tuple[datetime, InstanceState]] = field(default_factory=list)
    ready_at: datetime | None = None
    healthy_at: datetime | None = None


class MemoryCloud:
    """Starts take `boot` seconds and stops `halt`, by `core.clock`. `fail[verb]` is raised by that call, as often as it
    is listed; `before`/`after` are called around each call, for killing.
    """

    provider = "aws"

    def __init__(self) -> None:
        self.machines: dict[str, Machine] = {}
        self.boot, self.halt, self.health = 4.0, 2.0, 0.0
        self.calls: Counter[str] = Counter()
        self.starts: Counter[str] = Counter()
        self.stops: Counter[str] = Counter()
        self.tokens: list[str] = []
        self.fail: dict[str, list[ProviderError]] = {}
        self.before: Callable[[str], None] = lambda verb: None
        self.after: Callable[[str], None] = lambda verb: None
        self.follow = False

    def add(self, provider_id: str = "i-1", state: InstanceState = S.STOPPED, **facts: object) -> Machine:
        told = {
            "name": f"flux-dev-{provider_id}",
            "region": "us-east-1",
            "zone": "us-east-1a",
            "instance_type": "g5.xlarge",
            "node_type": "FLUX Dev",
            "gpu_tier": "a10g",
            "hourly_cost": Decimal("1.2"),
            "labels_source": "tags",
            **facts,
        }
        machine = Machine(Instance(provider_id=provider_id, state=state, **told))  # type: ignore[arg-type]
        machine.history.append((clock.now(), state))
        self.machines[provider_id] = machine
        return machine

    def put(self, provider_id: str, state: InstanceState, **facts: object) -> None:
        """Somebody else changed it, in the provider's console."""
        machine = self.machines[provider_id]
        machine.instance = replace(machine.instance, state=state, **facts)  # type: ignore[arg-type]
        machine.history.append((clock.now(), state))
        machine.ready_at = None

    def _call(self, verb: str) -> None:
        self.calls[verb] += 1
        self.before(verb)
        if self.fail.get(verb):
            raise self.fail[verb].pop(0)

    def _tick(self) -> None:
        for machine in self.machines.values():
            if machine.ready_at is None or clock.now() < machine.ready_at:
                continue
            state = {S.STARTING: S.RUNNING, S.STOPPING: S.STOPPED}.get(machine.instance.state)
            if state is not None:
                machine.instance = replace(machine.instance, state=state)
                machine.history.append((machine.ready_at, state))
            machine.ready_at = None

    def discover(self, *, include_untagged: bool = False) -> list[Instance]:
        self._call("discover")
        self._tick()
        return [m.instance for m in self.machines.values() if m.instance.node_type or include_untagged]

    def describe(self, provider_ids: Collection[str]) -> dict[str, Instance]:
        self._call("describe")
        self._tick()
        found = {i: self.machines[i].instance if i in self.machines else _gone(i) for i in provider_ids}
        self.after("describe")
        return found

    def start(self, provider_id: str, *, token: str) -> Started:
        self._call("start")
        self._tick()
        self.tokens.append(token)
        machine = self._machine(provider_id)
        if machine.instance.state in (S.RUNNING, S.STARTING):
            self.after("start")
            return Started(already=True)
        self.starts[provider_id] += 1
        self._move(machine, S.STARTING, self.boot, launched_at=clock.now())
        machine.healthy_at = clock.now() + timedelta(seconds=self.boot + self.health)
        self.after("start")
        return Started(continuation=f"start:{provider_id}" if self.follow else "")

    def stop(self, provider_id: str, *, token: str) -> Started:
        self._call("stop")
        self._tick()
        machine = self._machine(provider_id)
        if machine.instance.state in (S.STOPPED, S.STOPPING):
            self.after("stop")
            return Started(already=True)
        self.stops[provider_id] += 1
        self._move(machine, S.STOPPING, self.halt, launched_at=None)
        self.after("stop")
        return Started()

    def check(self, continuation: str) -> Progress:
        self._call("check")
        self._tick()
        self.after("check")
        machine = self.machines[continuation.partition(":")[2]]
        return Progress(done=machine.instance.state is S.RUNNING)

    def probe(self, health_endpoint: str, *, timeout: float = 3.0) -> bool | None:
        self._call("probe")
        self.after("probe")
        provider_id = health_endpoint.rpartition("/")[2]
        healthy = self.machines[provider_id].healthy_at
        return healthy is not None and clock.now() >= healthy

    def _machine(self, provider_id: str) -> Machine:
        if provider_id not in self.machines:
            raise NotFound
        return self.machines[provider_id]

    def _move(self, machine: Machine, state: InstanceState, seconds: float, launched_at: datetime | None) -> None:
        machine.instance = replace(machine.instance, state=state, launched_at=launched_at)
        machine.history.append((clock.now(), state))
        machine.ready_at = clock.now() + timedelta(seconds=seconds)

    def billed_seconds(self, provider_id: str, until: datetime) -> float:
        """What EC2 would charge: the time in `running`, for each start at least a minute."""
        self._tick()
        total, since = 0.0, None
        for at, state in self.machines[provider_id].history:
            if state is S.RUNNING and since is None:
                since = at
            elif state is not S.RUNNING and since is not None:
                total, since = total + max(60.0, (at - since).total_seconds()), None
        return total + ((until - since).total_seconds() if since else 0.0)


def _gone(provider_id: str) -> Instance:
    return Instance(provider_id=provider_id, name=provider_id, region="", zone="", instance_type="", state=S.GONE)


TO_ZERO = {"scaling": Scaling.TO_ZERO}
