"""Failover for real: containers with sshd, the agent's own processes, restic. CURFEW_REAL_KILLS asks for more losses.

Machines are killed and frozen; what each side's program wrote, and when, shows whether two ever served.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.dockerd import DockerEngine
from tests.gpu_fleet.test_docker_life import STAFF, engine, run, until  # noqa: F401  a fixture
from tests.live.client import Api
from tests.live.server import Embedded

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(3600)]
# Writes a line with the shared clock five times a second, but only while the lease lasts.
SERVE = r"""#!/usr/bin/python3
import json, os, time
while True:
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    if now < json.load(open(os.environ["CURFEW_LEASE"]))["until"]:
        with open("/workspace/served.log", "a") as log:
            log.write(f"{now:.2f} {os.environ['CURFEW_EPOCH']}\n")
    time.sleep(0.2)
"""
PREPARE = f"""mkdir -p /workspace/.curfew && cat > /workspace/.curfew/serve <<'END'
{SERVE}END
chmod 755 /workspace/.curfew/serve; head -c 5000000 /dev/urandom > /workspace/model.bin"""


def association(api: Api) -> dict[str, Any]:
    (row,) = api.get("/api/standby/associations").json()["results"]
    found: dict[str, Any] = row
    return found


def containers(api: Api) -> tuple[str, str]:
    """Of the GPU machine and of its standby."""
    row = association(api)
    one, other = (
        api.get(f"/api/instances/{row[name]}").json() for name in ("machine_id", "standby_machine_id")
    )  # fmt: skip
    return tuple(
        next(lane["provider_id"] for lane in machine["race"] if lane["lane"] == "won") for machine in (one, other)
    )  # type: ignore[return-value]


def ready(api: Api) -> bool:
    row = association(api)
    return row["status"] == "ready" and row["serving"] == "gpu" and row["on_other_side_through"] is not None


def lines(engine: DockerEngine, box: str) -> list[tuple[float, int]]:  # noqa: F811
    text = run(engine, box, "cat /workspace/served.log 2>/dev/null || true")
    return [(float(a), int(b)) for a, b in (line.split() for line in text.splitlines() if line.count(" ") == 1)]


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def test_a_lost_machine_is_followed_by_its_standby_and_comes_back(engine: DockerEngine, tmp_path: Path) -> None:  # noqa: F811
    kills = int(os.environ.get("CURFEW_REAL_KILLS", "2"))
    with Embedded(folder=tmp_path / "data", CURFEW_DOCKER_HOST=f"unix://{engine.socket}") as curfew:
        api = curfew.member("Larkspur", "alice@larkspur.test")
        curfew.manage("shell", "-c", STAFF)
        assert api.request("PUT", "/api/settings", {"local_hourly": "0.40"}).status_code == 200
        connected = api.post("/api/client/accounts/connect", {"provider": "docker", "method": "local", "name": "Here"})
        assert connected.status_code in (200, 201, 202), connected.text
        (docker,) = [r["id"] for r in api.get("/api/client/accounts").json()["results"] if r["provider"] == "docker"]
        asked = api.post(
            "/api/instances",
            {"name": "ember", "account_id": docker, "strategy": "cheapest", "auto_sleep": False},
        )
        assert asked.status_code == 202, asked.text
        machine = asked.json()["instance"]["id"]
        try:
            until("the first wake", lambda: api.get(f"/api/instances/{machine}").json()["status"] == "awake")
            made = api.post(
                "/api/standby/associations", {"machine_id": machine, "account_id": docker, "grace_seconds": 40}
            )
            assert made.status_code == 201, made.text
            until(
                "a standby", lambda: api.get(f"/api/instances/{association(api)['standby_machine_id']}").json()["race"]
            )
            until("readiness", lambda: ready(api))
            run(engine, containers(api)[0], PREPARE)
            rows = [_loss(engine, api, "freeze" if n % 2 else "kill") for n in range(kills)]
            sys.stdout.write(json.dumps(rows) + "\n")
            _no_overlap(engine, api)
            intervals = curfew.inspector.intervals(kind="gpu_machine")
            assert any(row["resource_label"].endswith("-standby") for row in intervals)
        finally:
            _clean(engine)


def _loss(engine: DockerEngine, api: Api, fault: str) -> dict[str, Any]:  # noqa: F811
    until("readiness", lambda: ready(api))
    gpu, cpu = containers(api)
    until("service", lambda: lines(engine, gpu))
    time.sleep(12)  # a copy with some of its lines
    client = engine.client()
    before = lines(engine, gpu)
    at = now()
    client.api.pause(gpu) if fault == "freeze" else client.api.remove_container(gpu, force=True)
    epoch = before[-1][1]
    first = until("the standby serving", lambda: [t for t, e in lines(engine, cpu) if e > epoch])[0]
    row = association(api)
    copied = max(t for t, e in lines(engine, cpu) if e <= epoch)
    told = {"fault": fault, "serving": round(first - at, 1), "rpo": round(at - copied, 1), "why": row["lost_why"]}
    if fault == "freeze":
        time.sleep(5)
        client.api.unpause(gpu)
    client.close()
    until("the GPU machine serving again", lambda: ready(api), 400)
    if fault == "freeze":
        own = [t for t, e in lines(engine, gpu) if e == epoch]
        assert max(own) < first, f"the frozen machine served on: {max(own)} after {first}"
        told["same_machine"] = containers(api)[0] == gpu
    return told


def _no_overlap(engine: DockerEngine, api: Api) -> None:  # noqa: F811
    """The log that both sides wrote in turn: times of one epoch never fall among those of another."""
    spans: dict[int, list[float]] = {}
    for box in containers(api):
        for at, epoch in lines(engine, box):
            spans.setdefault(epoch, []).append(at)
    ordered = sorted((min(times), max(times)) for times in spans.values())
    assert len(ordered) >= 3
    assert all(a[1] < b[0] for a, b in itertools.pairwise(ordered)), ordered


def _clean(engine: DockerEngine) -> None:  # noqa: F811
    client = engine.client()
    for row in client.api.containers(all=True, filters={"label": ["curfew.machine"]}):
        client.api.remove_container(row["Id"], force=True)
    client.close()
