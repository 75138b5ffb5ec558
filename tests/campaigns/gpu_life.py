"""The life of a machine on Docker, for real, while one part is killed at every step of every operation.

    python -m tests.campaigns.gpu_life --mib 1024 --victims worker web agent --seed 1
    python -m tests.campaigns.gpu_life --mib 64 --tiny 250000 --victims worker

For each victim one life on its own PostgreSQL and Redis, with web server, worker and beat as processes: rented by a race
of five, `--mib` of work written (60 % random, 30 % text, 10 % small files, and `--tiny` files
of a few bytes as package managers leave them), idle, asleep by itself, gone, awake elsewhere.
A step is what an operation says that it is doing; at each that was not seen before the victim gets SIGKILL (the agent:
its processes in every container that runs) and is started again, as a service manager would. Leases last 6 s. Then every
byte, mode and name must be as before, no container be left, and the ledger be awake, asleep, awake without a gap.
Prints JSON; exit code 1 when anything differs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import sys
import time
from collections import Counter
from typing import Any

from docker.errors import APIError

from tests.fakes.dockerd import DockerEngine
from tests.gpu_fleet.test_docker_life import HASH, IDLE, STAFF, container_of, machine_of, names, run, until
from tests.live.client import Api
from tests.live.server import Scaled

VICTIMS = {"worker": "worker0", "web": "web", "agent": ""}
LONGEST = 1500.0
# A life has at least so many steps: two races, a backup, its verification, the end, a restore.
FEWEST = 8
WRITE = r"""
cd /workspace && mkdir -p deep/er empty small && umask 022
for n in $(seq 1 %(blobs)d); do head -c 67108864 /dev/urandom > deep/$n.bin; done
seq 1 2000000 > deep/line && for n in $(seq 1 %(texts)d); do cp deep/line deep/$n.txt; echo $n >> deep/$n.txt; done
python3 - <<'END'
import os
for n in range(%(small)d):
    os.makedirs(f"small/{n %% 97}", exist_ok=True)
    open(f"small/{n %% 97}/{n}.py", "wb").write(os.urandom(10000) + b"x = 1\n" * 1666)
for n in range(%(tiny)d):
    folder = f"lib/python3.11/site-packages/package_{n // 1000}/module_{n %% 20}"
    os.makedirs(folder, exist_ok=True)
    open(f"{folder}/file_{n}.py", "w").write(f"VALUE = {n}\n")
