"""What a package says about itself: its manifest, read strictly, and whether its files are what the manifest says."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import re
import threading
from typing import Any, Callable, Dict, Generator, Iterator, List, NamedTuple, Optional, Union

from cloudnodes.packages.installer.archive import (
    MANIFEST,
    MANIFEST_SUM,
    MAX_SMALL_FILE,
    OUTSIDE_MANIFEST,
    SIGNATURE,
    FolderSource,
    ZipSource,
    check_path,
    refuse,
)
from cloudnodes.packages.installer.ed25519 import signature_holds

FORMAT, VERSION = "curfew-install-package", 1
# What is hashed at a time: small enough for the processor's cache, large enough to let go of the interpreter for.
PIECE = 1024 * 1024
Source = Union[ZipSource, FolderSource]
Progress = Callable[[int, int, str], None]
_HEX = re.compile(r"[0-9a-f]{64}")
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,58}[a-z0-9])?")
_REFERENCE = re.compile(r"[a-z0-9][A-Za-z0-9._:/-]{0,250}:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_HEALTH_PATH = re.compile(r"(?:/[A-Za-z0-9._~/?=&%-]{0,199})?")
_TIER = re.compile(r"[a-z0-9-]{0,40}")


class File(NamedTuple):
    path: str
    size: int
    sha256: str
    crc32: int


class Layer(NamedTuple):
    """One layer of an image: its diff-id as hex, and the file with its tar (named after it), None when an earlier
    package has brought it."""

    diff_id: str
    file: Optional[str]


class Image(NamedTuple):
    reference: str
    config: str
    config_file: str
    layers: List[Layer]


class Node(NamedTuple):
    """One container to create. `credentials` are names of variables, never their values."""

    name: str
    slug: str
    image: str
    port: int
    container_port: int
    network: str
    gpu: bool
    gpu_tier: str
    health_path: str
    environment: Dict[str, str]
    gpu_environment: Dict[str, str]
    credentials: List[str]


class Manifest(NamedTuple):
    sha256: str
    title: str
    created: str
    architecture: str
    base: Optional[str]
    images: Dict[str, Image]
    nodes: List[Node]
    files: Dict[str, File]


class Signature(NamedTuple):
    """`state` is `trusted` (by a key that was given), `valid` (by a key nobody vouched for) or `unsigned`."""

    state: str
    public_key: str


def open_source(path: str) -> Source:
    """A package from its ZIP or from the folder that it was unpacked into."""
    if os.path.isdir(path):
        return FolderSource(path)
    if not os.path.isfile(path):
        raise refuse("not_found", "There is no package at %s." % path)
    return ZipSource(path)


def read_small(source: Source, path: str) -> bytes:
    if path not in source.names() and path in OUTSIDE_MANIFEST:
        raise refuse("not_a_package", "This is not an install package: it holds no %s." % path)
    if source.size(path) > MAX_SMALL_FILE:
        raise refuse("bad_size", "%s is larger than any package's." % path)
    return b"".join(source.chunks(path))


def read_manifest(source: Source) -> Manifest:
    """The manifest, after its own digest, its form and the list of files were checked."""
    raw = read_small(source, MANIFEST)
    source.check_outside(MANIFEST, raw)
    said = read_small(source, MANIFEST_SUM)
    source.check_outside(MANIFEST_SUM, said)
    digest = hashlib.sha256(raw).hexdigest()
    if said != ("%s  %s\n" % (digest, MANIFEST)).encode():
        raise refuse("damaged", "The package is damaged: the manifest is not what its checksum says.")
    try:
        found = json.loads(raw.decode("utf-8"))
        manifest = _parse(found, digest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as wrong:
        raise refuse(
            "bad_manifest", "The manifest cannot be understood (%s: %s)." % (type(wrong).__name__, wrong)
        ) from None
    source.check_names(list(manifest.files))
    for file in manifest.files.values():
        source.check_listed(file.path, file.crc32)
        if source.size(file.path) != file.size:
            raise refuse("bad_size", "The package is damaged: %s has another size than the manifest says." % file.path)
    return manifest


def check_signature(source: Source, public_key: str = "", required: bool = False) -> Signature:
    """Verify the signature over the manifest, if there is one. A wrong one is always refused; so is a missing or
    foreign one when a public key was given or a signature is required."""
    if SIGNATURE not in source.names():
        if public_key or required:
            raise refuse("unsigned", "The package is not signed, but a signature was asked for.")
        return Signature("unsigned", "")
    raw = read_small(source, SIGNATURE)
    source.check_outside(SIGNATURE, raw)
    try:
        said = json.loads(raw.decode("ascii"))
        key, signature, algorithm = (
            bytes.fromhex(said["public_key"]),
            bytes.fromhex(said["signature"]),
            said["algorithm"],
        )
    except (ValueError, KeyError, TypeError):
        raise refuse("bad_signature", "The signature cannot be understood.") from None
    if algorithm != "Ed25519" or not signature_holds(key, read_small(source, MANIFEST), signature):
        raise refuse("bad_signature", "The signature does not belong to this package.")
    if public_key and key.hex() != public_key.strip().lower():
        raise refuse("foreign_signature", "The package is signed, but by another key: %s." % key.hex())
    return Signature("trusted" if public_key else "valid", key.hex())


def verify_files(source: Source, manifest: Manifest, progress: Optional[Progress] = None) -> int:
    """Compare the SHA-256 of every file with the manifest; the number of bytes read. Refuses at the first that differs.
    Two files at a time; `progress` is called in the caller's own thread, and may raise to stop."""
    total = sum(f.size for f in manifest.files.values())
    check = _Check(source, sorted(manifest.files.values(), key=lambda f: f.size, reverse=True))
    workers = [threading.Thread(target=check.work, daemon=True) for _ in range(2)]
    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            while worker.is_alive():
                worker.join(0.05)
                if progress:
                    progress(check.done(), total, "Verifying")
    finally:
        check.stopped.set()
        for worker in workers:
            worker.join()
    if check.failures:
        raise check.failures[0]
    if progress:
        progress(total, total, "Verifying")
    return total


