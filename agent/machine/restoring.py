"""Bringing the files of a snapshot back, by the agent's own reader or by restic, and comparing every one."""

from __future__ import annotations

import contextlib
import gzip
import logging
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from agent.machine import manifest as trees
from agent.machine import work
from agent.machine.placing import Placing
from agent.machine.repository import Surprise, opened

log = logging.getLogger("curfew.agent.restoring")
# A tree smaller than this comes back as a whole, for a second run of restic costs time; of a larger one files of at
# least so many bytes come behind, in two batches if they are more than that.
SMALL, TWO_BATCHES = 256 * 1024 * 1024, 2048 * 1024 * 1024
LARGE_FILE, MOST_LARGE = 8 * 1024 * 1024, 400
LATE_NICE = 10


def restore(order: Mapping[str, Any], tell: work.Tell) -> dict[str, Any]:
    """Bring the files of a snapshot back in place and compare every one with what was hashed before the backup.

    The agent's own reader does it; what that cannot do, restic does. The result's `reader` says why, or is "".
    """
    tell(step="Fetching the hashes")
    wanted = _download(order)
    tell(step="Bringing files back", percent=2, files=wanted.files, size=wanted.size)
    clear_way(wanted)
    began = time.monotonic()
    try:
        return _by_reader(order, wanted, tell, began)
    except Surprise as odd:
        why = str(odd)
    log.warning("restore_by_restic reason=%s", why)
    tell(step=f"Bringing files back with restic ({why})"[:200], percent=2)
    return {**_by_restic(order, wanted, tell, began), "reader": why}


def _by_reader(order: Mapping[str, Any], wanted: trees.Manifest, tell: work.Tell, began: float) -> dict[str, Any]:
    """First what alone keeps people waiting, then the large files, both on all cores; each is hashed on its way.

    Raises Surprise, but only before it has told that the files are usable: after that people may have changed some, and
    restic is asked for no more than what is not there yet.
    """
    expected = {entry.path: entry for entry in wanted.entries}
    repository = opened(order)
    try:
        nodes = repository.nodes(str(order["snapshot"]))
        placing = Placing(repository, nodes, str(order.get("target") or "/"), expected)
        hot = _hot_by_reader(wanted, placing)
        late = {entry.path for entry in large_files(wanted, hot, wanted.files)} if wanted.size >= SMALL else set()
        first = placing.files(lambda path: bool(hot) and path.startswith(hot))
        early = placing.files(lambda path: path not in late, first)
        behind = placing.files(lambda path: True, first + early)
        coming = {name for node in behind for name in placing.names(node)}
        unsettled = placing.parents(behind)

        def watch(done: int) -> None:
            tell(percent=2 + int(86 * min(1.0, done / (wanted.size or 1))), bytes_done=done)

        placing.make_folders()
        placing.bring(first, watch)
        placing.bring(early, watch)
        placing.place_others()
        placing.settle_folders(lambda path: path not in unsettled)
        found, missing = _judged(placing, (entry for entry in wanted.entries if entry.path not in coming))
        if missing or any(entry != expected[entry.path] for entry in found):
            raise Surprise("what came is not what was saved")
        usable, why = round(time.monotonic() - began, 2), ""
        if behind:
            tell(step="Usable; bringing the large files back", usable=True, usable_seconds=usable)
            rest = [entry for entry in wanted.entries if entry.path in coming]
            try:
                placing.bring(behind, watch, LATE_NICE)
            except Surprise as odd:
                why = str(odd)
                log.warning("restore_rest_by_restic reason=%s", why)
                tell(step=f"Usable; bringing the large files back with restic ({why})"[:200])
                _rest_by_restic(order, [entry for entry in rest if entry.path not in placing.found])
            try:
                placing.settle_folders(lambda path: path in unsettled)
            except Surprise as odd:  # somebody works here already and took a folder away
                log.warning("restore_folders reason=%s", odd)
            more, lost = _judged(placing, rest)
            found, missing = found + more, missing + lost
        return {**_result(found, missing, usable), "reader": why}
    finally:
        repository.close()


