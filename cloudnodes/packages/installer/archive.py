"""The ZIP of a package, byte for byte: stored entries in a row, fixed times and modes, ZIP64 where a number needs it.

There is exactly one right form, so reading compares every header with the one that should be there: a flipped bit
anywhere, hidden data between entries, links, climbing paths and compressed bombs are all refused by the same check.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import zlib
from typing import BinaryIO, Dict, Iterator, List, NamedTuple, Tuple

from cloudnodes.packages.installer.problems import REFUSED, InstallProblem

MANIFEST, MANIFEST_SUM, SIGNATURE, INSTALLER = "manifest.json", "manifest.sha256", "manifest.sig", "install.py"
# The only files that the manifest does not list.
OUTSIDE_MANIFEST = (MANIFEST, MANIFEST_SUM, SIGNATURE)
CHUNK = 4 * 1024 * 1024
MAX_SMALL_FILE = 16 * 1024 * 1024
MAX_DIRECTORY = 64 * 1024 * 1024
MAX_16, MAX_32 = 0xFFFF, 0xFFFFFFFF
# 1980-01-01 00:00, the earliest time that a ZIP can say.
DOS_TIME, DOS_DATE = 0, 0x21
_SAFE_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,127}){0,5}")
_DEVICES = re.compile(r"(?i)(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?")


class Entry(NamedTuple):
    """One file of the archive; `offset` is that of its local header."""

    path: str
    size: int
    crc32: int
    offset: int

    @property
    def data_offset(self) -> int:
        return self.offset + len(local_header(self.path, self.size, self.crc32))


def refuse(code: str, message: str) -> InstallProblem:
    return InstallProblem(
        code,
        message,
        REFUSED,
        "Copy the package again from where it was built; `install.py verify` there shows whether it is whole.",
    )


def check_path(path: str) -> str:
    """Return a path that stays inside its folder on every system; refuses all others."""
    parts = path.split("/")
    if not _SAFE_PATH.fullmatch(path) or any(p.endswith(".") or _DEVICES.fullmatch(p) for p in parts):
        raise refuse("unsafe_path", "The package holds a file with an unsafe name: %r." % path[:200])
    return path


def mode_of(path: str) -> int:
    return 0o100755 if path == INSTALLER else 0o100644


def local_header(path: str, size: int, crc32: int) -> bytes:
    name = path.encode("ascii")
    large = size >= MAX_32
    extra = struct.pack("<HHQQ", 1, 16, size, size) if large else b""
    shown = MAX_32 if large else size
    return (
        struct.pack(
            "<4sHHHHHIIIHH",
            b"PK\x03\x04",
            45 if large else 20,
            0,
            0,
            DOS_TIME,
            DOS_DATE,
            crc32,
            shown,
            shown,
            len(name),
            len(extra),
        )
        + name
        + extra
    )


def central_header(entry: Entry) -> bytes:
    name = entry.path.encode("ascii")
    large, far = entry.size >= MAX_32, entry.offset >= MAX_32
    values = ([entry.size, entry.size] if large else []) + ([entry.offset] if far else [])
    extra = struct.pack("<HH%dQ" % len(values), 1, 8 * len(values), *values) if values else b""
    shown, offset = (MAX_32 if large else entry.size), (MAX_32 if far else entry.offset)
    return (
        struct.pack(
            "<4sHHHHHHIIIHHHHHII",
            b"PK\x01\x02",
            (3 << 8) | 45,
            45 if values else 20,
            0,
            0,
            DOS_TIME,
            DOS_DATE,
            entry.crc32,
            shown,
            shown,
            len(name),
            len(extra),
            0,
            0,
            0,
            mode_of(entry.path) << 16,
            offset,
        )
        + name
        + extra
    )


def end_records(count: int, size: int, offset: int) -> bytes:
    """What closes an archive whose central directory has `count` entries in `size` bytes at `offset`."""
    large = count >= MAX_16 or size >= MAX_32 or offset >= MAX_32
    tail = b""
    if large:
        tail = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, (3 << 8) | 45, 45, 0, 0, count, count, size, offset)
        tail += struct.pack("<4sIQI", b"PK\x06\x07", 0, offset + size, 1)
    shown = MAX_16 if large else count
    return tail + struct.pack(
        "<4sHHHHIIH", b"PK\x05\x06", 0, 0, shown, shown, MAX_32 if large else size, MAX_32 if large else offset, 0
    )


class ZipSource:
    """A package as one ZIP file. Opening it proves the form of the archive, not yet the contents."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.length = os.stat(path).st_size
        with open(path, "rb") as file:
            self.entries = _read_entries(file, self.length)

    def names(self) -> List[str]:
        return list(self.entries)

    def size(self, path: str) -> int:
        return self.entries[path].size

    def chunks(self, path: str, chunk: int = CHUNK) -> Iterator[bytes]:
        """The bytes of one file, in pieces. Safe to use from several threads."""
        entry = self.entries[path]
        with open(self.path, "rb", buffering=0) as file:
            file.seek(entry.data_offset)
            yield from _pieces(file, entry.size, chunk, path)

    def views(self, path: str, buffer: memoryview) -> Iterator[memoryview]:
        """The same bytes, each piece in the buffer over the one before: nothing is set aside anew for each."""
        entry = self.entries[path]
        with open(self.path, "rb", buffering=0) as file:
            yield from _views(file, entry.data_offset, entry.size, buffer, path)

    def check_outside(self, path: str, data: bytes) -> None:
        """Compare a file that no manifest vouches for with the checksum in the archive."""
        if zlib.crc32(data) != self.entries[path].crc32:
            raise refuse("damaged", "The package is damaged: %s does not match its checksum." % path)

    def check_listed(self, path: str, crc32: int) -> None:
        if self.entries[path].crc32 != crc32:
            raise refuse("damaged", "The package is damaged: the archive and the manifest disagree about %s." % path)

    def check_names(self, listed: List[str]) -> None:
        """The archive holds what the manifest lists, in its order, and nothing else."""
        inside = [name for name in self.entries if name not in OUTSIDE_MANIFEST]
        if inside != listed:
            odd = sorted(set(inside) ^ set(listed)) or inside
            raise refuse(
                "wrong_files", "The package does not hold the files that its manifest lists: %s." % ", ".join(odd[:3])
            )