class _Check:
    """Hashing files in several threads until one is not what it should be."""

    def __init__(self, source: Source, files: List[File]) -> None:
        self._source = source
        self._waiting = files
        self._lock = threading.Lock()
        self._bytes: Dict[int, int] = {}
        self.stopped = threading.Event()
        self.failures: List[BaseException] = []

    def done(self) -> int:
        return sum(self._bytes.copy().values())

    def work(self) -> None:
        buffer = memoryview(bytearray(PIECE))
        try:
            while not self.stopped.is_set():
                with self._lock:
                    if not self._waiting:
                        return
                    file = self._waiting.pop(0)
                self._hash(file, buffer)
        except BaseException as failure:  # noqa: BLE001  raised by the thread that waits
            self.failures.append(failure)
            self.stopped.set()

    def _hash(self, file: File, buffer: memoryview) -> None:
        digest, me = hashlib.sha256(), threading.get_ident()
        for piece in self._source.views(file.path, buffer):
            digest.update(piece)
            self._bytes[me] = self._bytes.get(me, 0) + len(piece)
            if self.stopped.is_set():
                return
        if digest.hexdigest() != file.sha256:
            raise refuse("damaged", "The package is damaged: %s is not what the manifest says." % file.path)


class _Ahead:
    """Reads pieces in a thread of its own, a few ahead of whoever takes them."""

    def __init__(self, pieces: Iterator[bytes], depth: int) -> None:
        self._pieces = pieces
        self._waiting: "queue.Queue[Any]" = queue.Queue(maxsize=depth)
        self._stopped = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def take(self) -> Any:
        """The next piece, None after the last; raises what reading raised."""
        item = self._waiting.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        self._stopped.set()
        self._reader.join()

    def _read(self) -> None:
        try:
            for piece in self._pieces:
                self._put(piece)
                if self._stopped.is_set():
                    return
            self._put(None)
        except BaseException as failure:  # noqa: BLE001  handed to the caller, who raises it
            self._put(failure)

    def _put(self, item: Any) -> None:
        while not self._stopped.is_set() and not self._offer(item):
            continue

    def _offer(self, item: Any) -> bool:
        try:
            self._waiting.put(item, timeout=0.2)
        except queue.Full:
            return False
        return True


