"""Saving and bringing back a workspace: Curfew's agent beside plain restic and rclone, on one machine in one run.

    python -m bench.gpu_restore --gib 7 [--s3]

The tree is made from a seed: 60 % incompressible in 64 MiB files, 30 % text, 10 % small files. `--s3` takes a local S3
(moto) in place of a folder. rclone is compared when it is installed. Beside each time stands the processor time of
all that took part, in seconds. Limits of issue 6 are printed beside what was measured.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.machine import manifest, work

MIB = 1024 * 1024
PASSWORD = "bench-only"


def make_tree(folder: Path, size: int, seed: int) -> None:
    """The seeded tree of so many bytes."""
    chance = random.Random(seed)
    for n in range(max(1, int(size * 0.6) // (64 * MIB))):
        (folder / "weights").mkdir(exist_ok=True)
        (folder / f"weights/{n}.bin").write_bytes(chance.randbytes(64 * MIB))
    words = [f"{chance.getrandbits(24):06x}" for _ in range(4000)]
    for n in range(max(1, int(size * 0.3) // (16 * MIB))):
        (folder / "text").mkdir(exist_ok=True)
        line = " ".join(chance.choices(words, k=200_000)) + "\n"
        (folder / f"text/{n}.txt").write_text((line * 20)[: 16 * MIB])
    for n in range(int(size * 0.1) // 20_000):
        place = folder / "small" / f"{n % 97}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{n}.py").write_bytes(chance.randbytes(10_000) + b"x = 1\n" * 1666)


class Clock:
    """Seconds and processor seconds since it was made, of this process and its children."""

    def __init__(self) -> None:
        self._began, self._cpu = time.monotonic(), self._used()

    @staticmethod
    def _used() -> float:
        told = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(row.ru_utime + row.ru_stime for row in told)

    def read(self) -> tuple[float, float]:
        return round(time.monotonic() - self._began, 2), round(self._used() - self._cpu, 2)


def run(environment: dict[str, str], *words: str) -> tuple[float, float]:
    """Run a program; how long it took."""
    clock = Clock()
    kept = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}  # rclone 1.60 trips over it
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env={**kept, **environment})
    return clock.read()


def restic(repository: str, environment: dict[str, str], *words: str) -> tuple[float, float]:
    """One plain run."""
    keys = {**environment, "RESTIC_REPOSITORY": repository, "RESTIC_PASSWORD": PASSWORD}
    return run(keys, "restic", "-q", *words)


class Agent:
    """The agent's own backup and restore, with the platform's part in memory."""

    def __init__(self, tree: Path, repository: str, environment: dict[str, str]) -> None:
        self.order: dict[str, Any] = {
            "id": "bench",
            "paths": [str(tree)],
            "repository": repository,
            "password": PASSWORD,
            "environment": environment,
            "host": "bench",
            "cache": os.environ["RESTIC_CACHE_DIR"],
            "platform": {"token_file": os.environ["RESTIC_CACHE_DIR"] + "-agent/token"},
            "tuning": {"compression": "auto", "pack_size": 16},
        }
        Path(self.order["platform"]["token_file"]).parent.mkdir(exist_ok=True)
        self.last = ""
        self.held: manifest.Manifest | None = None
        work.upload = self._upload
        work._download = lambda order: self.held

    def _upload(self, order: Any, tree: manifest.Manifest) -> None:
        self.held = manifest.parse(gzip.decompress(work.packed(tree)).decode().splitlines())

    def save(self) -> tuple[tuple[float, float], str]:
        clock = Clock()
        result = work.backup({**self.order, "parent": self.last}, lambda **facts: None)
        self.last = result["snapshot_id"]
        return clock.read(), self.last

    def back(self, snapshot: str) -> tuple[float, tuple[float, float]]:
        """Seconds until usable and until every file was compared."""
        clock = Clock()
        result = work.restore({**self.order, "snapshot": snapshot, "manifest": ""}, lambda **facts: None)
        assert self.held is not None
        if result["digest"] != self.held.digest:
            raise SystemExit("the restored tree is not the saved one")
        return float(result["usable_seconds"]), clock.read()


def churn(tree: Path, seed: int) -> None:
    """Five per cent of the bytes anew."""
    files = sorted((tree / "weights").iterdir())
    for file in files[: max(1, len(files) // 12)]:
        file.write_bytes(random.Random(seed).randbytes(64 * MIB))


def measure(
    where: str, tree: Path, other: Path, place: Callable[[str], str], environment: dict[str, str]
) -> dict[str, Any]:
    """All figures for one kind of repository."""
    plain, ours = place("plain"), place("ours")
    for repository in (plain, ours):
        restic(repository, environment, "init")
    size = sum(f.stat().st_size for f in tree.rglob("*") if f.is_file())
    found: dict[str, Any] = {"where": where, "bytes": size}
    agent = Agent(tree, ours, environment)
    found["restic_first_save"] = restic(plain, environment, "backup", str(tree))
    found["first_save"], snapshot = agent.save()
    found["restic_unchanged_save"] = restic(plain, environment, "backup", str(tree))
    found["unchanged_save"], snapshot = agent.save()
    churn(tree, 7)
    found["restic_churn_save"] = restic(plain, environment, "backup", str(tree))
    found["churn_save"], snapshot = agent.save()
    if shutil.which("rclone"):
        found["rclone_copy_there"] = run(environment, "rclone", "copy", str(tree), place("rclone"))
        found["rclone_copy_back"] = run(environment, "rclone", "copy", place("rclone"), str(other))
        shutil.rmtree(other)
    found["restic_restore"] = restic(plain, environment, "restore", "latest", "--target", str(other))
    shutil.rmtree(other)
    shutil.rmtree(tree)
    tree.mkdir()
    found["usable"], found["full_restore_compared"] = agent.back(snapshot)
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=7.0)
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="curfew-restore-") as name:
        folder = Path(name)
        os.environ["RESTIC_CACHE_DIR"] = str(folder / "cache")
        if asked.s3:
            row = _with_s3(folder, asked)
        else:
            row = _one(folder, asked, "folder", lambda n: str(folder / f"repository-{n}"), {})
    sys.stdout.write(json.dumps(row) + "\n")
    for name, limit, value in _limits(row):
        sys.stdout.write(f"{'met   ' if value <= limit else 'MISSED'} {name}: {value} (limit {limit})\n")
    return 0


def _one(
    folder: Path, asked: argparse.Namespace, where: str, place: Callable[[str], str], keys: dict[str, str]
) -> dict[str, Any]:
    tree = folder / f"tree-{where}"
    tree.mkdir()
    make_tree(tree, int(asked.gib * 1024 * MIB), asked.seed)
    try:
        return measure(where, tree, folder / "other", place, keys)
    finally:
        shutil.rmtree(tree, ignore_errors=True)


def _with_s3(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_DEFAULT_REGION": "us-east-1"}
    boto3.client(
        "s3", endpoint_url=url, aws_access_key_id="x", aws_secret_access_key="y", region_name="us-east-1"
    ).create_bucket(Bucket="bench")
    try:
        remote = f':s3,provider=Other,env_auth,endpoint="{url}":bench/rclone'
        return _one(folder, asked, "s3", lambda n: remote if n == "rclone" else f"s3:{url}/bench/{n}", keys)
    finally:
        server.stop()


def _limits(row: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Name, limit, value: seconds, or our seconds as a share of the other's."""

    def share(ours: str, theirs: str) -> float:
        return round(row[ours][0] / row[theirs][0], 2)

    found = [
        ("usable, seconds", 15, row["usable"]),
        (
            "full restore as a share of plain restic",
            round(1 / 1.2, 2),
            share("full_restore_compared", "restic_restore"),
        ),
        ("first save as a share of plain restic", round(1 / 1.3, 2), share("first_save", "restic_first_save")),
        ("save after 5 % churn, seconds", 8, row["churn_save"][0]),
        ("save of what is unchanged, seconds", 2, row["unchanged_save"][0]),
    ]
    if "rclone_copy_back" in row:
        found.append(
            ("full restore as a share of rclone copy", 0.5, share("full_restore_compared", "rclone_copy_back"))
        )
    return found


if __name__ == "__main__":
    raise SystemExit(main())
