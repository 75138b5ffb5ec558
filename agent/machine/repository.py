"""A reader of restic's repository format, versions 1 and 2: what a snapshot holds and where each piece of it lies.

It reads alone, and for restoring alone; restic writes. Whatever it does not know or cannot do is a Surprise, and the
caller has restic do the work. Everything it takes from a repository was sealed with the repository's key.

Words of the format: a *blob* is a piece of a file (0.5 to 8 MiB) or a folder's list (a *tree*), named by the SHA-256 of
its plain bytes; a *pack* is a file of blobs, each sealed by itself; an *index* says which blob lies where in which pack.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import stat
from array import array
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from agent.machine import backends, crypto
from agent.machine.crypto import EXTENSION, NONCE, Buffer, Key

# Above these the lists would take too much memory; restic does such trees.
MOST_BLOBS, MOST_NODES, MOST_KEYS = 600_000, 600_000, 20
MOST_BLOB = 64 * 1024 * 1024
MOST_SCRYPT = 256 * 1024 * 1024
# Blobs that lie so near to each other are read at once, up to so many bytes; nearness is another over a line.
GAP, AT_ONCE = 64 * 1024, 4 * 1024 * 1024
KINDS = {"file": "f", "dir": "d", "symlink": "l", "fifo": "p", "dev": "b", "chardev": "c"}
# Go's bits of a file mode.
SETUID, SETGID, STICKY = 1 << 23, 1 << 22, 1 << 20
SECOND = 1_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", re.DOTALL)
SHORT = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


class Surprise(Exception):
    """The reader does not know this or cannot do it; restic may. The text says what."""


@contextmanager
def surprises() -> Iterator[None]:
    """Whatever goes wrong in here is a Surprise."""
    try:
        yield
    except (backends.Lost, crypto.Unavailable, crypto.Forged) as bad:
        raise Surprise(str(bad)) from bad
    except OSError as bad:
        raise Surprise(f"{bad.strerror or bad}: {bad.filename!r}" if bad.filename else str(bad)) from bad
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, MemoryError) as bad:
        raise Surprise(f"not as the format has it: {type(bad).__name__} {bad}"[:200]) from bad


@dataclass(slots=True)
class Node:
    """One entry of a snapshot. `kind` is f, d, l, p (pipe), b or c (devices); times are nanoseconds since 1970.

    `content` are places of blobs in the index; `inode` is set where the file has more than one name.
    """

    path: bytes
    kind: str
    mode: int
    uid: int
    gid: int
    atime: int
    mtime: int
    size: int
    content: tuple[int, ...]
    target: bytes
    device: int
    inode: tuple[int, int] | None
    xattrs: tuple[tuple[str, bytes], ...]


class Run(NamedTuple):
    """Blobs that are read at once: `places` in the index, all from `start` to `end` in one pack, by where they lie."""

    pack: str
    start: int
    end: int
    places: list[int]


class Index:
    """Where each blob lies, in columns; a place is a row's number. About 170 bytes for each blob."""

    def __init__(self) -> None:
        self.packs: list[str] = []
        self.ids: list[bytes] = []
        self.pack, self.offset, self.length, self.packed = array("I"), array("I"), array("I"), array("I")
        self.data: dict[bytes, int] = {}
        self.trees: dict[bytes, int] = {}

    def add(self, told: Mapping[str, Any]) -> None:
        """One index file. Of a blob that lies in more than one pack the first that is told counts."""
        for pack in told["packs"] or ():
            name, number = str(pack["id"]), len(self.packs)
            if not backends.NAME.fullmatch(name):
                raise Surprise("a pack has an odd name")
            self.packs.append(name)
            for blob in pack["blobs"]:
                known = {"data": self.data, "tree": self.trees}[blob["type"]]
                name_of = bytes.fromhex(blob["id"])
                if name_of in known:
                    continue
                plain, length = int(blob.get("uncompressed_length") or 0), int(blob["length"])
                if len(name_of) != 32 or not EXTENSION <= length <= MOST_BLOB or plain > MOST_BLOB:
                    raise Surprise("a blob has an odd size")
                known[name_of] = len(self.ids)
                self.ids.append(name_of)
                self.pack.append(number)
                self.offset.append(int(blob["offset"]))
                self.length.append(length)
                self.packed.append(plain)
        if len(self.ids) > MOST_BLOBS:
            raise Surprise("the repository is larger than this reader's memory")

    def size(self, place: int) -> int:
        """Of the plain bytes."""
        return self.packed[place] or self.length[place] - EXTENSION

    def runs(self, places: Iterable[int], far: bool = False) -> list[Run]:
        """How to read these blobs with few requests, pack by pack; a little of what lies between two is read too.

        A far pack is read in one go.
        """
        gap, most = (backends.FAR_GAP, 1 << 40) if far else (GAP, AT_ONCE)
        found: list[Run] = []
        for place in sorted(set(places), key=lambda p: (self.pack[p], self.offset[p])):
            pack, start = self.packs[self.pack[place]], self.offset[place]
            end = start + self.length[place]
            last = found[-1] if found else None
            if last is not None and last.pack == pack and start - last.end <= gap and end - last.start <= most:
                last.places.append(place)
                found[-1] = last._replace(end=max(last.end, end))
            else:
                found.append(Run(pack, start, end, [place]))
        return found


