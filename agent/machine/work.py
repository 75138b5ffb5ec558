"""One order, carried out in a process of its own, and how to back up. Progress and result go into one file.

The file is replaced as a whole at each step, so that whoever reads it (the heartbeat) sees a complete one, and an agent
that was killed and started again finds the work where it is.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import selectors
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from agent.machine import manifest as trees
from agent.machine.stamps import Known, Look
from agent.transport import Endpoint, Transport, Unreachable, read_token

HOOK_SECONDS = 300
# The first that compresses and knows the repositories of today.
OLDEST = (0, 14)
ADVICE = "Rent it with an image that has one (Debian 12, Ubuntu 24.04), or install it there; then try again."
MOST_TRIES = 3
# restic reads names as patterns.
GLOB = str.maketrans({c: f"\\{c}" for c in "\\*?["})
UPLOAD_SECONDS = 120.0
HASHES = "hashes.json"
# Compression is tried on so many pieces of so many bytes; it is used when it saves this share of the bytes.
PIECES, PIECE = 64, 32 * 1024
WORTH_ON_DISK, WORTH_ON_LINE = 0.35, 0.05
Tell = Callable[..., None]


class Failed(Exception):
    """The order cannot be carried out; the text says why."""


class Report:
    """The state of one order in its file."""

    def __init__(self, file: Path, order: Mapping[str, Any]) -> None:
        self._file = file
        self.content: dict[str, Any] = {
            "id": order["id"],
            "kind": order["kind"],
            "state": "running",
            "percent": 0,
            "step": "",
            "pid": os.getpid(),
        }

    def tell(self, **facts: Any) -> None:
        """Note how far it is."""
        self.content.update(facts)
        write(self._file, self.content)


def write(file: Path, content: Mapping[str, Any]) -> None:
    """Replace a file by JSON in one step."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(content), encoding="utf-8")
    part.replace(file)


def run(order_file: Path, report_file: Path) -> int:
    """Carry out the order in the file; the exit code is 0 also when it failed, as the report says so."""
    order = json.loads(order_file.read_text(encoding="utf-8"))
    order_file.unlink(missing_ok=True)  # it holds a password
    report = Report(report_file, order)
    report.tell(step="Starting")
    began = time.monotonic()
    try:
        from agent.machine import mirror, restoring  # they are built on this module

        doers = {"backup": backup, "restore": restoring.restore, "push": mirror.push, "pull": mirror.pull}
        result = doers[order["kind"]](order, report.tell)
    except (Failed, trees.Unreadable, Unreachable, OSError) as bad:
        report.tell(state="failed", error=str(bad)[:500], seconds=round(time.monotonic() - began, 1))
        return 0
    report.tell(state="done", percent=100, result=result, seconds=round(time.monotonic() - began, 1))
    return 0


