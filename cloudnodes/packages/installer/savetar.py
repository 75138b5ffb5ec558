"""The archive of `docker save` and `docker load`, as a stream: one file after another, nothing kept in memory."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import tarfile
import tempfile
import zlib
from typing import Any, BinaryIO, Callable, Collection, Dict, Iterator, List, Optional, Tuple

from cloudnodes.packages.installer.archive import CHUNK, refuse
from cloudnodes.packages.installer.contents import Image, Source
from cloudnodes.packages.installer.engine import Docker
from cloudnodes.packages.installer.problems import DockerFailed

BLOCK = 512
_MAX_EXTENSION = 1024 * 1024
# Gives the file of a layer that the package does not hold.
Elsewhere = Callable[[str], BinaryIO]


class TarReader:
    """Walks a tar stream. `read` gives at most as many bytes as asked (or a view of them), and none at the end."""

    def __init__(self, read: Callable[[int], Any]) -> None:
        self._read = read

    def members(self) -> Iterator[Tuple[tarfile.TarInfo, Iterator[bytes]]]:
        """Each plain file or link with the pieces of its content, which need not be used up."""
        extended: Dict[str, str] = {}
        while True:
            block = self._exactly(BLOCK)
            if not block.strip(b"\0"):
                return
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            if info.type in (
                tarfile.XHDTYPE,
                tarfile.SOLARIS_XHDTYPE,
                tarfile.GNUTYPE_LONGNAME,
                tarfile.XGLTYPE,
                tarfile.GNUTYPE_LONGLINK,
            ):
                extended.update(self._extension(info))
                continue
            info.name = extended.get("path", info.name)
            info.size = int(extended.get("size", info.size))
            extended = {}
            size = info.size if info.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE) else 0
            pieces = self._pieces(size)
            yield info, pieces
            for _ in pieces:
                continue
            self._exactly(-size % BLOCK)

    def _pieces(self, size: int) -> Iterator[bytes]:
        while size:
            piece = self._read(min(CHUNK, size))
            if not piece:
                raise EOFError("the archive ends in the middle of a file")
            size -= len(piece)
            yield piece

    def _exactly(self, size: int) -> bytes:
        return b"".join(self._pieces(size))

    def _extension(self, info: tarfile.TarInfo) -> Dict[str, str]:
        """What a pax or GNU header says about the next file: its path and size are all that matters here."""
        if info.size > _MAX_EXTENSION:
            raise ValueError("an extended header of %d bytes" % info.size)
        data = self._exactly(info.size)
        self._exactly(-info.size % BLOCK)
        if info.type == tarfile.GNUTYPE_LONGNAME:
            return {"path": data.rstrip(b"\0").decode("utf-8", "surrogateescape")}
        if info.type in (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK):
            return {}
        found = {}
        while data.strip(b"\0"):
            length = int(data.split(b" ", 1)[0])
            if length < 5:
                raise ValueError("a broken extended header")
            name, _, value = data[:length].split(b" ", 1)[1].rstrip(b"\n").partition(b"=")
            found[name.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
            data = data[length:]
        return {key: found[key] for key in ("path", "size") if key in found}


def load_archive(
    source: Source, image: Image, tag: str, leave_out: Collection[str], elsewhere: Optional[Elsewhere]
) -> Iterator[bytes]:
    """What `docker load` reads: one image under one tag of ours. Content is hashed again on its way, and a file that
    changed since it was verified ends the archive in the middle. `leave_out` are diff-ids that the engine has."""
    written = set(leave_out)
    for layer in image.layers:
        if layer.diff_id in written:
            continue
        written.add(layer.diff_id)
        name = "%s/layer.tar" % layer.diff_id
        if layer.file is not None:
            yield from _member(name, source.size(layer.file), source.chunks(layer.file), layer.diff_id)
        elif elsewhere is not None:
            with elsewhere(layer.diff_id) as file:
                yield from _member(
                    name, os.fstat(file.fileno()).st_size, iter(lambda: file.read(CHUNK), b""), layer.diff_id
                )
        else:
            raise refuse("no_layer", "Layer %s is neither in the package nor in the engine." % layer.diff_id)
    config = b"".join(source.chunks(image.config_file))
    yield from _member("%s.json" % image.config, len(config), iter([config]), image.config)
    listing = json.dumps(
        [
            {
                "Config": "%s.json" % image.config,
                "RepoTags": [tag],
                "Layers": ["%s/layer.tar" % layer.diff_id for layer in image.layers],
            }
        ]
    ).encode()
    yield from _member("manifest.json", len(listing), iter([listing]), hashlib.sha256(listing).hexdigest())
    yield b"\0" * (2 * BLOCK)


def _member(name: str, size: int, pieces: Iterator[bytes], sha256: str) -> Iterator[bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    yield info.tobuf(tarfile.GNU_FORMAT)
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
        yield piece
    if digest.hexdigest() != sha256:
        raise refuse("changed", "%s changed while it was being read." % name)
    yield b"\0" * (-size % BLOCK)


def uncompressed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The tar of a layer as its diff-id counts it: engines with containerd's store save layers gzipped."""
    first = next(pieces, b"")
    if first[:4] == b"\x28\xb5\x2f\xfd":
        raise ValueError("a layer is packed with zstd, which cannot be unpacked here")
    if first[:2] != b"\x1f\x8b":
        yield first
        yield from pieces
        return
    unpacker = zlib.decompressobj(31)
    for piece in itertools.chain([first], pieces):
        packed = piece
        while packed:
            yield unpacker.decompress(packed, CHUNK)
            packed = unpacker.unconsumed_tail
            if unpacker.eof:
                packed, unpacker = unpacker.unused_data, zlib.decompressobj(31)
    yield unpacker.flush()


