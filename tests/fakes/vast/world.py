"""The state of a fake Vast.ai and its answers, without sockets: time is whatever `clock` says."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from core.providers import TimedOut, Unreachable
from gpu_fleet.providers.vast_http import Answer

KEY = "vast-key-for-tests"
LIMITS = {"create": 4.5, "bulk": 4.5, "show": 2.0, "list": 1.0, "change": 1.0, "destroy": 3.0, "market": 3.0}
# The limits are counted generously: a client that keeps them exactly must never meet them.
SLACK = 0.05


@dataclass
class Fate:
    """What becomes of a rental: seconds to loading and to running; `stuck` never runs, `dead` says why it ended."""

    loading: float = 2.0
    running: float = 20.0
    stuck: bool = False
    dead: str = ""
    offline_after: float = 0.0
    login: bool = True


@dataclass
class Host:
    """One offer of the market on one machine."""

    offer_id: int
    machine_id: int
    gpu_name: str = "RTX 4090"
    num_gpus: int = 1
    gpu_ram: int = 24_000
    dph_total: float = 0.4
    min_bid: float = 0.2
    reliability: float = 0.98
    place: str = "Utrecht, NL"
    fate: Fate = field(default_factory=Fate)
    free: bool = True


@dataclass
class Instance:
    """A rental."""

    id: int
    host: Host
    label: str
    created: float
    env: dict[str, str] = field(default_factory=dict)
    state: str = "running"
    forced: dict[str, Any] = field(default_factory=dict)
    invisible_until: float = 0.0


class VastWorld:
    """`faults` maps an endpoint to a list of what happens to its next calls: `429`, `500`, `500_after` (the effect
    happens), `lost` (the connection breaks before), `hang` (after the effect), `html`. `contract_on_error` makes the
    next creates fail and bill all the same."""

    def __init__(self, clock: Callable[[], float], *, seed: int = 1) -> None:
        self.clock = clock
        self.random = random.Random(seed)
        self.hosts: dict[int, Host] = {}
        self.instances: dict[int, Instance] = {}
        self.ended: list[tuple[Instance, float]] = []
        self.calls: Counter[str] = Counter()
        self.refused = 0
        self.faults: dict[str, list[str]] = {}
        self.contract_on_error = 0
        self.ambiguous_share = 0.0
        self.ambiguous = 0
        self._last: dict[str, float] = {}
        self._next = 1000
        self.limits = True
        self.late = 0.0  # seconds until what is made now shows in answers

    def add(self, offer_id: int, **facts: Any) -> Host:
        host = Host(offer_id, facts.pop("machine_id", offer_id * 10), **facts)
        self.hosts[offer_id] = host
        return host

    def decoys(self, count: int) -> set[int]:
        """Other people's rentals in the same account, some with labels that look a little like ours."""
        ids = set()
        for n in range(count):
            host = self.add(90_000 + n, gpu_name="RTX 3090", free=False)
            label = ["", "training", "curfew", f"curfew-{n:012x}-deadbeef-r1"][n % 4]
            made = self._make(host, label, {})
            made.forced = {"actual_status": ["running", "exited", "stopped", "loading"][n % 4]}
            ids.add(made.id)
        return ids

    def status(self, instance: Instance) -> str | None:
        """`actual_status` now."""
        if "actual_status" in instance.forced:
            return instance.forced["actual_status"]
        age, fate = self.clock() - instance.created, instance.host.fate
        if instance.state == "stopped":
            return "stopped"
        if age < fate.loading:
            return None
        if fate.dead and age >= fate.loading:
            return "created" if "OCI" in fate.dead else "exited"
        if fate.stuck or age < fate.running:
            return "loading"
        return "offline" if fate.offline_after and age > fate.running + fate.offline_after else "running"

    def running(self) -> list[Instance]:
        return [i for i in self.instances.values() if self.status(i) == "running"]

    # HTTP

    def handle(self, method: str, target: str, body: Mapping[str, Any] | None, token: str) -> Answer:
        """Answer a request. Raises Unreachable and TimedOut as a connection would."""
        parts = urlsplit(target)
        path, query = parts.path, dict(parse_qsl(parts.query))
        endpoint = _endpoint(method, path)
        self.calls[endpoint] += 1
        if token != KEY:
            return _json(401, {"error": "auth_error", "msg": "Invalid user key"})
        if self.limits and endpoint in LIMITS:
            last = self._last.get(endpoint)
            if last is not None and self.clock() - last < LIMITS[endpoint] - SLACK:
                self.refused += 1
                return Answer(429, b"API requests too frequent: endpoint threshold=" + str(LIMITS[endpoint]).encode())
            self._last[endpoint] = self.clock()
        fault = self._fault(endpoint)
        if fault == "lost":
            raise Unreachable
        if fault in ("429", "500", "html"):
            bodies = {"429": b"API requests too frequent", "500": b"oops", "html": b"<html>busy</html>"}
            return Answer({"429": 429, "500": 500, "html": 200}[fault], bodies[fault])
        answer = self._answer(method, path, query, dict(body or {}))
        if fault == "500_after":
            return Answer(502, b"<html>bad gateway</html>")
        if fault == "hang":
            raise TimedOut
        return answer

    def _fault(self, endpoint: str) -> str:
        if self.faults.get(endpoint):
            return self.faults[endpoint].pop(0)
        if endpoint in ("create", "bulk") and self.random.random() < self.ambiguous_share:
            self.ambiguous += 1
            return self.random.choice(["500_after", "hang", "500", "500_after"])
        return ""

    def _answer(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> Answer:
        words = [part for part in path.split("/") if part][2:]
        if words[:2] == ["users", "current"]:
            return _json(200, {"id": 4711, "username": "lark", "email": "lark@example.test"})
        if words[0] == "bundles":
            return self._search(body)
        if words[:2] == ["asks", "bulk"]:
            made = [self._rent(int(i), body) for i in body["ids"]]
            return _json(200, {"success": True, "results": [{"new_contract": m.id} for m in made if m]})
        if words[0] == "asks":
            return self._create(int(words[1]), body)
        return self._instances(method, path, words, query, body)

    def _search(self, body: dict[str, Any]) -> Answer:
        bid = body.get("type") == "bid"
        rows = [self._offer(host) for host in self.hosts.values() if host.free]
        for name, tests in body.items():
            if isinstance(tests, dict) and name in ("gpu_name", "num_gpus", "gpu_ram", "dph_total", "reliability2"):
                rows = [row for row in rows if all(_holds(row[name], op, wanted) for op, wanted in tests.items())]
        rows.sort(key=lambda row: row["min_bid" if bid else "dph_total"])
        return _json(200, {"offers": rows[: int(body.get("limit", 64))]})

    def _offer(self, host: Host) -> dict[str, Any]:
        return {
            "id": host.offer_id,
            "machine_id": host.machine_id,
            "gpu_name": host.gpu_name,
            "num_gpus": host.num_gpus,
            "gpu_ram": host.gpu_ram,
            "dph_total": host.dph_total,
            "min_bid": host.min_bid,
            "storage_total_cost": 0.01,
            "geolocation": host.place,
            "reliability2": host.reliability,
            "disk_space": 500.0,
            "cpu_cores_effective": 8,
            "cpu_ram": 64_000,
            "inet_down": 800.0,
            "verification": "verified",
            "rentable": True,
        }

    def _create(self, offer: int, body: dict[str, Any]) -> Answer:
        if self.contract_on_error:
            self.contract_on_error -= 1
            made = self._rent(offer, body)
            if made:
                made.state = "stopped"
                told = {"success": False, "error": "invalid_price", "msg": "bid too low", "new_contract": made.id}
                return _json(400, told)
        made = self._rent(offer, body)
        if made is None:
            return _json(404, {"success": False, "error": "no_such_ask", "msg": "no such offer"})
        return _json(200, {"success": True, "new_contract": made.id, "instance_api_key": "x"})

    def _rent(self, offer: int, body: dict[str, Any]) -> Instance | None:
        host = self.hosts.get(offer)
        if host is None or not host.free:
            return None
        host.free = False
        return self._make(host, str(body.get("label") or ""), dict(body.get("env") or {}))

    def _make(self, host: Host, label: str, env: dict[str, str]) -> Instance:
        self._next += 1
        made = Instance(self._next, host, label, self.clock(), env, invisible_until=self.clock() + self.late)
        self.instances[made.id] = made
        return made

    def _instances(
        self, method: str, path: str, words: list[str], query: dict[str, str], body: dict[str, Any]
    ) -> Answer:
        if len(words) == 1:
            if method == "DELETE":
                for number in body["instance_ids"]:
                    self._end(int(number))
                return _json(200, {"success": True})
            return self._page(query)
        number = int(words[1])
        instance = self.instances.get(number)
        if method == "GET":
            shown = instance is not None and self.clock() >= instance.invisible_until
            return _json(200, {"instances": self._row(instance) if shown and instance else None})
        if instance is None:
            return _json(404, {"success": False, "error": "no_such_instance", "msg": "gone"})
        if method == "DELETE":
            self._end(number)
        elif method == "PUT" and "state" in body:
            instance.state = str(body["state"])
        return _json(200, {"success": True})

    def _end(self, number: int) -> None:
        instance = self.instances.pop(number, None)
        if instance is not None:
            instance.host.free = True
            self.ended.append((instance, self.clock()))

    def _page(self, query: dict[str, str]) -> Answer:
        limit = int(query.get("limit", 25))
        if limit > 25:
            return _json(400, {"success": False, "error": "invalid_args", "msg": "limit must be at most 25"})
        shown = [i for n, i in sorted(self.instances.items()) if self.clock() >= i.invisible_until]
        rows = [i for i in shown if i.id > int(query.get("after_token") or 0)]
        page = rows[:limit]
        more = {"next_token": str(page[-1].id)} if len(rows) > limit else {"next_token": None}
        return _json(200, {"instances": [self._row(i) for i in page], **more})

    def _row(self, instance: Instance) -> dict[str, Any]:
        status, host = self.status(instance), instance.host
        up = status == "running"
        return {
            "id": instance.id,
            "machine_id": host.machine_id,
            "label": instance.label or None,
            "actual_status": status,
            "cur_state": instance.state,
            "intended_status": instance.state,
            "next_state": instance.state,
            "status_msg": host.fate.dead or {"loading": "Pulling layers"}.get(status or "", ""),
            "gpu_name": host.gpu_name,
            "num_gpus": host.num_gpus,
            "dph_total": host.dph_total,
            "geolocation": host.place,
            "gpu_util": None,
            "public_ipaddr": "127.0.0.1" if up else None,
            "ports": {"22/tcp": [{"HostPort": str(20_000 + instance.id % 10_000)}]} if up else None,
            "ssh_host": "ssh4.example.test",
            "ssh_port": 10_000 + instance.id,
            "start_date": instance.created,
            **instance.forced,
        }


class Direct:
    """A transport that asks the world itself: no socket, for simulated time."""

    def __init__(self, world: VastWorld) -> None:
        self.world = world
        self.before: Callable[[str, str], None] = lambda method, path: None
        self.after: Callable[[str, str], None] = lambda method, path: None

    def send(self, method: str, path: str, body: Mapping[str, Any] | None, token: str) -> Answer:
        self.before(method, path)
        answer = self.world.handle(method, path, json.loads(json.dumps(body)) if body else None, token)
        self.after(method, path)
        return answer


def _endpoint(method: str, path: str) -> str:
    words = [part for part in path.split("/") if part][2:]
    if words[:2] == ["asks", "bulk"]:
        return "bulk"
    if words[0] == "asks":
        return "create"
    if words[0] != "instances":
        return {"bundles": "search", "users": "user", "metrics": "market"}.get(words[0], words[0])
    if method == "GET":
        return "show" if len(words) > 1 else "list"
    return {"DELETE": "destroy", "PUT": "change"}[method]


def _holds(value: Any, operator: str, wanted: Any) -> bool:
    tests = {"eq": value == wanted, "gte": value >= wanted, "lte": value <= wanted} if wanted is not None else {}
    return tests.get(operator, True)


def _json(status: int, content: Any) -> Answer:
    return Answer(status, json.dumps(content).encode())
