"""Saving and bringing back a workspace: Curfew's agent beside plain restic and rclone, on one machine in one run.

    python -m bench.gpu_restore --gib 7 [--s3]

The tree is made from a seed: 60 % incompressible in 64 MiB files, 30 % text, 10 % small files. `--s3` adds a local S3
(moto). What is not installed (rclone) is told as such. Limits of issue 6 are printed beside what was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import random
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


def restic(repository: str, environment: dict[str, str], *words: str) -> float:
    """Seconds of one plain run."""
    began = time.monotonic()
    subprocess.run(
        ["restic", "-q", *words],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **environment, "RESTIC_REPOSITORY": repository, "RESTIC_PASSWORD": PASSWORD},
    )
    return round(time.monotonic() - began, 2)


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
            "tuning": {"compression": "auto", "pack_size": 16},
        }
        self.held: manifest.Manifest | None = None
        self.usable = 0.0
        work.upload = self._upload
        work._download = lambda order: self.held

    def _upload(self, order: Any, tree: manifest.Manifest) -> None:
        self.held = tree

    def save(self) -> tuple[float, str]:
        began = time.monotonic()
        result = work.backup(self.order, lambda **facts: None)
        return round(time.monotonic() - began, 2), result["snapshot_id"]

    def back(self, snapshot: str) -> tuple[float, float]:
        """Seconds until usable and until every file was compared."""
        began = time.monotonic()
        result = work.restore({**self.order, "snapshot": snapshot, "manifest": ""}, lambda **facts: None)
        assert self.held is not None
        if result["digest"] != self.held.digest:
            raise SystemExit("the restored tree is not the saved one")
        return float(result["usable_seconds"]), round(time.monotonic() - began, 2)


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
    found["restic_first_save"] = restic(plain, environment, "backup", str(tree))
    agent = Agent(tree, ours, environment)
    found["first_save"], snapshot = agent.save()
    found["unchanged_save"], snapshot = agent.save()
    churn(tree, 7)
    found["churn_save"], snapshot = agent.save()
    restic(plain, environment, "backup", str(tree))
    found["restic_restore"] = restic(plain, environment, "restore", "latest", "--target", str(other))
    shutil.rmtree(other, ignore_errors=True)
    shutil.rmtree(tree)
    tree.mkdir()
    found["usable"], found["full_restore_compared"] = agent.back(snapshot)
    found["mb_per_second"] = round(size / 1e6 / found["full_restore_compared"], 1)
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
        rows = [_one(folder, asked, "folder", lambda n: str(folder / f"repository-{n}"), {})]
        if asked.s3:
            rows.append(_with_s3(folder, asked))
    for row in rows:
        row["rclone"] = "installed, not compared" if shutil.which("rclone") else "not installed: not compared"
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
        return _one(folder, asked, "s3", lambda n: f"s3:{url}/bench/{n}", keys)
    finally:
        server.stop()


def _limits(row: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Name, limit, value: seconds, or a share of plain restic's seconds."""
    return [
        ("usable, seconds", 15, row["usable"]),
        (
            "full restore as a share of plain restic",
            round(1 / 1.2, 2),
            round(row["full_restore_compared"] / row["restic_restore"], 2),
        ),
        (
            "first save as a share of plain restic",
            round(1 / 1.3, 2),
            round(row["first_save"] / row["restic_first_save"], 2),
        ),
        ("save after 5 % churn, seconds", 8, row["churn_save"]),
        ("save of what is unchanged, seconds", 2, row["unchanged_save"]),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
