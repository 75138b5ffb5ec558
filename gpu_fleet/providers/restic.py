"""The server's side of a machine's repository: make it, look into it, read back, forget. Any exit code but 0 fails.

Debian 12 has restic 0.14: its short snapshot ids, its text answers to `init` and its stale locks are reckoned with.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from core.providers import InvalidRequest, ProviderError, TimedOut

SECONDS = 1800.0
BLOCK = 1024 * 1024


class RepositoryError(ProviderError):
    """restic could not do it; `detail` holds its words."""


@dataclass(frozen=True, slots=True)
class Repository:
    """Where a repository is and what opens it. `environment` holds storage keys and is never shown."""

    location: str
    password: str = field(repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    cache: str = ""

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "TMPDIR", "LANG", "SSL_CERT_FILE")}
        cache = {"RESTIC_CACHE_DIR": self.cache} if self.cache else {}
        secrets = {"RESTIC_REPOSITORY": self.location, "RESTIC_PASSWORD": self.password}
        return {**kept, **self.environment, **secrets, **cache}

    def _start(self, arguments: list[str]) -> subprocess.Popen[bytes]:
        program = shutil.which("restic")
        if program is None:
            raise InvalidRequest(
                "restic is not installed on this server.", code="no_restic", next_step="Install the package restic."
            )
        try:
            return subprocess.Popen(  # noqa: S603  our own arguments
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment(),
            )
        except OSError as bad:
            raise RepositoryError("restic cannot be started.", detail=str(bad)) from None

    def run(self, *arguments: str, seconds: float = SECONDS) -> str:
        """Its output. Raises RepositoryError, or TimedOut after so many seconds."""
        with self._start(list(arguments)) as child:
            try:
                out, err = child.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                child.kill()
                raise TimedOut(f"restic {arguments[0]} did not end in {seconds:.0f} s.") from None
        if child.returncode:
            raise RepositoryError(
                f"The repository could not be used: restic {arguments[0]} ended with {child.returncode}.",
                code="repository",
                transient=True,
                detail=err.decode(errors="replace")[-600:],
                next_step="Look at restic's words below.",
            )
        return out.decode(errors="replace")

    def ensure(self) -> bool:
        """Make the repository if there is none; False when it was there. A wrong password is an error, not "none"."""
        try:
            self.run("cat", "config", "--no-lock", seconds=120)
            return False
        except RepositoryError as refused:
            words = refused.detail.lower()
            if "wrong password" in words or "no key found" in words:
                raise
        try:
            self.run("init", seconds=120)
        except RepositoryError as refused:
            if "already" not in refused.detail.lower():
                raise
            return False
        return True

    def snapshots(self) -> list[dict[str, Any]]:
        """Every snapshot as restic lists it."""
        found = json.loads(self.run("snapshots", "--json", "--no-lock") or "null")
        return [row for row in found or [] if isinstance(row, dict)]

    def listing(self, snapshot: str) -> Iterator[dict[str, Any]]:
        """Every node of a snapshot: `path`, `type`, `size`, `mode`."""
        for line in self.run("ls", "--json", "--no-lock", snapshot).splitlines():
            told = json.loads(line)
            if told.get("struct_type") == "node":
                yield told

    def sha256(self, snapshot: str, path: str) -> str:
        """Read one file back and hash it."""
        summed = hashlib.sha256()
        with self._start(["dump", "--no-lock", snapshot, path]) as child:
            assert child.stdout is not None
            while block := child.stdout.read(BLOCK):
                summed.update(block)
            err = child.stderr.read() if child.stderr else b""
        if child.returncode:
            raise RepositoryError(
                f"{path} cannot be read back.", code="unreadable", detail=err.decode(errors="replace")[-300:]
            )
        return summed.hexdigest()

    def copy_from(self, source: Repository, snapshot: str) -> str:
        """Copy a snapshot of another repository here, unless that was done; its id here. Both use the same storage keys."""
        if found := self._copy_of(snapshot):
            return found
        environment = {**self.environment, "RESTIC_FROM_PASSWORD": source.password}
        both = Repository(self.location, self.password, environment, self.cache)
        both.run("copy", "--from-repo", source.location, snapshot)
        copied = self._copy_of(snapshot)
        if not copied:
            raise RepositoryError("The snapshot was copied and is not there.", code="repository", transient=True)
        return copied

    def _copy_of(self, snapshot: str) -> str:
        rows = [row for row in self.snapshots() if str(row.get("original") or "").startswith(snapshot)]
        return str(rows[-1]["id"])[:64] if rows else ""

    def unlock(self) -> None:
        """Take away the locks of processes that are no more: of this computer at once, of another after half an hour."""
        self.run("unlock", seconds=120)

    def forget(self, snapshots: list[str], *, alone: bool = False) -> None:
        """Forget snapshots and free their space. A lock that a killed process left is removed first.

        One of another host counts as alive for half an hour. `alone` says that the caller knows better: nothing
        writes here now, so whatever lock there is was left by a machine that is gone.
        """
        self.run("unlock", *(["--remove-all"] if alone else []), seconds=120)
        self.run("forget", "--prune", "--", *snapshots)

    def size(self) -> int:
        """Bytes that the repository takes."""
        return int(json.loads(self.run("stats", "--json", "--no-lock", "--mode", "raw-data")).get("total_size") or 0)