class Reader:
    """One thread's way to blobs: a line to the packs, the means to open them, and two buffers."""

    def __init__(self, line: backends.Line, index: Index, opener: crypto.Opener, unpacker: crypto.Unpacker) -> None:
        self._line, self._index = line, index
        self._opener, self._unpacker = opener, unpacker
        self._sealed, self._plain = Buffer(), Buffer()

    def fetch_all(self, runs: list[Run]) -> dict[int, int]:
        """Read some runs side by side into memory; where each blob begins in it."""
        self._sealed.need(sum(run.end - run.start for run in runs))
        found, at = {}, 0
        for run in runs:
            size = run.end - run.start
            self._line.read_into(run.pack, run.start, self._sealed.view[at : at + size])
            for place in run.places:
                found[place] = at + self._index.offset[place] - run.start
            at += size
        return found

    def open(self, place: int, at: int) -> memoryview:
        """The plain bytes of a blob that lies at `at` in what was fetched; they last until the next blob is opened.

        Each blob can be opened once after it was fetched, for it is decrypted where it lies.
        """
        length, size = self._opener.open(self._sealed, at, self._index.length[place]), self._index.packed[place]
        if not size:
            return self._sealed.view[at + NONCE : at + NONCE + length]
        self._unpacker.unpack(self._sealed, at + NONCE, length, self._plain, size)
        return self._plain.view[:size]

    def blobs(self, run: Run) -> Iterator[tuple[int, memoryview]]:
        """The blobs of a run one after the other; each lasts until the next."""
        for place in run.places:
            start, length = self._index.offset[place], self._index.length[place]
            self._sealed.need(length)
            self._line.read_into(run.pack, start, self._sealed.view[:length], run.end)
            yield place, self.open(place, 0)

    def close(self) -> None:
        self._line.close()
        self._opener.close()
        self._unpacker.close()


class Repository:
    """An opened repository: its key and its index. Every method raises Surprise."""

    def __init__(self, store: backends.Store, password: str) -> None:
        with surprises():
            self._store = store
            self._key = _master(store, password)
            self._opener, self._unpacker = crypto.Opener(self._key), crypto.Unpacker()
            config = json.loads(self._opener.opened(store.whole("config")))
            if config["version"] not in (1, 2):
                raise Surprise(f"a repository of version {config['version']}")
            self.index = Index()
            for name in store.names("index"):
                self.index.add(self._sealed_list("index", name))

    def _sealed_list(self, kind: str, name: str) -> Any:
        """An index or snapshot: JSON, or a 2 and compressed JSON."""
        plain = self._opener.opened(self._store.whole(kind, name))
        if plain[:1] == b"\x02":
            plain = self._unpacker.unpacked(plain[1:])
        return json.loads(plain)

    @property
    def lines(self) -> int:
        """How many threads are of use; 0: as many as there are cores."""
        return self._store.lines

    @property
    def far(self) -> bool:
        """Whether it is at the end of a line, where a request costs time."""
        return self._store.lines > 0

    def reader(self) -> Reader:
        """For one thread."""
        return Reader(self._store.line(), self.index, crypto.Opener(self._key), crypto.Unpacker())

    def nodes(self, snapshot: str) -> list[Node]:
        """All that a snapshot (a beginning of its name that is no other's) holds, folders before what is in them."""
        with surprises():
            names = [name for name in self._store.names("snapshots") if name.startswith(snapshot)]
            if len(snapshot) < 8 or len(names) != 1:
                raise Surprise(f"there are {len(names)} snapshots {snapshot}")
            top = bytes.fromhex(self._sealed_list("snapshots", names[0])["tree"])
            found: list[Node] = []
            waiting = {self.index.trees[top]: [b""]}
            threads = min(4, self._store.lines) or 1
            with ThreadPoolExecutor(threads) as pool:
                readers = [self.reader() for _ in range(threads)]
                try:
                    while waiting:
                        waiting = self._level(waiting, readers, pool, found)
                finally:
                    pool.shutdown()
                    for reader in readers:
                        reader.close()
            return found

    def _level(
        self, wanted: dict[int, list[bytes]], readers: list[Reader], pool: ThreadPoolExecutor, found: list[Node]
    ) -> dict[int, list[bytes]]:
        """Read these trees, each for the folders that have it; returns those of the next level."""
        deeper: dict[int, list[bytes]] = {}
        runs = self.index.runs(wanted, self.far)

        def load(reader: Reader, mine: list[Run]) -> list[tuple[int, bytes]]:
            return [(place, bytes(plain)) for run in mine for place, plain in reader.blobs(run)]

        shares = [pool.submit(load, reader, runs[n :: len(readers)]) for n, reader in enumerate(readers)]
        for share in shares:
            for place, plain in share.result():
                if hashlib.sha256(plain).digest() != self.index.ids[place]:
                    raise Surprise("a folder's list is not the one that is named")
                for folder in wanted[place]:
                    for told in json.loads(plain)["nodes"] or ():
                        node = self._node(told, folder)
                        found.append(node)
                        if node.kind == "d":
                            below = self.index.trees[bytes.fromhex(told["subtree"])]
                            deeper.setdefault(below, []).append(node.path)
                if len(found) > MOST_NODES:
                    raise Surprise("the snapshot has more entries than this reader's memory takes")
        return deeper

    def _node(self, told: Mapping[str, Any], folder: bytes) -> Node:
        name, kind = unquoted(told["name"]), KINDS.get(told["type"])
        if kind is None or not name or name in (b".", b"..") or b"/" in name or b"\0" in name:
            raise Surprise(f"an entry {name!r} of kind {told['type']}")
        go_mode, places = int(told.get("mode") or 0), self.index.data
        target = ""
        if kind == "l":
            target = told.get("linktarget") or ""
        raw = told.get("linktarget_raw")
        size = int(told.get("size") or 0) if kind == "f" else 0
        content = tuple(places[bytes.fromhex(blob)] for blob in told.get("content") or ()) if kind == "f" else ()
        if kind == "f" and sum(map(self.index.size, content)) != size:
            raise Surprise(f"{name!r} has not the size of its pieces")
        return Node(
            path=folder + b"/" + name,
            kind=kind,
            mode=(go_mode & 0o777)
            | (stat.S_ISUID if go_mode & SETUID else 0)
            | (stat.S_ISGID if go_mode & SETGID else 0)
            | (stat.S_ISVTX if go_mode & STICKY else 0),
            uid=int(told.get("uid") or 0),
            gid=int(told.get("gid") or 0),
            atime=nanoseconds(told["atime"]),
            mtime=nanoseconds(told["mtime"]),
            size=size,
            content=content,
            target=base64.b64decode(raw) if raw else target.encode(),
            device=int(told.get("device") or 0),
            inode=(int(told.get("inode") or 0), int(told.get("device_id") or 0))
            if int(told.get("links") or 0) > 1
            else None,
            xattrs=tuple(
                (str(row["name"]), base64.b64decode(row.get("value") or ""))
                for row in told.get("extended_attributes") or ()
            ),
        )

    def close(self) -> None:
        self._opener.close()
        self._unpacker.close()


