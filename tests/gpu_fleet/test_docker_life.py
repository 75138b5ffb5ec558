"""The whole life of a machine, for real: containers, sshd, our agent, restic, a server that is killed in between.

Rent by race, write work, go idle, fall asleep by itself, be gone, wake elsewhere with every byte, and the ledger right.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from docker.errors import NotFound

from tests.fakes.dockerd import DockerEngine, DockerUnavailable
from tests.live.client import Api
from tests.live.server import Embedded

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]
SECONDS = 240.0
# A tree with large and small files, odd names, a link, modes and an empty folder; then its hashes.
WRITE = r"""
cd /workspace && mkdir -p deep/er empty && umask 022
head -c 24000000 /dev/urandom > model.bin
seq 1 900000 > deep/log.txt
for n in $(seq 1 300); do echo "file $n" > "deep/er/small $n.txt"; done
ln -s ../model.bin deep/link; chmod 640 deep/log.txt; printf 'x' > "deep/odd ' name"; chmod 755 "deep/odd ' name"
"""
HASH = r"""cd / && find workspace -type f -exec sha256sum {} + | sort -k2 && find workspace -exec stat -c '%n %a %F' {} + | sort"""
IDLE = "from gpu_fleet.models import Machine; Machine.objects.all_orgs().update(idle_minutes=0.2)"
STAFF = "from accounts.models import User; User.objects.update(is_staff=True)"


@pytest.fixture
def engine() -> Iterator[DockerEngine]:
    try:
        with DockerEngine() as found:
            yield found
    except DockerUnavailable as why:
        pytest.skip(str(why))


def until(what: str, look: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """Poll until something true comes back."""
    end = time.monotonic() + seconds
    seen: Any = None
    while time.monotonic() < end:
        seen = look()
        if seen:
            return seen
        time.sleep(0.5)
    raise AssertionError(f"{what} never came about: {seen}")


def run(engine: DockerEngine, container: str, command: str) -> str:
    client = engine.client()
    try:
        done = client.containers.get(container).exec_run(["sh", "-c", command])
    finally:
        client.close()
    assert done.exit_code == 0, done.output.decode()
    return str(done.output.decode())


def machine_of(api: Api) -> dict[str, Any]:
    rows = api.get("/api/instances").json()["results"]
    assert len(rows) == 1
    one: dict[str, Any] = api.get(f"/api/instances/{rows[0]['id']}").json()
    return one


def container_of(machine: dict[str, Any]) -> str:
    (won,) = [lane for lane in machine["race"] if lane["lane"] == "won"]
    return str(won["provider_id"])


def awake(api: Api) -> dict[str, Any] | None:
    machine = machine_of(api)
    assert machine["error"] is None, machine["error"]
    done = machine["status"] == "awake" and machine["restored"] and machine["operation"] is None
    return machine if done else None


def names(engine: DockerEngine) -> set[str]:
    client = engine.client()
    try:
        rows = client.api.containers(all=True, filters={"label": ["curfew.machine"]})
        return {str(row["Names"][0]).lstrip("/") for row in rows}
    finally:
        client.close()


def test_a_machine_lives_sleeps_and_wakes_elsewhere_with_every_byte(engine: DockerEngine, tmp_path: Path) -> None:
    with Embedded(folder=tmp_path / "data", CURFEW_DOCKER_HOST=f"unix://{engine.socket}") as curfew:
        api = curfew.member("Larkspur", "alice@larkspur.test")
        curfew.manage("shell", "-c", STAFF)
        assert api.request("PUT", "/api/settings", {"local_hourly": "0.40"}).status_code == 200
        connected = api.post("/api/client/accounts/connect", {"provider": "docker", "method": "local", "name": "Here"})
        assert connected.status_code in (200, 201, 202), connected.text
        account = api.get("/api/client/accounts").json()["results"]
        (docker,) = [row["id"] for row in account if row["provider"] == "docker"]
        asked = api.post("/api/instances", {"name": "ember", "account_id": docker})
        assert asked.status_code == 202, asked.text
        try:
            _life(engine, curfew, api)
        finally:
            client = engine.client()
            for name in names(engine):
                with contextlib.suppress(NotFound):
                    client.api.remove_container(name, force=True)
            client.close()


def _life(engine: DockerEngine, curfew: Embedded, api: Api) -> None:
    first = until("the first wake", lambda: awake(api))
    assert len(first["race"]) == 5
    box = container_of(first)
    until("the losers' end", lambda: names(engine) == {box})
    run(engine, box, WRITE)
    before = run(engine, box, HASH)
    curfew.manage("shell", "-c", IDLE)
    until("the backup", lambda: "napshot" in str((machine_of(api)["operation"] or {}).get("step")))
    curfew.kill9()
    curfew.restart()
    asleep = until("sleep", lambda: (m := machine_of(api))["status"] == "asleep" and not m["operation"] and m)
    assert names(engine) == set()
    (snapshot,) = api.get("/api/snapshots").json()["results"]
    assert (snapshot["state"], snapshot["checks"]["read_back"] > 0) == ("verified", True)
    curfew.manage("shell", "-c", IDLE.replace("0.2", "60"))
    assert api.post(f"/api/instances/{asleep['id']}/wake").status_code == 202
    second = until("the second wake", lambda: awake(api))
    assert second["generation"] == 2
    assert container_of(second) != box
    assert run(engine, container_of(second), HASH) == before
    _ledger(curfew)


def _ledger(curfew: Embedded) -> None:
    rows = sorted(curfew.inspector.intervals(kind="gpu_machine"), key=lambda row: row["started_at"])
    assert [row["phase"] for row in rows] == ["awake", "asleep", "awake"]
    assert all(a["ended_at"] == b["started_at"] for a, b in itertools.pairwise(rows))
    assert [Decimal(row["price"]) for row in rows] == [Decimal("0.4"), Decimal(0), Decimal("0.4")]