class FolderSource:
    """A package that was unpacked into a folder. Files that the manifest does not list are left alone."""

    def __init__(self, path: str) -> None:
        self.path = path

    def names(self) -> List[str]:
        return [name for name in OUTSIDE_MANIFEST if os.path.lexists(os.path.join(self.path, name))]

    def size(self, path: str) -> int:
        return self._stat(path).st_size

    def chunks(self, path: str, chunk: int = CHUNK) -> Iterator[bytes]:
        size = self._stat(path).st_size
        with open(os.path.join(self.path, *path.split("/")), "rb", buffering=0) as file:
            yield from _pieces(file, size, chunk, path)

    def views(self, path: str, buffer: memoryview) -> Iterator[memoryview]:
        size = self._stat(path).st_size
        with open(os.path.join(self.path, *path.split("/")), "rb", buffering=0) as file:
            yield from _views(file, 0, size, buffer, path)

    def check_outside(self, path: str, data: bytes) -> None:
        """Nothing but the digest of the manifest vouches for it here, and that is checked anyway."""

    def check_listed(self, path: str, crc32: int) -> None:
        self._stat(path)

    def check_names(self, listed: List[str]) -> None:
        for path in listed:
            self._stat(path)

    def _stat(self, path: str) -> os.stat_result:
        """The file's facts; refuses links anywhere on the way to it, and everything that is not a plain file."""
        place = self.path
        *folders, name = check_path(path).split("/")
        for folder in folders:
            place = os.path.join(place, folder)
            if not stat.S_ISDIR(self._look(place, path).st_mode):
                raise refuse("wrong_files", "%s is not in a folder." % path)
        facts = self._look(os.path.join(place, name), path)
        if not stat.S_ISREG(facts.st_mode):
            raise refuse("wrong_files", "%s is not a plain file." % path)
        return facts

    @staticmethod
    def _look(place: str, path: str) -> os.stat_result:
        try:
            facts = os.lstat(place)
        except OSError:
            raise refuse("wrong_files", "The unpacked package lacks %s." % path) from None
        if stat.S_ISLNK(facts.st_mode):
            raise refuse("link", "The unpacked package holds a link: %s." % path)
        return facts


def _pieces(file: BinaryIO, size: int, chunk: int, path: str) -> Iterator[bytes]:
    while size:
        data = file.read(min(chunk, size))
        if not data:
            raise refuse("damaged", "The package ends in the middle of %s." % path)
        size -= len(data)
        yield data


def _views(file: BinaryIO, offset: int, size: int, buffer: memoryview, path: str) -> Iterator[memoryview]:
    """Pieces in one buffer; the system reads the next while the caller works on this one."""
    file.seek(offset)
    while size:
        count = file.readinto(buffer[: min(len(buffer), size)])  # type: ignore[attr-defined]
        if not count:
            raise refuse("damaged", "The package ends in the middle of %s." % path)
        offset, size = offset + count, size - count
        if size and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), offset, min(len(buffer), size), os.POSIX_FADV_WILLNEED)
        yield buffer[:count]