END
ln -s ../deep/1.bin deep/er/link; chmod 640 deep/line; printf 'x' > "deep/odd ' name"; chmod 755 "deep/odd ' name"
"""
KILL_AGENT = r"""
for folder in /proc/[0-9]*; do
  tr '\0' ' ' < $folder/cmdline 2>/dev/null | grep -q '^python3 .*agent' && kill -9 ${folder#/proc/}
done; true
"""


class Killer:
    """Kills its victim at each step of an operation that was not seen before."""

    def __init__(self, curfew: Scaled, victim: str, engine: DockerEngine, chance: random.Random) -> None:
        self.curfew, self.victim, self.engine, self.chance = curfew, victim, engine, chance
        self.seen: set[tuple[str, str]] = set()
        self.kills: Counter[str] = Counter()

    def look(self) -> None:
        """Kill once if an operation has come to a step that is new. From the main thread: children end with theirs."""
        for operation in self.curfew.inspector.operations():
            if operation["resource_kind"] != "gpu_machine" or operation["status"] not in ("queued", "running"):
                continue
            step = str(operation["id"]), re.sub(r"[0-9.,:]+", "#", operation["step"])
            if step not in self.seen:
                self.seen.add(step)
                time.sleep(self.chance.uniform(0, 0.6))
                self._kill()
                self.kills[f"{operation['kind']}: {step[1] or 'not begun'}"] += 1

    def _kill(self) -> None:
        if self.victim != "agent":
            self.curfew.parts[VICTIMS[self.victim]].kill9()
            self.curfew.restart()
            return
        client = self.engine.client()
        try:
            for name in names(self.engine):
                try:
                    client.containers.get(name).exec_run(["sh", "-c", KILL_AGENT])
                except APIError:
                    continue  # it has gone meanwhile
        finally:
            client.close()


def life(engine: DockerEngine, victim: str, mib: int, tiny: int, seed: int) -> dict[str, Any]:
    """One life; what was killed, how long it took, what was wrong."""
    began, host = time.monotonic(), f"unix://{engine.socket}"
    with Scaled(lease_seconds=6, CURFEW_DOCKER_HOST=host) as curfew:
        api = curfew.member("Larkspur", "alice@larkspur.test")
        curfew.manage("shell", "-c", STAFF)
        api.request("PUT", "/api/settings", {"local_hourly": "0.40"})
        api.post("/api/client/accounts/connect", {"provider": "docker", "method": "local", "name": "Here"})
        (account,) = [r["id"] for r in api.get("/api/client/accounts").json()["results"] if r["provider"] == "docker"]
        killer = Killer(curfew, victim, engine, random.Random(f"{seed}:{victim}"))
        try:
            assert api.post("/api/instances", {"name": "ember", "account_id": account}).status_code == 202
            found = _live(engine, curfew, api, killer, mib, tiny)
        except AssertionError as wrong:
            found = [f"{wrong}"[:600]]
        finally:
            _remove(engine)
    return {
        "victim": victim,
        "mib": mib,
        "tiny": tiny,
        "kills": sum(killer.kills.values()),
        "steps": dict(killer.kills),
        "seconds": round(time.monotonic() - began),
        "findings": found,
    }


def _live(engine: DockerEngine, curfew: Scaled, api: Api, killer: Killer, mib: int, tiny: int) -> list[str]:
    found: list[str] = []

    def settled(status: str) -> Any:
        killer.look()
        machine = machine_of(api)
        if machine["error"]:
            found.append(f"{machine['status']}: {machine['error']}")
        rested = machine["status"] == status and not machine["operation"]
        return machine if rested and (status == "asleep" or machine["restored"]) else None

    first = until("the first wake", lambda: settled("awake"), LONGEST)
    box = container_of(first)
    until("the losers' end", lambda: names(engine) == {box})
    blobs, small = max(1, round(mib * 0.6 / 64)), round(mib * 104857.6 / 20_000)
    texts = max(1, round(mib * 0.3 / 15))
    run(engine, box, WRITE % {"blobs": blobs, "texts": texts, "small": small, "tiny": tiny})
    before = run(engine, box, HASH)
    curfew.manage("shell", "-c", IDLE)
    asleep = until("sleep", lambda: settled("asleep"), LONGEST)
    if left := names(engine):
        found.append(f"left behind: {left}")
    curfew.manage("shell", "-c", IDLE.replace("0.2", "60"))
    assert api.post(f"/api/instances/{asleep['id']}/wake").status_code == 202
    second = until("the second wake", lambda: settled("awake"), LONGEST)
    if container_of(second) == box:
        found.append("it woke where it had been")
    if run(engine, container_of(second), HASH) != before:
        found.append("the tree differs")
    until("the losers' end", lambda: names(engine) == {container_of(second)})
    rows = sorted(curfew.inspector.intervals(kind="gpu_machine"), key=lambda row: row["started_at"])
    phases = [row["phase"] for row in rows]
    if phases != ["awake", "asleep", "awake"] or any(
        a["ended_at"] != b["started_at"] for a, b in itertools.pairwise(rows)
    ):
        found.append(f"the ledger says {phases}")
    if sum(killer.kills.values()) < FEWEST:
        found.append(f"killed only {sum(killer.kills.values())} times")
    return found


def _remove(engine: DockerEngine) -> None:
    client = engine.client(timeout=900)  # very many files take minutes to remove
    for name in names(engine):
        client.api.remove_container(name, force=True)
    client.close()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.gpu_life",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--tiny", type=int, default=0)
    parser.add_argument("--victims", nargs="+", choices=VICTIMS, default=list(VICTIMS))
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    wrong = 0
    with DockerEngine() as engine:
        for victim in options.victims:
            lived = life(engine, victim, options.mib, options.tiny, options.seed)
            wrong += len(lived["findings"])
            sys.stdout.write(json.dumps(lived) + "\n")
            sys.stdout.flush()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
