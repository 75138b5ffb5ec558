"""Saving and bringing back a workspace: Curfew's agent beside plain restic and rclone, on one machine in one run.

    python -m bench.gpu_restore --gib 7 [--s3] [--rounds 3]

The tree is made from a seed: 60 % incompressible in 64 MiB files, 30 % text, 10 % small files. `--s3` takes a local S3
(moto) in place of a folder. rclone is compared when it is installed. With more rounds the restores take turns and the
best of each counts. Beside each time stands the processor time of all that took part but the S3, in seconds. Limits of
issue 6 are printed beside what was measured, and below them what a figure cannot be better than here, measured in the
same run: what a start of restic takes, restic's own restore followed by the same comparison, the small files written by
a plain program on both cores, SHA-256 of the whole tree, the raw disk.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from agent.machine import manifest, restoring, work

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
        self.held, self.digest = b"", ""
        restoring.LATE_NICE = 0  # the others do not give way either
        work.upload = self._upload
        restoring._download = lambda order: manifest.parse(gzip.decompress(self.held).decode().splitlines())

    def _upload(self, order: Any, tree: manifest.Manifest) -> None:
        self.held, self.digest = work.packed(tree), tree.digest

    def save(self) -> tuple[tuple[float, float], str]:
        clock = Clock()
        result = work.backup({**self.order, "parent": self.last}, lambda **facts: None)
        self.last = result["snapshot_id"]
        return clock.read(), self.last

    def back(self, snapshot: str) -> tuple[float, tuple[float, float]]:
        """Seconds until usable and until every file was compared."""
        clock = Clock()
        result = restoring.restore({**self.order, "snapshot": snapshot, "manifest": ""}, lambda **facts: None)
        if result["digest"] != self.digest or result["reader"]:
            raise SystemExit(f"the restored tree is not the saved one, or restic brought it: {result['reader']}")
        return float(result["usable_seconds"]), clock.read()


def churn(tree: Path, seed: int) -> None:
    """Five per cent of the bytes anew."""
    files = sorted((tree / "weights").iterdir())
    for file in files[: max(1, len(files) // 12)]:
        file.write_bytes(random.Random(seed).randbytes(64 * MIB))


def _seconds(do: Callable[[], object]) -> tuple[float, float]:
    clock = Clock()
    do()
    return clock.read()


def _write_small(tree: Path, other: Path) -> None:
    """The small files again by a plain program, on two threads."""

    def folder(place: Path) -> None:
        target = other / place.name
        target.mkdir(parents=True)
        for file in place.iterdir():
            (target / file.name).write_bytes(small)

    small = b"x" * 19_996
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(folder, (tree / "small").iterdir()))


def _write_raw(file: Path, size: int) -> None:
    piece = random.Random(3).randbytes(4 * MIB)
    with file.open("wb", buffering=0) as opened:
        for _ in range(size // len(piece)):
            opened.write(piece)
        os.fsync(opened.fileno())


def bounds(tree: Path, folder: Path, plain: str, environment: dict[str, str]) -> dict[str, Any]:
    """What the figures cannot be better than here."""
    known = manifest.Known()
    raw = 1024 * MIB
    found: dict[str, Any] = {
        "restic_start": restic(plain, environment, "cat", "config", "--no-lock"),
        "two_looks": _seconds(lambda: (manifest.take_look([str(tree)], known), manifest.look_again([str(tree)]))),
        "small_files": sum(1 for _ in (tree / "small").rglob("*.py")),
        "write_small_files": _seconds(lambda: _write_small(tree, folder / "plain-small")),
        "sha256_whole_tree": _seconds(lambda: manifest.read(str(f) for f in tree.rglob("*") if f.is_file())),
        "sha256_mb_a_second_and_thread": round(256 / _seconds(lambda: hashlib.sha256(bytes(256 * 1_000_000)))[0]),
        "raw_write_1_gib": _seconds(lambda: _write_raw(folder / "raw", raw)),
    }
    return found


def measure(
    where: str, tree: Path, other: Path, place: Callable[[str], str], environment: dict[str, str], rounds: int
) -> dict[str, Any]:
    """All figures for one kind of repository.

    Nothing is deleted meanwhile: ext4 steps over every inode that was given back within the last minutes, so that a
    restore right after a deletion takes a multiple of the time that it takes on a new machine. What one step left to
    write is on the disk before the next begins.
    """
    plain, ours = place("plain"), place("ours")
    for repository in (plain, ours):
        restic(repository, environment, "init")
    size = sum(f.stat().st_size for f in tree.rglob("*") if f.is_file())
    found: dict[str, Any] = {"where": where, "bytes": size}
    agent = Agent(tree, ours, environment)
    os.sync()
    found["restic_first_save"] = restic(plain, environment, "backup", str(tree))
    os.sync()
    found["first_save"], snapshot = agent.save()
    os.sync()
    found["restic_unchanged_save"] = restic(plain, environment, "backup", str(tree))
    found["unchanged_save"], snapshot = agent.save()
    churn(tree, 7)
    os.sync()
    found["restic_churn_save"] = restic(plain, environment, "backup", str(tree))
    found["churn_save"], snapshot = agent.save()
    os.sync()
    if shutil.which("rclone"):
        found["rclone_copy_there"] = run(environment, "rclone", "copy", str(tree), place("rclone"))
    back: dict[str, list[Any]] = {
        "rclone_copy_back": [],
        "restic_restore": [],
        "full_restore_compared": [],
        "usable": [],
    }
    for n in range(rounds):
        tree.rename(other / f"gone-{n}")
        if shutil.which("rclone"):
            os.sync()
            back["rclone_copy_back"].append(
                run(environment, "rclone", "copy", place("rclone"), str(other / f"rclone-{n}"))
            )
        os.sync()
        theirs = other / f"restic-{n}"
        back["restic_restore"].append(restic(plain, environment, "restore", "latest", "--target", str(theirs)))
        tree.mkdir()
        os.sync()
        usable, whole = agent.back(snapshot)
        back["usable"].append((usable, 0.0))
        back["full_restore_compared"].append(whole)
    for name, times in back.items():
        if times:
            found[name], found[f"{name}_all"] = min(times), times
    found["usable"] = found["usable"][0]
    compared = _seconds(lambda: manifest.read(str(f) for f in theirs.rglob("*") if f.is_file()))
    found["restic_restore_then_compared"] = tuple(
        round(a + b, 2) for a, b in zip(found["restic_restore"], compared, strict=True)
    )
    found["bounds"] = bounds(tree, tree.parent, plain, environment)
    found["bounds"]["load"] = [round(load, 1) for load in os.getloadavg()]
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=7.0)
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="curfew-restore-") as temporary:
        folder = Path(temporary)
        os.environ["RESTIC_CACHE_DIR"] = str(folder / "cache")
        if asked.s3:
            row = _with_s3(folder, asked)
        else:
            row = _one(folder, asked, "folder", lambda n: str(folder / f"repository-{n}"), {})
        sys.stdout.write(json.dumps(row) + "\n")
        for name, limit, value in _limits(row):
            sys.stdout.write(f"{'met   ' if value <= limit else 'MISSED'} {name}: {value} (limit {limit})\n")
        for line in _told(row):
            sys.stdout.write(f"       {line}\n")
        sys.stdout.flush()  # taking the trees away can take minutes
    return 0


def _one(
    folder: Path, asked: argparse.Namespace, where: str, place: Callable[[str], str], keys: dict[str, str]
) -> dict[str, Any]:
    tree = folder / f"tree-{where}"
    tree.mkdir()
    make_tree(tree, int(asked.gib * 1024 * MIB), asked.seed)
    try:
        (folder / "other").mkdir()
        return measure(where, tree, folder / "other", place, keys, asked.rounds)
    finally:
        shutil.rmtree(tree, ignore_errors=True)


def _with_s3(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    import boto3

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # a process of its own: it shares no lock of Python's with what is measured
    body = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    server = subprocess.Popen([sys.executable, "-c", body], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    while socket.socket().connect_ex(("127.0.0.1", port)):
        time.sleep(0.1)
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_DEFAULT_REGION": "us-east-1"}
    boto3.client(
        "s3", endpoint_url=url, aws_access_key_id="x", aws_secret_access_key="y", region_name="us-east-1"
    ).create_bucket(Bucket="bench")
    try:
        remote = f':s3,provider=Other,env_auth,endpoint="{url}":bench/rclone'
        return _one(folder, asked, "s3", lambda n: remote if n == "rclone" else f"s3:{url}/bench/{n}", keys)
    finally:
        server.terminate()
        server.wait()


def _told(row: dict[str, Any]) -> list[str]:
    """The limits of this machine in words."""
    b = row["bounds"]
    both = row["restic_restore_then_compared"][0]
    cores, used = os.cpu_count() or 1, row["first_save"][1]
    return [
        (
            f"first save: processor time of restic {row['restic_first_save'][1]} s, of ours with the hashes {used} s,"
            f" so on {cores} cores it cannot end before {round(used / cores, 1)} s, which is"
            f" {round(used / cores / row['restic_first_save'][0], 2)} of what plain restic took"
        ),
        (
            f"unchanged: restic alone {row['restic_unchanged_save'][0]} s, of it {b['restic_start'][0]} s its start;"
            f" two looks at the tree {b['two_looks'][0]} s"
        ),
        (
            f"full restore: restic and then a comparison of every file {both} s;"
            f" ours takes {round(row['full_restore_compared'][0] / both, 2)} of that"
        ),
        (
            f"full restore: processor time of restic {row['restic_restore'][1]} s, of ours {row['full_restore_compared'][1]} s,"
            f" so on {os.cpu_count()} cores it cannot end before {round(row['full_restore_compared'][1] / (os.cpu_count() or 1), 1)} s"
        ),
        (
            f"usable: {b['small_files']} small files written by a plain program {b['write_small_files'][0]} s"
            f" ({round(b['small_files'] / max(0.01, b['write_small_files'][0]))} a second)"
        ),
        (
            f"SHA-256 of the tree {b['sha256_whole_tree'][0]} s ({b['sha256_mb_a_second_and_thread']} MB/s a thread);"
            f" raw disk {round(1073.7 / max(0.01, b['raw_write_1_gib'][0]))} MB/s, at which the tree takes"
            f" {round(row['bytes'] * b['raw_write_1_gib'][0] / 1024**3, 1)} s where memory does not hold it back"
        ),
    ]


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
        (
            "full restore as a share of restic and then the same comparison",
            round(1 / 1.2, 2),
            share("full_restore_compared", "restic_restore_then_compared"),
        ),
    ]
    if "rclone_copy_back" in row:
        found.append(
            ("full restore as a share of rclone copy", 0.5, share("full_restore_compared", "rclone_copy_back"))
        )
    return found


if __name__ == "__main__":
    raise SystemExit(main())