def _read_entries(file: BinaryIO, length: int) -> Dict[str, Entry]:
    """Every entry in the order of the directory, after each byte that is not content was compared."""
    count, size, offset, tail = _read_end(file, length)
    if size > MAX_DIRECTORY or offset + size + tail != length:
        raise refuse("damaged", "The package is damaged: its directory is not where it should be.")
    file.seek(offset)
    directory = file.read(size)
    entries: Dict[str, Entry] = {}
    position = 0
    for _ in range(count):
        entry, position = _parse_central(directory, position)
        if entry.path in entries:
            raise refuse("duplicate", "The package holds %s twice." % entry.path)
        entries[entry.path] = entry
    _check_layout(file, entries, directory, offset)
    file.seek(offset + size)
    if file.read() != end_records(count, size, offset):
        raise refuse("damaged", "The package is damaged at its end.")
    return entries


def _read_end(file: BinaryIO, length: int) -> Tuple[int, int, int, int]:
    """Entries, size and offset of the directory, and the length of what follows it."""
    if length < 22:
        raise refuse("not_a_package", "This is not an install package: the file is too short.")
    file.seek(max(0, length - 98))
    tail = file.read()
    end = tail[-22:]
    if end[:4] != b"PK\x05\x06":
        raise refuse("not_a_package", "This is not an install package, or its end was cut off.")
    count, size, offset = struct.unpack("<HII", end[10:20])
    if MAX_16 not in (count,) and MAX_32 not in (size, offset):
        return count, size, offset, 22
    if len(tail) < 98 or tail[:4] != b"PK\x06\x06":
        raise refuse("damaged", "The package is damaged at its end.")
    count, size, offset = struct.unpack("<QQQ", tail[32:56])
    return count, size, offset, 98


def _parse_central(directory: bytes, position: int) -> Tuple[Entry, int]:
    """One entry of the directory and where the next begins. Says what is wrong with foreign or hostile ones."""
    fixed = directory[position : position + 46]
    if len(fixed) < 46 or fixed[:4] != b"PK\x01\x02":
        raise refuse("damaged", "The package is damaged: its directory cannot be read.")
    flags, method = struct.unpack("<HH", fixed[8:12])
    crc32, packed, size, name_length, extra_length, comment_length = struct.unpack("<IIIHHH", fixed[16:34])
    attributes, offset = struct.unpack("<II", fixed[38:46])
    start = position + 46
    path = directory[start : start + name_length].decode("latin-1")
    check_path(path)
    kind = stat.S_IFMT(attributes >> 16)
    if kind == stat.S_IFLNK:
        raise refuse("link", "The package holds a symbolic link: %s." % path)
    if kind not in (0, stat.S_IFREG):
        raise refuse("special_file", "%s is not a plain file." % path)
    if flags & 1:
        raise refuse("encrypted", "%s is encrypted; packages are not." % path)
    if method != 0 or packed != size:
        raise refuse("compressed", "%s is compressed or says two sizes; packages store files as they are." % path)
    extra = directory[start + name_length : start + name_length + extra_length]
    values = (
        list(struct.unpack("<%dQ" % ((len(extra) - 4) // 8), extra[4 : 4 + (len(extra) - 4) // 8 * 8]))
        if len(extra) >= 12
        else []
    )
    if size == MAX_32 and len(values) >= 2:
        size, values = values[0], values[2:]
    if offset == MAX_32 and values:
        offset = values[0]
    return Entry(path, size, crc32, offset), start + name_length + extra_length + comment_length


def _check_layout(file: BinaryIO, entries: Dict[str, Entry], directory: bytes, end: int) -> None:
    """Entries follow one another without a gap, and each header is exactly the one that belongs there."""
    position = 0
    for entry in entries.values():
        if entry.offset != position or entry.size > end - position:
            raise refuse("bad_size", "The package is damaged, or %s says a size that it does not have." % entry.path)
        header = local_header(entry.path, entry.size, entry.crc32)
        file.seek(position)
        if file.read(len(header)) != header:
            raise refuse("damaged", "The package is damaged before %s." % entry.path)
        position += len(header) + entry.size
    if position != end or b"".join(central_header(e) for e in entries.values()) != directory:
        raise refuse(
            "damaged",
            "The package is damaged, or was packed again by another program. Unpacked into a folder it can be used as well.",
        )
