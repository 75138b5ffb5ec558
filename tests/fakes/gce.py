"""Compute Engine over REST: instances, zones, machine types, and zone operations that take `operation_seconds`.

As documented: an insert answers with an operation and the instance shows at once as PROVISIONING; it runs when the
operation is DONE. A failed operation takes its instance away again. A name is used once: 409. Lists come in pages.
"""

from __future__ import annotations

import re
import time
import uuid
from typing import Any

from tests.fakes.gcp import PROJECT, FakeCloudRun, google_error
from tests.fakes.server import Answer, Request

ROOT = f"/compute/v1/projects/{PROJECT}"
ZONES = ("us-central1-a", "us-central1-b")
TYPES = ("e2-small", "e2-medium", "e2-standard-2", "e2-standard-4", "n1-standard-4", "g2-standard-4")
_ZONE = re.compile(rf"{ROOT}/zones/([a-z0-9-]+)/(.+)")
_CHANGES = {"start": "RUNNING", "stop": "TERMINATED"}


class FakeCompute(FakeCloudRun):
    """One project. `failure` (code, message) is what the next operation ends with."""

    def __init__(self, *, operation_seconds: float = 0.3, page_size: int = 2) -> None:
        super().__init__(operation_seconds=operation_seconds, page_size=page_size)
        self.instances: dict[tuple[str, str], dict[str, Any]] = {}
        self.changes: dict[str, dict[str, Any]] = {}
        self.failure: tuple[str, str] | None = None

    def answer(self, request: Request) -> Answer:
        with self.lock:
            return self._compute(request) if request.path.startswith(ROOT) else super().answer(request)

    def _compute(self, request: Request) -> Answer:
        if request.bearer not in self.tokens:
            return google_error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        self._settle_changes()
        if request.path == f"{ROOT}/zones":
            return Answer(200, {"items": [{"name": z, "status": "UP", "region": "us-central1"} for z in ZONES]})
        if request.path == f"{ROOT}/aggregated/instances":
            return self._aggregated(request)
        found = _ZONE.fullmatch(request.path)
        if found is None:
            return google_error(404, "NOT_FOUND", request.path)
        zone, rest = found[1], found[2]
        if rest == "machineTypes":
            return Answer(200, {"items": [{"name": name} for name in TYPES]})
        if rest.startswith("operations/"):
            return self._operation_answer(rest.partition("/")[2])
        if rest == "instances" and request.method == "POST":
            return self._insert(zone, request.json())
        return self._one(request, zone, *rest.removeprefix("instances/").partition("/")[::2])

    def _aggregated(self, request: Request) -> Answer:
        rows = sorted(self.instances)
        start = int(request.query.get("pageToken") or 0)
        part = rows[start : start + self.page_size]
        items: dict[str, Any] = {f"zones/{zone}": {"warning": {"code": "NO_RESULTS_ON_PAGE"}} for zone in ZONES}
        for key in part:
            items[f"zones/{key[0]}"] = (
                items[f"zones/{key[0]}"] if "instances" in items[f"zones/{key[0]}"] else {"instances": []}
            )
            items[f"zones/{key[0]}"]["instances"].append(self.instances[key])
        more = {"nextPageToken": str(start + self.page_size)} if start + self.page_size < len(rows) else {}
        return Answer(200, {"items": items, **more})

    def _insert(self, zone: str, body: dict[str, Any]) -> Answer:
        key = (zone, str(body["name"]))
        if key in self.instances:
            return google_error(409, "ALREADY_EXISTS", f"The resource {key[1]} already exists", "alreadyExists")
        if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", key[1]):
            return google_error(400, "INVALID_ARGUMENT", f"Invalid value for field 'resource.name': {key[1]}")
        self.instances[key] = {
            **body,
            "zone": f"https://www.googleapis.com/compute/v1/projects/{PROJECT}/zones/{zone}",
            "status": "PROVISIONING",
            "creationTimestamp": "2031-06-12T02:00:00.000-07:00",
        }
        return self._begin(key, "insert")

    def _one(self, request: Request, zone: str, name: str, verb: str) -> Answer:
        key = (zone, name)
        if key not in self.instances:
            return google_error(404, "NOT_FOUND", f"The resource 'instances/{name}' was not found", "notFound")
        if request.method == "GET":
            return Answer(200, self.instances[key])
        if request.method == "DELETE":
            self.instances[key]["status"] = "STOPPING"
            return self._begin(key, "delete")
        if verb in _CHANGES:
            return self._begin(key, verb)
        return google_error(404, "NOT_FOUND", request.path)

    def _begin(self, key: tuple[str, str], kind: str) -> Answer:
        name = f"operation-{uuid.uuid4().hex}"
        self.changes[name] = {
            "key": key,
            "kind": kind,
            "ends": time.monotonic() + self.operation_seconds,
            "failed": None,
        }
        if self.failure is not None:
            self.changes[name]["failed"], self.failure = self.failure, None
        return self._operation_answer(name)

    def _operation_answer(self, name: str) -> Answer:
        change = self.changes.get(name)
        if change is None:
            return google_error(404, "NOT_FOUND", name)
        done = time.monotonic() >= change["ends"]
        told: dict[str, Any] = {"name": name, "operationType": change["kind"], "status": "DONE" if done else "RUNNING"}
        if done and change["failed"]:
            code, message = change["failed"]
            told |= {"httpErrorStatusCode": 503, "error": {"errors": [{"code": code, "message": message}]}}
        return Answer(200, told)

    def _settle_changes(self) -> None:
        for change in self.changes.values():
            if change.get("settled") or time.monotonic() < change["ends"]:
                continue
            change["settled"] = True
            instance = self.instances.get(change["key"])
            if instance is None:
                continue
            if change["kind"] == "delete" or (change["kind"] == "insert" and change["failed"]):
                del self.instances[change["key"]]
            elif not change["failed"]:
                instance["status"] = "RUNNING" if change["kind"] == "insert" else _CHANGES[change["kind"]]
                instance["lastStartTimestamp"] = instance["creationTimestamp"]
                instance["networkInterfaces"] = [{"accessConfigs": [{"natIP": "203.0.113.7"}]}]