def _judged(placing: Placing, entries: Iterable[trees.Entry]) -> tuple[list[trees.Entry], list[str]]:
    """What is there now, and the paths of what is missing: files as they were written, all else looked at."""
    written: list[trees.Entry] = []
    others: list[trees.Entry] = []
    for entry in entries:
        had = placing.found.get(entry.path)
        if had is None:
            others.append(entry)
        else:
            written.append(had)
    found, missing = trees.again(others)
    return written + found, missing


def _hot_by_reader(wanted: trees.Manifest, placing: Placing) -> tuple[str, ...]:
    lists = set(_hot_lists(wanted))
    return _named_hot(
        (path, placing.content(node))
        for node in placing.files(lists.__contains__)
        for path in placing.names(node)
        if path in lists
    )


def _rest_by_restic(order: Mapping[str, Any], entries: list[trees.Entry]) -> None:
    command = ["restore", str(order["snapshot"]), "--target", str(order.get("target") or "/")]
    for n in range(0, len(entries), MOST_LARGE):
        _bring(order, command, entries[n : n + MOST_LARGE])


def _result(found: list[trees.Entry], missing: list[str], usable: float) -> dict[str, Any]:
    tree = trees.of(found)
    return {
        "digest": tree.digest,
        "files": tree.files,
        "size": tree.size,
        "missing": len(missing),
        "first_missing": missing[:5],
        "usable_seconds": usable,
    }


def _by_restic(order: Mapping[str, Any], wanted: trees.Manifest, tell: work.Tell, began: float) -> dict[str, Any]:
    """By restic alone, and then every file is read and hashed.

    Of a tree that is not small the large files come in runs of restic of their own, beside the rest, which alone keeps
    people waiting: one restic does not fill two cores. What has come is compared while more comes.
    """
    target = str(order.get("target") or "/")
    batches = [] if wanted.size < SMALL else in_batches(large_files(wanted, _hot(order, wanted, target)))
    late = {entry.path for batch in batches for entry in batch}
    first = [entry for entry in wanted.entries if entry.path not in late]
    command = ["restore", str(order["snapshot"]), "--target", target]
    without = [word for path in sorted(late) for word in ("--exclude", path.translate(work.GLOB))]
    watcher = _Watcher(wanted, tell)
    beside, judge = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
    try:
        behind = [beside.submit(_bring, order, command, batch) for batch in batches]
        work.restic(order, [*command, *without], lambda told: watcher.look())
        usable = round(time.monotonic() - began, 2)
        judged = [judge.submit(trees.again, first)]
        if batches:
            tell(step="Usable; bringing the large files back", usable=True, usable_seconds=usable)
        for run, batch in zip(behind, batches, strict=True):
            while not _ended(run):
                watcher.look()
            run.result()
            judged.append(judge.submit(trees.again, batch))
        tell(step="Comparing every file", percent=90)
        found = [entry for told in judged for entry in told.result()[0]]
        missing = [path for told in judged for path in told.result()[1]]
    finally:  # after a failure nothing more is begun, and what runs is waited for
        beside.shutdown(cancel_futures=True)
        judge.shutdown(cancel_futures=True)
    return _result(found, missing, usable)


def _bring(order: Mapping[str, Any], command: list[str], batch: list[trees.Entry]) -> None:
    """A run of restic for these files alone, giving way to whatever else runs."""
    only = [word for entry in batch for word in ("--include", entry.path.translate(work.GLOB))]
    work.restic(order, [*command, *only], lambda told: None, nice=LATE_NICE)


def _ended(run: Future[None]) -> bool:
    wait([run], timeout=0.5)
    return run.done()


def in_batches(files: list[trees.Entry]) -> list[list[trees.Entry]]:
    """One batch, or two of about half the bytes, so that the first is compared while the second comes."""
    total = sum(entry.size for entry in files)
    if total < TWO_BATCHES or len(files) < 2:
        return [files] if files else []
    upto, first = 0, 0
    while upto < total / 2 and first < len(files) - 1:
        upto, first = upto + files[first].size, first + 1
    return [files[:first], files[first:]]