def opened(order: Mapping[str, Any]) -> Repository:
    """The order's repository. Raises Surprise."""
    with surprises():
        return Repository(backends.store(order), str(order["password"]))


def _master(store: backends.Store, password: str) -> Key:
    """The key that everything is sealed with, out of the first key file that the password opens."""
    names = store.names("keys")
    for name in names[:MOST_KEYS]:
        told = json.loads(store.whole("keys", name))
        n, r, p = int(told["N"]), int(told["r"]), int(told["p"])
        if told["kdf"] != "scrypt" or 128 * r * (n + p + 2) > MOST_SCRYPT:
            raise Surprise("the key is made in a way that is not known")
        made = hashlib.scrypt(
            password.encode(), salt=base64.b64decode(told["salt"]), n=n, r=r, p=p, maxmem=MOST_SCRYPT * 2, dklen=64
        )
        opener = crypto.Opener(Key(made[:32], made[32:48], made[48:]))
        try:
            master = json.loads(opener.opened(base64.b64decode(told["data"])))
        except crypto.Forged:
            continue
        finally:
            opener.close()
        mac = master["mac"]
        parts = [base64.b64decode(text) for text in (master["encrypt"], mac["k"], mac["r"])]
        if list(map(len, parts)) != [32, 16, 16]:
            raise Surprise("the key is not of the known size")
        return Key(*parts)
    raise Surprise("no key opens with this password" if names else "it holds no keys where they are expected")


def unquoted(text: str) -> bytes:
    """A name as restic writes it (Go's strconv.Quote without the quotes), as bytes."""
    plain = text.encode()
    return ESCAPE.sub(_unescaped, plain) if b"\\" in plain else plain


def _unescaped(found: re.Match[bytes]) -> bytes:
    word = found[1]
    if word[:1] == b"x":
        return bytes([int(word[1:], 16)])
    if word[:1] in b"uU":
        return chr(int(word[1:], 16)).encode()
    if len(word) == 3:
        return bytes([int(word, 8)])
    return SHORT.get(word, word)


def nanoseconds(text: str) -> int:
    """RFC 3339 with up to nine digits of a second; as Go counts them, modulo 2^64."""
    zone, part = text[19:], 0
    if zone[:1] == ".":
        digits = zone[1:].rstrip("Z").partition("+")[0].partition("-")[0]
        part, zone = int(digits.ljust(9, "0")), zone[1 + len(digits) :]
    gone = datetime.fromisoformat(text[:19] + ("+00:00" if zone == "Z" else zone)) - EPOCH
    total = (gone.days * 86_400 + gone.seconds) * SECOND + part
    return (total + (1 << 63)) % (1 << 64) - (1 << 63)
