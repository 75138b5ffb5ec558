"""The two halves of the continuous copy: `push` writes what changed into the repository, `pull` brings it here.

Both sides meet in the repository and never at each other: no key of one machine opens the other, a machine that dies
in the middle leaves the last whole snapshot, and what a push stores a later hibernation need not store again.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.machine import merge, work
from agent.machine.merge import Node

INDEX = "mirror.json"
PENDING = ".pending"
PART = ".curfew-part-"
MOST_NAMED = 400
MOST_NAMED_BYTES = 60_000


def push(order: Mapping[str, Any], tell: work.Tell) -> dict[str, Any]:
    """Write a snapshot of the folders, unless nothing has changed since the last one that both sides know."""
    paths, index = [str(p) for p in order["paths"]], _index_file(order)
    tell(step="Looking for changes")
    tree = scan(paths)
    settle(index, str(order.get("last") or ""))
    known, last = read_index(index)
    if known is not None and last and last == order.get("last") and _same(known, tree):
        return {"snapshot_id": last, "unchanged": True, "files": _files(tree), "added": 0}
    tell(step="Writing what changed")
    summary = work.restic_backup(order, paths, tell)
    snapshot = str(summary["snapshot_id"])
    # not yet what both sides have in common: a machine that may serve no more is not listened to
    write_index(index.with_suffix(PENDING), snapshot, tree)
    return {"snapshot_id": snapshot, "files": _files(tree), "added": int(summary.get("data_added") or 0)}


def pull(order: Mapping[str, Any], tell: work.Tell) -> dict[str, Any]:
    """Make the folders those of the snapshot; what was changed on both sides is kept as a copy."""
    paths, index = [str(p) for p in order["paths"]], _index_file(order)
    tell(step="Comparing")
    theirs = listing(order, paths)
    ours = scan(paths)
    settle(index, str(order.get("agreed") or ""))
    base, _ = read_index(index)
    mark = f"{order.get('label') or 'here'}-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    todo = merge.plan(ours if base is None else base, ours, theirs, mirror=order.get("mode") != "merge", mark=mark)
    tell(step="Bringing changes", files=len(todo.take))
    stage = index.parent / "stage"
    shutil.rmtree(stage, ignore_errors=True)
    try:
        fetched = [path for path in todo.take if theirs[path].kind != "d"]
        if fetched:
            _fetch(order, fetched, stage)
        _apply(todo, theirs, stage)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    write_index(index, str(order["snapshot"]), theirs)
    index.with_suffix(PENDING).unlink(missing_ok=True)
    return {
        "snapshot_id": str(order["snapshot"]),
        "taken": len(todo.take),
        "deleted": len(todo.delete),
        "conflicts": len(todo.copies),
        "copies": sorted(todo.copies.values())[:20],
    }


def scan(paths: Iterable[str]) -> dict[str, Node]:
    """Every entry below the paths, and these themselves, by size and time. Raises Failed for a folder that is none."""
    found: dict[str, Node] = {}
    for top in paths:
        if not Path(top).is_dir():
            raise work.Failed(f"{top} is not a folder")
        _note(found, top)
        for folder, folders, files in os.walk(top):
            for name in (*folders, *files):
                if not name.startswith(PART):
                    _note(found, os.path.join(folder, name))  # noqa: PTH118  many paths: no object for each
    return found


def _note(found: dict[str, Node], path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        facts = os.lstat(path)
        mode = stat.S_IMODE(facts.st_mode) & 0o777
        if stat.S_ISDIR(facts.st_mode):
            found[path] = Node("d", 0, 0, mode)
        elif stat.S_ISLNK(facts.st_mode):
            found[path] = Node("l", 0, facts.st_mtime_ns)
        elif stat.S_ISREG(facts.st_mode):
            found[path] = Node("f", facts.st_size, facts.st_mtime_ns, mode)


def listing(order: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Node]:
    """What the snapshot holds below the paths."""
    found: dict[str, Node] = {}
    tops = [path.rstrip("/") for path in paths]
    kinds = {"file": "f", "dir": "d", "symlink": "l"}

    def hear(told: dict[str, Any]) -> None:
        kind = kinds.get(str(told.get("type")))
        path = str(told.get("path") or "")
        if told.get("struct_type") != "node" or kind is None:
            return
        if not any(path == top or path.startswith(f"{top}/") for top in tops):
            return
        mode = int(told.get("mode") or 0) & 0o777
        size = int(told.get("size") or 0) if kind == "f" else 0
        time = 0 if kind == "d" else nanoseconds(str(told["mtime"]))
        found[path] = Node(kind, size, time, 0 if kind == "l" else mode)

    work.restic(order, ["ls", "--no-lock", str(order["snapshot"])], hear)
    return found


def nanoseconds(text: str) -> int:
    """RFC 3339 with up to nine digits of a second, as nanoseconds since 1970."""
    head, zone = text, ""
    for sign in ("Z", "+", "-"):
        at = text.find(sign, 19)
        if at > 0:
            head, zone = text[:at], text[at:]
            break
    whole, _, part = head.partition(".")
    when = datetime.fromisoformat(whole + ("+00:00" if zone in ("", "Z") else zone))
    return int(when.timestamp()) * 1_000_000_000 + int((part + "000000000")[:9])


def _fetch(order: Mapping[str, Any], paths: list[str], stage: Path) -> None:
    """The named files into the stage; many at once are cheaper as a whole."""
    command = ["restore", "--no-lock", str(order["snapshot"]), "--target", str(stage)]
    if len(paths) <= MOST_NAMED and sum(map(len, paths)) <= MOST_NAMED_BYTES:
        for path in paths:
            command += ["--include", path.translate(work.GLOB)]
    work.restic(order, command, lambda told: None)


def _apply(todo: merge.Plan, theirs: Mapping[str, Node], stage: Path) -> None:
    for path, copy in todo.copies.items():
        Path(path).replace(copy)
    for path in todo.take:  # sorted: folders before what is in them
        node, target = theirs[path], Path(path)
        if node.kind == "d":
            if target.is_symlink() or (target.exists() and not target.is_dir()):
                target.unlink()
            target.mkdir(parents=True, exist_ok=True)
            target.chmod(node.mode)
            continue
        source = Path(f"{stage}{path}")
        if not source.is_symlink() and not source.is_file():
            raise work.Failed(f"{path} is not in the snapshot as it was listed")
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        _place(source, target)
    for path in todo.delete:
        target = Path(path)
        with contextlib.suppress(OSError):  # a folder with something of ours in it stays
            target.rmdir() if target.is_dir() and not target.is_symlink() else target.unlink()


def _place(source: Path, target: Path) -> None:
    """In one step, also from another file system."""
    try:
        source.replace(target)
    except OSError:
        part = target.with_name(f"{PART}{target.name}"[:200])
        part.unlink(missing_ok=True)
        shutil.copy2(source, part, follow_symlinks=False)
        part.replace(target)


def _index_file(order: Mapping[str, Any]) -> Path:
    return Path(str(order["platform"]["token_file"])).parent / INDEX


def read_index(file: Path) -> tuple[dict[str, Node] | None, str]:
    """What both sides had in common, and of which snapshot; None on a machine that has neither sent nor received."""
    try:
        told = json.loads(file.read_text(encoding="utf-8", errors="surrogateescape"))
        return {path: Node(*facts) for path, facts in told["nodes"].items()}, str(told["snapshot"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, ""


def settle(index: Path, taken: str) -> None:
    """The last push is common to both sides once the platform names its snapshot as taken."""
    pending = index.with_suffix(PENDING)
    _, snapshot = read_index(pending)
    if snapshot and snapshot == taken:
        pending.replace(index)


def write_index(file: Path, snapshot: str, tree: Mapping[str, Node]) -> None:
    """Replace it in one step."""
    nodes = {path: (node.kind, node.size, node.mtime, node.mode) for path, node in tree.items()}
    work.write(file, {"snapshot": snapshot, "nodes": nodes})


def _same(one: Mapping[str, Node], other: Mapping[str, Node]) -> bool:
    return one.keys() == other.keys() and all(node.same(other[path]) for path, node in one.items())


def _files(tree: Mapping[str, Node]) -> int:
    return sum(node.kind == "f" for node in tree.values())