def large_files(wanted: trees.Manifest, hot: tuple[str, ...] = (), most: int = MOST_LARGE) -> list[trees.Entry]:
    """What is brought back last, so that the workspace can be used before: the files that hold most of a large tree.

    `hot` are beginnings of paths that are never among them; `most` is how many restic can be told by name.
    """
    files = [e for e in wanted.entries if e.kind == "f" and e.size >= LARGE_FILE and not e.path.startswith(hot)]
    files.sort(key=lambda e: -e.size)
    return sorted(files[:most], key=lambda e: e.path)


def _hot(order: Mapping[str, Any], wanted: trees.Manifest, target: str) -> tuple[str, ...]:
    """What `.curfew/hot` of a saved folder names; restic fetches the lists before all else."""
    lists = _hot_lists(wanted)
    if not lists:
        return ()
    command = ["restore", str(order["snapshot"]), "--target", target]
    work.restic(
        order, [*command, *(w for path in lists for w in ("--include", path.translate(work.GLOB)))], lambda told: None
    )
    return _named_hot((path, Path(path).read_bytes()) for path in lists)


def _hot_lists(wanted: trees.Manifest) -> list[str]:
    return [e.path for e in wanted.entries if e.kind == "f" and e.path.endswith("/.curfew/hot") and e.size < 65_536]


def _named_hot(lists: Iterable[tuple[str, bytes]]) -> tuple[str, ...]:
    """The paths in these lists, one below the saved folder on each line."""
    found: list[str] = []
    for path, content in lists:
        folder = Path(path).parent.parent
        lines = content.decode(errors="replace").splitlines()
        found += [str(folder / line.strip().lstrip("/")) for line in lines if line.strip()]
    return tuple(found)


def clear_way(wanted: trees.Manifest) -> None:
    """Take away what restic would stumble over: links that are there already, and what is of another kind than saved.

    Where all folders are absent or empty, as on a new host, there is nothing to look for.
    """
    known = {entry.path for entry in wanted.entries}
    roots = [Path(path) for path in known if os.path.dirname(path) not in known]  # noqa: PTH120  as the system spells it
    if all(not os.path.lexists(root) or _empty(root) for root in roots):
        return
    for entry in wanted.entries:
        path = Path(entry.path)
        if path.is_symlink():
            path.unlink()
        elif entry.kind == "f" and path.is_dir():
            shutil.rmtree(path)
        elif entry.kind == "d" and path.exists() and not path.is_dir():
            path.unlink()


def _empty(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and next(folder.iterdir(), None) is None


def _download(order: Mapping[str, Any]) -> trees.Manifest:
    link = work.transport(order)
    try:
        path = f"/api/agent/machine/manifest/{order['manifest']}"
        reply = link.request("GET", path, timeout=work.UPLOAD_SECONDS, limit=trees.LARGEST)
    finally:
        link.close()
    if not reply.ok:
        raise work.Failed(f"the platform does not tell what the snapshot holds: {reply.status}")
    body = gzip.decompress(reply.body) if reply.body[:2] == b"\x1f\x8b" else reply.body
    try:
        return trees.parse(body.decode().splitlines())
    except (ValueError, KeyError) as bad:
        raise work.Failed("the platform's list of files cannot be read") from bad


class _Watcher:
    """How far a restore is, by looking at which of the largest files are there: restic 0.14 does not tell."""

    def __init__(self, wanted: trees.Manifest, tell: work.Tell) -> None:
        files = [entry for entry in wanted.entries if entry.kind == "f"]
        self._largest = sorted(files, key=lambda e: -e.size)[:200]
        self._total = sum(e.size for e in self._largest) or 1
        self._tell, self._next = tell, 0.0

    def look(self) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + 1.0
        there = 0
        for entry in self._largest:
            with contextlib.suppress(OSError):
                there += min(entry.size, Path(entry.path).stat().st_blocks * 512)
        self._tell(percent=2 + int(86 * there / self._total), bytes_done=there)
