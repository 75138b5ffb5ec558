"""Putting a snapshot's entries on the disk as `restic restore` does, on all cores, and hashing each file on its way.

A file's SHA-256 is of the bytes as they are handed to the kernel, in their order, after each piece was checked under the
repository's key; where packs come over a line, pieces come in any order, and it is of the file read back as it grows.
Its size and permissions are asked of the kernel when the last byte is written. That proves that what the machine had
before the backup is what was written here. It does not prove what the disk makes of it later, and reading it back at
once, out of the kernel's memory, proves no more. Files of one content are written from one memory and share a hash.

Memory: a few MiB for each thread, whatever the size of a file, and about half a kilobyte for each entry.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import accumulate

from agent.machine.manifest import BLOCK, Entry
from agent.machine.repository import AT_ONCE, Index, Node, Reader, Repository, Run, Surprise, surprises

MOST_THREADS = 4
MOST_OPEN = 64
PIECE = 64
CREATE = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
AGAIN = os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
Task = Callable[[Reader], int]
Watch = Callable[[int], None]


class _Growing:
    """Files of one content, whose pieces come in any order. What has come from the beginning on is read and hashed."""

    def __init__(self, index: Index, content: tuple[int, ...], nodes: list[Node]) -> None:
        self.content, self.nodes = content, nodes
        self.starts = [0, *accumulate(map(index.size, content))]
        self.handles: list[int] = []
        self.sha256 = hashlib.sha256()
        self.lock, self.hashing = threading.Lock(), threading.Lock()
        self._there, self._ready, self._left, self._hashed = bytearray(len(content)), 0, len(content), 0

    def put(self, n: int) -> bool:
        """Note that a piece is written; True for the last."""
        with self.lock:
            self._there[n] = 1
            self._left -= 1
            while self._ready < len(self._there) and self._there[self._ready]:
                self._ready += 1
            return not self._left

    def hash_on(self) -> None:
        """As far as it has come. For whoever holds `hashing`."""
        block = memoryview(bytearray(min(BLOCK, self.starts[-1])))
        while self._hashed < (end := self.starts[self._ready]):
            got = os.preadv(self.handles[0], [block[: end - self._hashed]], self._hashed)
            if not got:
                raise Surprise(f"{self.nodes[0].path!r} was cut off while it came")
            self.sha256.update(block[:got])
            self._hashed += got

    def close(self) -> None:
        """Its files, whole or not."""
        while self.handles:
            os.close(self.handles.pop())


class Placing:
    """One restore. `wanted` are the hashes that were made before the backup, by path. Every method raises Surprise."""

    def __init__(self, repository: Repository, nodes: Iterable[Node], target: str, wanted: Mapping[str, Entry]) -> None:
        self._repository, self._wanted = repository, wanted
        self._target = os.fsencode(target.rstrip("/"))
        self._folders: list[Node] = []
        self._others: list[Node] = []
        self._files: list[Node] = []
        self._links: dict[bytes, list[Node]] = {}
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._growing: list[_Growing] = []
        self.found: dict[str, Entry] = {}
        self.done = 0
        self._sort(nodes)

    def _sort(self, nodes: Iterable[Node]) -> None:
        named: dict[tuple[int, int], list[Node]] = {}
        for node in nodes:
            if node.kind == "d":
                self._folders.append(node)
            elif node.kind != "f":
                self._others.append(node)
            elif node.inode is None:
                self._files.append(node)
            else:
                named.setdefault(node.inode, []).append(node)
        for names in named.values():
            # the first as restic goes through the tree is the file, the others are links to it
            first, *others = sorted(names, key=lambda n: n.path.split(b"/"))
            self._files.append(first)
            self._links[first.path] = others

    def names(self, node: Node) -> Iterator[str]:
        """The file's path and those of its hard links."""
        yield os.fsdecode(node.path)
        for other in self._links.get(node.path, ()):
            yield os.fsdecode(other.path)

    def files(self, asked: Callable[[str], bool], but: Iterable[Node] = ()) -> list[Node]:
        """The files one of whose names is asked for, without those of an earlier answer."""
        had = {node.path for node in but}
        return [node for node in self._files if node.path not in had and any(map(asked, self.names(node)))]

    def content(self, node: Node) -> bytes:
        """A small file, without writing it."""
        with surprises():
            reader = self._repository.reader()
            try:
                return b"".join(
                    bytes(plain)
                    for place in node.content
                    for run in self._repository.index.runs([place])
                    for _, plain in reader.blobs(run)
                )
            finally:
                reader.close()

    # folders ------------------------------------------------------------------------------------------------

    def make_folders(self) -> None:
        """Those that are not there, with the saved permissions and the right to write into them."""
        with surprises():
            os.makedirs(self._target or b"/", 0o700, exist_ok=True)  # noqa: PTH103  bytes: any name
            for node in self._folders:
                path = self._target + node.path
                try:
                    os.mkdir(path, node.mode & 0o777 | 0o700)  # noqa: PTH102
                except FileExistsError:
                    if not os.path.isdir(path):  # noqa: PTH112
                        raise Surprise(f"{path!r} is in the way") from None
                else:
                    _own(path, node)
                    os.chmod(path, node.mode | 0o700)  # noqa: PTH101

    def parents(self, files: Iterable[Node]) -> set[bytes]:
        """The folders whose times change when these files come."""
        return {
            path.rpartition(b"/")[0]
            for node in files
            for path in (node.path, *(n.path for n in self._links.get(node.path, ())))
        }

    def settle_folders(self, asked: Callable[[bytes], bool]) -> None:
        """Owner, permissions, attributes and times of folders, the deepest first, once nothing more comes into them."""
        with surprises():
            for node in reversed(self._folders):
                if asked(node.path):
                    path = self._target + node.path
                    _own(path, node)
                    if stat.S_IMODE(os.stat(path).st_mode) != node.mode:  # noqa: PTH116
                        os.chmod(path, node.mode)  # noqa: PTH101
                    _attributes(path, node)
                    os.utime(path, ns=(node.atime, node.mtime))

    # links, pipes and devices -------------------------------------------------------------------------------

    def place_others(self) -> None:
        """Symbolic links, pipes and devices."""
        with surprises():
            for node in self._others:
                path = self._target + node.path
                with suppress(FileNotFoundError):
                    os.unlink(path)  # noqa: PTH108
                if node.kind == "l":
                    os.symlink(node.target, path)  # noqa: PTH211
                elif node.kind == "p":
                    os.mkfifo(path, 0o600)
                else:
                    os.mknod(path, 0o600 | (stat.S_IFBLK if node.kind == "b" else stat.S_IFCHR), node.device)
                _own(path, node)
                if node.kind != "l":
                    os.chmod(path, node.mode)  # noqa: PTH101
                _attributes(path, node)
                os.utime(path, ns=(node.atime, node.mtime), follow_symlinks=False)

    # files --------------------------------------------------------------------------------------------------

    def bring(self, files: list[Node], watch: Watch, nice: int = 0) -> None:
        """Write these files and their hard links; `found` holds an entry for each name afterwards.

        `watch` is called twice a second with the bytes so far. `nice` is by how much the threads give way to others.
        """
        with surprises():
            try:
                self._on_threads(self._tasks(files), watch, nice)
            finally:
                for file in self._growing:
                    file.close()
                self._growing = []
            for node in files:
                for other in self._links.get(node.path, ()):
                    self._link(node, other)

    def _tasks(self, files: list[Node]) -> list[Task]:
        index = self._repository.index
        empty = [node for node in files if not node.content]
        single: dict[int, list[Node]] = {}
        several: dict[tuple[int, ...], list[Node]] = {}
        for node in files:
            if len(node.content) == 1:
                single.setdefault(node.content[0], []).append(node)
            elif node.content:
                several.setdefault(node.content, []).append(node)
        tasks: list[Task] = [self._empties(empty[n : n + PIECE]) for n in range(0, len(empty), PIECE)]
        tasks += [self._singles(run, single) for run in index.runs(single, self._repository.far)]
        if self._repository.far:
            return tasks + self._by_packs(several)
        for content, nodes in sorted(several.items(), key=lambda row: (index.pack[row[0][0]], index.offset[row[0][0]])):
            tasks += [self._several(content, nodes[n : n + MOST_OPEN]) for n in range(0, len(nodes), MOST_OPEN)]
        return tasks

    def _on_threads(self, tasks: list[Task], watch: Watch, nice: int) -> None:
        todo = iter(tasks)

        def work() -> None:
            if nice:
                me = threading.get_native_id()
                with suppress(OSError):
                    os.setpriority(os.PRIO_PROCESS, me, os.getpriority(os.PRIO_PROCESS, me) + nice)
            reader = self._repository.reader()
            try:
                while not self._stop.is_set():
                    with self._lock:
                        task = next(todo, None)
                    if task is None:
                        return
                    done = task(reader)
                    with self._lock:
                        self.done += done
            except BaseException:
                self._stop.set()
                raise
            finally:
                reader.close()

        threads = min(len(tasks), self._repository.lines or min(MOST_THREADS, max(2, len(os.sched_getaffinity(0)))))
        if not threads:
            return
        with ThreadPoolExecutor(threads) as pool:
            running = [pool.submit(work) for _ in range(threads)]
            try:
                while wait(running, 0.5, FIRST_EXCEPTION).not_done and not self._stop.is_set():
                    watch(self.done)
            except BaseException:
                self._stop.set()
                raise
        for one in running:
            one.result()

    def _empties(self, nodes: list[Node]) -> Task:
        def task(_: Reader) -> int:
            nothing = hashlib.sha256(b"").hexdigest()
            for node in nodes:
                handle = self._create(node)
                try:
                    self._finish(handle, node, nothing)
                finally:
                    os.close(handle)
            return 0

        return task

    def _singles(self, run: Run, wanting: Mapping[int, list[Node]]) -> Task:
        """Files of one piece each: their hash is that piece's name."""

        def task(reader: Reader) -> int:
            total = 0
            for place, plain in reader.blobs(run):
                sha256 = hashlib.sha256(plain)
                if sha256.digest() != self._repository.index.ids[place]:
                    raise Surprise("a piece is not the one that is named")
                for node in wanting[place]:
                    handle = self._create(node)
                    try:
                        _write(handle, plain, 0)
                        self._finish(handle, node, sha256.hexdigest())
                    finally:
                        os.close(handle)
                    total += len(plain)
            return total

        return task

    def _by_packs(self, several: Mapping[tuple[int, ...], list[Node]]) -> list[Task]:
        """Each pack in one go, its pieces written wherever they are wanted."""
        index = self._repository.index
        wanting: dict[int, list[tuple[_Growing, int]]] = {}
        self._growing = [_Growing(index, content, nodes) for content, nodes in several.items()]
        for file in self._growing:
            for n, place in enumerate(file.content):
                wanting.setdefault(place, []).append((file, n))

        def of(run: Run) -> Task:
            def task(reader: Reader) -> int:
                total = 0
                for place, plain in reader.blobs(run):
                    if self._stop.is_set():
                        break
                    for file, n in wanting[place]:
                        self._put(file, n, plain)
                        total += len(plain) * len(file.nodes)
                return total

            return task

        return [of(run) for run in index.runs(wanting, far=True)]

    def _put(self, file: _Growing, n: int, plain: memoryview) -> None:
        with file.lock:
            if not file.handles:
                file.handles += [self._create(node, os.O_RDWR) for node in file.nodes]
        for handle in file.handles:
            _write(handle, plain, file.starts[n])
        last = file.put(n)
        if file.hashing.acquire(blocking=last):  # who finds another at it leaves it to that one, or to the last
            try:
                file.hash_on()
            finally:
                file.hashing.release()
        if last:
            for handle, node in zip(file.handles, file.nodes, strict=True):
                self._finish(handle, node, file.sha256.hexdigest())
            file.close()

    def _several(self, content: tuple[int, ...], nodes: list[Node]) -> Task:
        """Files of the same pieces: read once, window by window, in the order of the file."""

        def task(reader: Reader) -> int:
            handles = [self._create(node) for node in nodes]
            try:
                sha256 = self._through(reader, content, handles, all(_path(n) in self._wanted for n in nodes))
                if sha256:
                    for handle, node in zip(handles, nodes, strict=True):
                        self._finish(handle, node, sha256)
            finally:
                for handle in handles:
                    os.close(handle)
            return nodes[0].size * len(nodes) if sha256 else 0

        return task

    def _through(self, reader: Reader, content: tuple[int, ...], handles: list[int], hashed: bool) -> str:
        """The hash of what was written, or "" when it was stopped. Not `hashed`: each piece is checked by its name."""
        index = self._repository.index
        whole, upto = hashlib.sha256(), 0
        for window in self._windows(content):
            if self._stop.is_set():
                return ""
            lies = reader.fetch_all(index.runs(window))
            last, plain = -1, memoryview(b"")
            for place in window:
                if place != last:
                    last, plain = place, reader.open(place, lies[place])
                    if not hashed and hashlib.sha256(plain).digest() != index.ids[place]:
                        raise Surprise("a piece is not the one that is named")
                whole.update(plain)
                for handle in handles:
                    _write(handle, plain, upto)
                upto += len(plain)
        return whole.hexdigest()

    def _windows(self, content: tuple[int, ...]) -> Iterator[list[int]]:
        """Pieces that follow each other; the same one comes twice only at once after itself, for it opens once."""
        index, window, seen, size = self._repository.index, list[int](), set[int](), 0
        for place in content:
            again = bool(window) and place == window[-1]
            if window and not again and (place in seen or size + index.length[place] > AT_ONCE):
                yield window
                window, seen, size = [], set(), 0
            window.append(place)
            if not again:
                seen.add(place)
                size += index.length[place]
        if window:
            yield window

    def _create(self, node: Node, access: int = os.O_WRONLY) -> int:
        """A new file, never with more rights than it had. What lies at its name is taken away, not written into."""
        path, mode = self._target + node.path, node.mode & 0o777
        try:
            return os.open(path, access | CREATE, mode)
        except FileExistsError:
            try:
                os.unlink(path)  # noqa: PTH108
                return os.open(path, access | CREATE, mode)
            except OSError as bad:
                if bad.errno not in (errno.EBUSY, errno.EPERM, errno.EACCES):
                    raise
                return os.open(path, access | AGAIN, mode)  # something is mounted there

    def _finish(self, handle: int, node: Node, sha256: str) -> None:
        """Owner, permissions, attributes and times; then what the kernel says of it goes to `found`."""
        facts = os.fstat(handle)
        other = (facts.st_uid, facts.st_gid) != (node.uid, node.gid)
        if other:
            _own(handle, node)
        if other or stat.S_IMODE(facts.st_mode) != node.mode:
            os.fchmod(handle, node.mode)
            other = True
        if node.xattrs:
            _attributes(handle, node)
        os.utime(handle, ns=(node.atime, node.mtime))
        if other or node.xattrs:
            facts = os.fstat(handle)
        self._note(node, facts, sha256)

    def _note(self, node: Node, facts: os.stat_result, sha256: str) -> None:
        path = _path(node)
        wanted = self._wanted.get(path)
        if wanted is not None and wanted.sha256 != sha256:
            raise Surprise(f"{path!r} is not what was saved")
        self.found[path] = Entry(path, "f", stat.S_IMODE(facts.st_mode), facts.st_size, sha256)

    def _link(self, first: Node, node: Node) -> None:
        source, path = self._target + first.path, self._target + node.path
        with suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108
        os.link(source, path, follow_symlinks=False)
        self._note(node, os.lstat(path), self.found[_path(first)].sha256)


def _path(node: Node) -> str:
    return os.fsdecode(node.path)


def _write(handle: int, data: memoryview, at: int) -> None:
    while data:
        done = os.pwrite(handle, data, at)
        data, at = data[done:], at + done


def _own(of: bytes | int, node: Node) -> None:
    """Restic goes on when only root may give a file away, and so do we."""
    try:
        if isinstance(of, int):
            os.fchown(of, node.uid, node.gid)
        else:
            os.lchown(of, node.uid, node.gid)
    except PermissionError:
        if os.geteuid() == 0:
            raise


def _attributes(of: bytes | int, node: Node) -> None:
    for name, value in node.xattrs:
        try:
            if isinstance(of, int):
                os.setxattr(of, name, value)
            else:
                os.setxattr(of, name, value, follow_symlinks=False)
        except OSError as bad:
            if bad.errno != errno.ENOTSUP:
                raise