def backup(order: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """Hash, back up, and make sure that nothing changed in between; then hand the hashes to the platform.

    A file whose stamp proves it unchanged since it was hashed is not read; the others are hashed while restic reads
    them, and those whose stamp proves nothing once more afterwards. The list for the platform is written meanwhile.
    """
    paths = [str(path) for path in order["paths"]]
    tell(step="Telling applications")
    hook(paths, tell)
    known = Known(_hashes_file(order))
    for _ in range(MOST_TRIES):
        found = _attempt(order, paths, known, tell)
        known.save()
        if found is not None:
            return _handed_over(order, tell, *found, paths)
    raise Failed("files change while they are backed up; something is still at work")


def _attempt(
    order: Mapping[str, Any], paths: list[str], known: Known, tell: Tell
) -> tuple[trees.Manifest, dict[str, Any]] | None:
    """The hashes and restic's summary; None when something changed meanwhile."""
    tell(step="Looking at files", percent=2)
    seen = trees.take_look(paths, known)
    files = [path for path, stamp in seen.stamps.items() if stamp.kind == "f"]
    # restic goes by stamps too: a file that changed without one is no reason for it to look, so it is made to
    before = {p: last for p in seen.doubtful if (last := known.last(p, seen.stamps[p])) is not None}
    first = trees.read(before)
    forced = ["--force"] if any(first[path] != last for path, last in before.items()) else []
    tell(step="Writing the snapshot", percent=10, files=len(files), size=sum(seen.stamps[p].size for p in files))
    with ThreadPoolExecutor(1) as beside:
        hashing = beside.submit(_listed, seen, known, first)
        new = any(known.sha256(path, seen.stamps[path]) is None for path in files)
        summary = restic_backup(order, paths, tell, [*forced, *(_compression(order, seen) if new else [])])
        tell(step="Hashing files", percent=85)
        sums, tree = hashing.result()
    after = trees.look_again(paths)
    known.learn(seen, after, sums)
    if not seen.same(after):
        return None
    tell(step="Reading again what may have changed", percent=90)
    again = trees.read(seen.doubtful)
    if any(sums[path] != sha256 for path, sha256 in again.items()):
        return None
    return tree, summary


def _listed(seen: Look, known: Known, first: Mapping[str, str]) -> tuple[dict[str, str], trees.Manifest]:
    sums = trees.hashes(seen, known, first)
    return sums, trees.of_look(seen, sums)


def _hashes_file(order: Mapping[str, Any]) -> Path | None:
    token = (order.get("platform") or {}).get("token_file")
    return Path(str(token)).parent / HASHES if token else None


def _handed_over(
    order: Mapping[str, Any], tell: Tell, tree: trees.Manifest, summary: Mapping[str, Any], paths: list[str]
) -> dict[str, Any]:
    tell(step="Handing over the hashes", percent=95)
    upload(order, tree)
    return {
        "snapshot_id": str(summary.get("snapshot_id") or ""),
        "digest": tree.digest,
        "files": tree.files,
        "size": tree.size,
        "entries": len(tree.entries),
        "added": int(summary.get("data_added") or 0),
        "paths": paths,
    }


def hook(paths: list[str], tell: Tell) -> None:
    """`.curfew/before-sleep` in a backed-up folder lets applications save their state. Its failure stops the backup."""
    for path in paths:
        program = Path(path) / ".curfew" / "before-sleep"
        if not program.is_file() or not os.access(program, os.X_OK):
            continue
        tell(step=f"Running {program}")
        try:
            done = subprocess.run([str(program)], capture_output=True, text=True, timeout=HOOK_SECONDS, check=False)  # noqa: S603  the owner's own program
        except (OSError, subprocess.TimeoutExpired) as bad:
            raise Failed(f"{program} did not end well: {bad}") from bad
        if done.returncode:
            raise Failed(f"{program} ended with {done.returncode}: {done.stderr[-200:]}")


def upload(order: Mapping[str, Any], tree: trees.Manifest) -> None:
    """Send the hashes to the platform, under the order's id."""
    body = packed(tree)
    link = transport(order)
    try:
        reply = link.request(
            "POST", f"/api/agent/machine/manifest/{order['id']}", body=body, packed=True, timeout=UPLOAD_SECONDS
        )
    finally:
        link.close()
    if not reply.ok:
        raise Failed(
            f"the platform did not take the hashes: {reply.status} {reply.body[:200].decode(errors='replace')}"
        )


def packed(tree: trees.Manifest) -> bytes:
    """The lines as they travel; half of them are hashes, so that more effort gains nothing."""
    return gzip.compress(tree.text, 1, mtime=0)


def transport(order: Mapping[str, Any]) -> Transport:
    """To the platform, as this machine."""
    platform = order["platform"]
    endpoint = Endpoint(platform["url"], ca_file=platform.get("ca_file", ""), allow_http=bool(platform.get("http")))
    return Transport(endpoint, read_token("", platform["token_file"]))


def restic_backup(
    order: Mapping[str, Any], paths: list[str], tell: Tell, more: list[str] | None = None
) -> dict[str, Any]:
    """Write a snapshot; `more` are further words for restic. Returns its summary."""
    summary: dict[str, Any] = {}

    def hear(told: dict[str, Any]) -> None:
        if told.get("message_type") == "status":
            done = float(told.get("percent_done") or 0.0)
            tell(percent=10 + int(done * 72), bytes_done=int(told.get("bytes_done") or 0))
        elif told.get("message_type") == "summary":
            summary.update(told)

    command = ["backup", "--host", str(order["host"]), *_pack_size(order), *(more or [])]
    for tag in order.get("tags") or []:
        command += ["--tag", str(tag)]
    command += [str(word) for word in order.get("backup_options") or []]
    restic(order, [*command, "--", *paths], hear)
    if not summary.get("snapshot_id"):
        raise Failed("restic ended well but told no snapshot")
    return summary


def _pack_size(order: Mapping[str, Any]) -> list[str]:
    size = (order.get("tuning") or {}).get("pack_size")
    return ["--pack-size", str(int(size))] if size else []


def _on_disk(order: Mapping[str, Any]) -> bool:
    """Whether the repository is a folder here and not at the end of a line."""
    return str(order["repository"]).startswith("/")


def _compression(order: Mapping[str, Any], seen: Look) -> list[str]:
    """Off where it would save too little of what is written for the time that it takes: less on a disk than on a line."""
    asked = str((order.get("tuning") or {}).get("compression") or "auto")
    if asked == "auto":
        worth = WORTH_ON_DISK if _on_disk(order) else WORTH_ON_LINE
        asked = "auto" if saved_share(seen) >= worth else "off"
    return ["--compression", asked]


def saved_share(seen: Look) -> float:
    """How much of the bytes compression would save, 0 to 1, by pieces of files picked by their share of the bytes."""
    files = sorted((p, s.size) for p, s in seen.stamps.items() if s.kind == "f" and s.size)
    total = sum(size for _, size in files)
    if not total:
        return 1.0
    step, read, kept, upto, wanted = total / PIECES, 0, 0, 0, 0.0
    for path, size in files:
        upto += size
        while wanted < upto:
            piece = _piece(path, int(wanted - (upto - size)))
            read, kept, wanted = read + len(piece), kept + min(len(piece), len(zlib.compress(piece, 1))), wanted + step
    return 1 - kept / read if read else 1.0


def _piece(path: str, at: int) -> bytes:
    with contextlib.suppress(OSError), open(path, "rb", buffering=0) as file:  # noqa: PTH123
        file.seek(at)
        return file.read(PIECE)
    return b""


def restic(
    order: Mapping[str, Any], arguments: list[str], hear: Callable[[dict[str, Any]], None], *, nice: int = 0
) -> None:
    """Run restic, handing each JSON line on. Any exit code but 0 is a failure, with restic's own words."""
    giving_way = ["nice", "-n", str(nice)] if nice and shutil.which("nice") else []
    environment = {
        **{k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "TMPDIR", "LANG", "SSL_CERT_FILE")},
        **{str(k): str(v) for k, v in (order.get("environment") or {}).items()},
        "RESTIC_REPOSITORY": str(order["repository"]),
        "RESTIC_PASSWORD": str(order["password"]),
        "RESTIC_PROGRESS_FPS": "2",
        "RESTIC_CACHE_DIR": str(order.get("cache") or "/var/cache/curfew-restic"),
    }
    authority = (order.get("platform") or {}).get("ca_file")
    if authority and environment["RESTIC_REPOSITORY"].startswith("rest:https://"):  # the platform passes it on
        environment["SSL_CERT_FILE"] = str(authority)
    words = [*(str(w) for w in order.get("restic_options") or []), "--json", *arguments]
    try:
        child = subprocess.Popen(  # noqa: S603  our own arguments
            [*giving_way, "restic", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
    except OSError as bad:
        raise Failed(f"restic cannot be started on this machine: {bad}. {ADVICE}") from bad
    said = _listen(child, hear)
    if child.returncode:
        if version := too_old():
            raise Failed(f"This machine has restic {version}; {OLDEST[0]}.{OLDEST[1]} or newer is needed. {ADVICE}")
        raise Failed(f"restic ended with {child.returncode}: {said.strip()[-300:]}")


def too_old() -> str:
    """The version of this machine's restic when it cannot read what a newer one made, else ""."""
    try:
        told = subprocess.run(["restic", "version"], capture_output=True, text=True, timeout=30, check=False).stdout  # noqa: S607
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.match(r"restic (\d+)\.(\d+)\S*", told)
    return found[0].split()[1] if found and (int(found[1]), int(found[2])) < OLDEST else ""


def _listen(child: subprocess.Popen[bytes], hear: Callable[[dict[str, Any]], None]) -> str:
    """Read both streams to their ends; returns the last of what was said on the error stream."""
    rest, said = b"", b""
    assert child.stdout is not None
    assert child.stderr is not None
    with child, selectors.DefaultSelector() as ready:
        ready.register(child.stdout, selectors.EVENT_READ, "out")
        ready.register(child.stderr, selectors.EVENT_READ, "err")
        while ready.get_map():
            for key, _ in ready.select(1.0):
                data = os.read(key.fd, 65_536)
                if not data:
                    ready.unregister(key.fileobj)
                elif key.data == "err":
                    said = (said + data)[-4000:]
                else:
                    *lines, rest = (rest + data).split(b"\n")
                    for line in lines:
                        _hear(line, hear)
            hear({"message_type": "tick"})
    return said.decode(errors="replace")


def _hear(line: bytes, hear: Callable[[dict[str, Any]], None]) -> None:
    with contextlib.suppress(ValueError):
        told = json.loads(line)
        if isinstance(told, dict):
            hear(told)


def main(arguments: list[str]) -> int:
    """`python -m agent.machine.work ORDER REPORT`."""
    return run(Path(arguments[0]), Path(arguments[1]))


if __name__ == "__main__":
    # the one that the others import: a `Failed` of theirs is none of this copy's
    from agent.machine import work  # noqa: PLW0406

    sys.exit(work.main(sys.argv[1:]))
