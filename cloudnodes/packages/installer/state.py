"""What this machine remembers of its installation, in one folder: enough to repair it and to remove every trace."""

from __future__ import annotations

import json
import os
import uuid
from types import TracebackType
from typing import Any, Dict, List, Optional, Type

from cloudnodes.packages.installer.problems import BUSY, REFUSED, InstallProblem

STATE_FORMAT = "curfew-local-install"
STATE_FILE, LOCK_FILE = "installed.json", "install.lock"


class Home:
    """The folder of an installation. Nothing is written before `save` or `write` is called.

    `images` maps our own tag of an image to {reference, layers, config, tags: [tags that we added],
    backups: {taken tag: where its former image is kept}}; `nodes` maps a slug to {name, image (our tag), container, spec,
    profile, port, package, files}.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(os.path.expanduser(path))
        self.id = uuid.uuid4().hex
        self.images: Dict[str, Dict[str, Any]] = {}
        self.nodes: Dict[str, Dict[str, Any]] = {}
        self.trusted_key = ""
        self.files: List[str] = []
        self.exists = os.path.isfile(self.place(STATE_FILE))
        if self.exists:
            self._read()

    def place(self, *parts: str) -> str:
        return os.path.join(self.path, *parts)

    def _read(self) -> None:
        try:
            with open(self.place(STATE_FILE), encoding="utf-8") as file:
                found = json.load(file)
            if found["format"] != STATE_FORMAT:
                raise ValueError("another program's file")
            self.id, self.images, self.nodes = found["id"], found["images"], found["nodes"]
            self.trusted_key, self.files = found["trusted_key"], found["files"]
        except (OSError, ValueError, KeyError, TypeError) as wrong:
            raise InstallProblem(
                "bad_state",
                "%s cannot be read: %s." % (self.place(STATE_FILE), wrong),
                REFUSED,
                "Move that folder away and install again with --force, which takes over containers left by it.",
            ) from None

    def save(self) -> None:
        text = json.dumps(
            {
                "format": STATE_FORMAT,
                "version": 1,
                "id": self.id,
                "trusted_key": self.trusted_key,
                "files": sorted(self.files),
                "images": self.images,
                "nodes": self.nodes,
            },
            indent=1,
            sort_keys=True,
        )
        self._put(STATE_FILE, text + "\n")
        self.exists = True

    def write(self, name: str, data: bytes) -> None:
        """Write one of our files and remember that it is ours."""
        if name not in self.files:
            self.files.append(name)
            self.save()
        self._put(name, data.decode("utf-8"))

    def _put(self, name: str, text: str) -> None:
        place = self.place(*name.split("/"))
        os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
        with open(place + ".new", "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(place + ".new", place)

    def remove_files(self, below: str = "") -> List[str]:
        """Remove our files whose name starts with `below`, and folders that are empty then; what could not be removed."""
        kept = []
        for name in [n for n in self.files if n.startswith(below)]:
            place = self.place(*name.split("/"))
            kept += [p for p in (place, place + ".new") if not _removed(p)]
            self.files.remove(name)
            self._remove_empty(os.path.dirname(place))
        return kept

    def _remove_empty(self, folder: str) -> None:
        while folder.startswith(self.path + os.sep):
            try:
                os.rmdir(folder)
            except OSError:
                return
            folder = os.path.dirname(folder)

    def remove(self) -> List[str]:
        """Remove the state and the folder; what is left in it because it is not ours."""
        kept = self.remove_files()
        for name in (STATE_FILE, STATE_FILE + ".new"):
            if os.path.exists(self.place(name)):
                os.remove(self.place(name))
        self._remove_empty(self.place("nodes"))
        left = (
            [self.place(n) for n in sorted(os.listdir(self.path)) if n != LOCK_FILE] if os.path.isdir(self.path) else []
        )
        return sorted({*kept, *left})


def _removed(place: str) -> bool:
    try:
        os.remove(place)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


class Lock:
    """Keeps a second installation out of the folder while the block lasts; goes with its process however that ends."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._path = home.place(LOCK_FILE)
        self._file: Optional[Any] = None

    def __enter__(self) -> "Lock":
        os.makedirs(self._home.path, mode=0o700, exist_ok=True)
        self._file = open(self._path, "a+")
        try:
            _lock(self._file)
            if os.fstat(self._file.fileno()).st_ino != os.stat(self._path).st_ino:
                raise OSError("the one before has just ended")
        except OSError:
            self._file.close()
            raise InstallProblem(
                "busy", "Another installation is under way in %s." % self._home.path, BUSY, "Wait until it has ended."
            ) from None
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._file is not None:
            self._file.close()
        try:
            os.remove(self._path)
            if not os.listdir(self._home.path):
                os.rmdir(self._home.path)
        except OSError:
            return


def _lock(file: Any) -> None:
    try:
        import fcntl
    except ImportError:
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