def read_ahead(pieces: Iterator[bytes], depth: int = 4) -> Generator[bytes, None, None]:
    """The same pieces, read by another thread while the caller works on the ones before."""
    ahead = _Ahead(pieces, depth)
    try:
        while True:
            piece = ahead.take()
            if piece is None:
                return
            yield piece
    finally:
        ahead.close()


def _parse(found: Any, digest: str) -> Manifest:
    if found["format"] != FORMAT:
        raise refuse("not_a_package", "This is not an install package of Curfew.")
    if found["version"] != VERSION:
        raise refuse("newer_format", "The package was made for a newer installer (format %s)." % found["version"])
    files = _files(found["files"])
    images = {i["reference"]: _image(i, files) for i in found["images"]}
    nodes = [_node(n, images) for n in found["nodes"]]
    if len({n.slug for n in nodes}) != len(nodes) or not nodes or len(images) != len(found["images"]):
        raise ValueError("nodes or images are listed twice, or not at all")
    base = found["base"]["sha256"] if found["base"] else None
    return Manifest(
        digest,
        _text(found["title"], 200),
        _text(found["created"], 40),
        _text(found["architecture"], 20),
        _hex(base) if base else None,
        images,
        nodes,
        files,
    )


def _files(listed: List[Any]) -> Dict[str, File]:
    files: Dict[str, File] = {}
    for item in listed:
        path = check_path(item["path"])
        if path.lower() in {p.lower() for p in OUTSIDE_MANIFEST} or path in files:
            raise refuse("duplicate", "The manifest lists %s twice." % path)
        files[path] = File(
            path, _number(item["size"], 0, 2**62), _hex(item["sha256"]), _number(item["crc32"], 0, 2**32 - 1)
        )
    if len({p.lower() for p in files}) != len(files):
        raise refuse("duplicate", "The manifest lists two files that differ in capital letters only.")
    return files


def _image(item: Any, files: Dict[str, File]) -> Image:
    config = _hex(item["config"])
    if files[item["config_file"]].sha256 != config:
        raise ValueError("the configuration of an image is not the file that it names")
    layers = []
    for layer in item["layers"]:
        diff_id, file = _hex(layer["diff_id"]), layer["file"]
        if file is not None and files[file].sha256 != diff_id:
            raise ValueError("a layer is not the file that it names")
        layers.append(Layer(diff_id, file))
    if not layers:
        raise ValueError("an image without layers")
    return Image(_match(_REFERENCE, item["reference"]), config, item["config_file"], layers)


def _node(item: Any, images: Dict[str, Image]) -> Node:
    for names in (item["environment"], item["gpu_environment"], item["credentials"]):
        for name in names:
            _match(_VARIABLE, name)
    for values in (item["environment"], item["gpu_environment"]):
        for value in values.values():
            _text(value, 4000)
    if item["network"] not in ("bridge", "host", "none") or item["gpu"] not in (True, False):
        raise ValueError("an unknown network or GPU setting")
    return Node(
        name=_text(item["name"], 120),
        slug=_match(_SLUG, item["slug"]),
        image=images[item["image"]].reference,
        port=_number(item["port"], 1, 65535),
        container_port=_number(item["container_port"], 1, 65535),
        network=item["network"],
        gpu=item["gpu"],
        gpu_tier=_match(_TIER, item["gpu_tier"]),
        health_path=_match(_HEALTH_PATH, item["health_path"]),
        environment=dict(item["environment"]),
        gpu_environment=dict(item["gpu_environment"]),
        credentials=list(item["credentials"]),
    )


def _match(pattern: "re.Pattern[str]", value: Any) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError("%r is not allowed here" % (value,))
    return value


def _hex(value: Any) -> str:
    return _match(_HEX, value)


def _number(value: Any, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError("%r is not a number between %d and %d" % (value, least, most))
    return value


def _text(value: Any, longest: int) -> str:
    if not isinstance(value, str) or len(value) > longest or any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise ValueError("%r is not a plain line of text" % (value,))
    return value