class LayersFromEngine:
    """Layers that only an image on this engine has, written to a temporary folder that `close` removes."""

    def __init__(self, docker: Docker) -> None:
        self._docker = docker
        self._folder = tempfile.TemporaryDirectory(prefix="curfew-layers-")

    def fetch(self, image: str, wanted: Collection[str]) -> None:
        """Save an image and keep those of its layers that are wanted."""
        saving = self._docker.save(image)
        assert saving.stdout is not None
        try:
            for info, pieces in TarReader(saving.stdout.read).members():
                if info.isreg() and (info.name.endswith("/layer.tar") or info.name.startswith("blobs/")):
                    self._keep(pieces, wanted)
            saving.communicate()
        except (EOFError, ValueError, tarfile.TarError) as broken:
            raise DockerFailed("docker save of %s broke off: %s" % (image, broken)) from None
        finally:
            saving.kill()
            saving.communicate()

    def _keep(self, pieces: Iterator[bytes], wanted: Collection[str]) -> None:
        digest = hashlib.sha256()
        place = os.path.join(self._folder.name, "incoming")
        with open(place, "wb") as file:
            for piece in uncompressed(pieces):
                digest.update(piece)
                file.write(piece)
        if digest.hexdigest() in wanted:
            os.replace(place, os.path.join(self._folder.name, digest.hexdigest()))

    def open(self, diff_id: str) -> BinaryIO:
        try:
            return io.open(os.path.join(self._folder.name, diff_id), "rb")
        except OSError:
            raise refuse("no_layer", "Layer %s is neither in the package nor in the engine." % diff_id) from None

    def close(self) -> None:
        self._folder.cleanup()


def gather_layers(docker: Docker, image: Image, missing: Collection[str], local: List[Any]) -> LayersFromEngine:
    """Fetch the missing layers from whichever local images have them."""
    found = LayersFromEngine(docker)
    wanted = set(missing)
    try:
        for candidate in local:
            here = wanted & set(candidate.layers)
            if here:
                found.fetch(candidate.tags[0] if candidate.tags else candidate.id, here)
                wanted -= here
    except BaseException:
        found.close()
        raise
    return found
