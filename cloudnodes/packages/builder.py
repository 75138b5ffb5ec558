"""Building a package: look, then save each image once as a stream, layer by layer straight to its place in the archive.

A package has one order: per image its layers by digest, which is the order in which today's engines send them; then the
small files. A layer that comes too early (older engines, containerd's store) waits as a file of its own. Resumable: what is
saved stays in `<output>.parts` until the package is whole. Reproducible: the same images, nodes and key give the same
bytes, whichever engine they came from.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloudnodes.packages import format as shapes
from cloudnodes.packages.archives import ArchiveWriter, Damaged
from cloudnodes.packages.bundle import assemble
from cloudnodes.packages.compose import compose_file, gpu_file
from cloudnodes.packages.format import NodeSpec, PackageProblem, PackedFile, PackedImage
from cloudnodes.packages.images import ImageFacts, ImageSource
from cloudnodes.packages.installer.archive import CHUNK, INSTALLER, MANIFEST, MANIFEST_SUM, SIGNATURE, Entry
from cloudnodes.packages.installer.contents import read_ahead
from cloudnodes.packages.installer.savetar import TarReader, uncompressed
from cloudnodes.packages.readme import readme
from cloudnodes.packages.signing import public_hex, signature_file
from cloudnodes.packages.spool import Spool
from cloudnodes.packages.upgrade import Base

ENDPOINTS = "budgetguard_artists_config.json"
# For headers, and for layers that are a little larger as a tar than the engine counts them.
ROOM_FACTOR = 1.05
_MAX_CONFIG = 4 * 1024 * 1024
# In the work folder: the growing archive, and which layers it holds whole.
ARCHIVE, PLACED = "package", "placed"
# done bytes, all bytes, what is being done
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Request:
    """What to build. `endpoints` and `credentials_status` go into budgetguard_artists_config.json."""

    nodes: Sequence[NodeSpec]
    output: Path
    title: str = ""
    base: Base | None = None
    key: Ed25519PrivateKey | None = None
    pull: bool = False
    endpoints: Mapping[str, Mapping[str, Sequence[Mapping[str, str]]]] = field(default_factory=dict)
    credentials_status: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Built:
    """A finished package: sizes in bytes, digests as hex, `omitted` the number of layers left to the base package."""

    path: Path
    size: int
    manifest_sha256: str
    title: str
    nodes: list[str]
    images: list[str]
    omitted: int
    public_key: str
    warnings: list[str]


class PackageBuilder:
    """Builds one package. `progress`, and `between` two images, may raise to stop; `build` again goes on where it was."""

    def __init__(
        self,
        request: Request,
        source: ImageSource,
        progress: Progress | None = None,
        between: Callable[[], None] | None = None,
    ) -> None:
        self.request = request
        self._between = between or (lambda: None)
        self.nodes = shapes.check_nodes(request.nodes)
        self._source = source
        self._progress = progress or (lambda done, total, words: None)
        self._done = 0
        self._total = 0

    @property
    def parts(self) -> Path:
        return self.request.output.with_name(f"{self.request.output.name}.parts")

    def build(self) -> Built:
        """Build it; raises PackageProblem, ProviderError, OSError, and whatever `progress` raises."""
        references = sorted({n.image for n in self.nodes})
        facts = [
            self._source.facts(r, pull=self.request.pull, progress=lambda words: self._progress(0, 0, words))
            for r in references
        ]
        if len({f.architecture for f in facts}) > 1:
            raise PackageProblem(
                "mixed_platforms", "The images are for different kinds of machines; build one package for each."
            )
        with Spool(self.parts) as spool, ArchiveWriter(self.request.output, spool.folder / ARCHIVE) as archive:
            layers = _Layers(spool, archive, self._order(facts), self._copied)
            self._measure(spool, layers, facts)
            images = [self._image(spool, layers, f) for f in facts]
            built = self._lay_out(spool, layers, images, _warnings(facts))
            spool.discard()
        return built

    def _order(self, facts: Sequence[ImageFacts]) -> list[str]:
        """The layers that the package holds, in its order."""
        return list(dict.fromkeys(d for f in facts for d in sorted({*f.layers} - self._omitted(f.layers))))

    def _measure(self, spool: Spool, layers: _Layers, facts: Sequence[ImageFacts]) -> None:
        """Reckon what there is to do, and refuse early when it cannot fit. At worst all layers of an image wait at once,
        and the largest of them is copied while it waits."""
        missing = [f for f in facts if self._saved(spool, layers, f) is None]
        self._total = sum(f.size for f in missing)
        self._done = 0
        there = sum(p.stat().st_size for p in (*spool.folder.glob("blob-*"), spool.folder / ARCHIVE))
        sizes = [f.size for f in facts]
        wanted = int((sum(sizes) + max(sizes)) * ROOM_FACTOR) - there
        free = shutil.disk_usage(spool.folder).free
        if free < wanted:
            raise PackageProblem(
                "no_room",
                f"{self.request.output.parent} has {free // 10**6} MB free; about {wanted // 10**6} MB are needed to build.",
                "Make room, or choose another place for the output.",
            )

    def _saved(self, spool: Spool, layers: _Layers, facts: ImageFacts) -> PackedImage | None:
        """An image that an earlier run has saved whole."""
        noted = spool.read(_note_name(facts))
        if noted is None or noted["layers"] != list(facts.layers) or spool.get(noted["config"]) is None:
            return None
        omitted = self._omitted(facts.layers)
        if not all(layers.has(digest) for digest in {*facts.layers} - omitted):
            return None
        return PackedImage(facts.reference, noted["config"], facts.layers, facts.created, facts.architecture, omitted)

    def _omitted(self, layers: Sequence[str]) -> frozenset[str]:
        return self.request.base.layers & frozenset(layers) if self.request.base else frozenset()

    def _image(self, spool: Spool, layers: _Layers, facts: ImageFacts) -> PackedImage:
        saved = self._saved(spool, layers, facts)
        if saved is None:
            saved = self._save(spool, layers, facts)
            self._between()
        return saved

    def _save(self, spool: Spool, layers: _Layers, facts: ImageFacts) -> PackedImage:
        """Read the stream of `docker save` once: layers to their places, the configuration picked by its listing."""
        words = f"Saving {facts.reference}"
        self._advance(0, f"The engine gets {facts.reference} ready")
        small: dict[str, bytes] = {}
        omitted = self._omitted(facts.layers)
        with closing(read_ahead(_blocks(self._source.save(facts.reference)))) as blocks:
            stream = _Counted(blocks, lambda size: self._advance(size, words))
            try:
                for info, pieces in TarReader(stream.read).members():
                    if not info.isreg():
                        continue
                    if info.name.endswith("/layer.tar") or (info.name.startswith("blobs/") and info.size > _MAX_CONFIG):
                        layers.take(info.name.rpartition("/")[2], info.size, pieces, facts.layers)
                    elif info.size <= _MAX_CONFIG:
                        small[info.name] = b"".join(pieces)
                        if info.name.rpartition("/")[2] in facts.layers:
                            layers.take(info.name.rpartition("/")[2], info.size, iter([small[info.name]]), facts.layers)
                listing = json.loads(small["manifest.json"])
                config = small[listing[0]["Config"]]
                for name in listing[0]["Layers"]:
                    if name in small and name.rpartition("/")[2] not in facts.layers:
                        layers.take("", 0, iter([small[name]]), facts.layers)
            except (EOFError, ValueError, KeyError, IndexError, TypeError, tarfile.TarError) as broken:
                raise PackageProblem(
                    "bad_save", f"The engine's archive of {facts.reference} cannot be read: {broken!r}", "Try again."
                ) from None
        return self._note(spool, layers, facts, config, omitted)

    def _note(
        self, spool: Spool, layers: _Layers, facts: ImageFacts, config: bytes, omitted: frozenset[str]
    ) -> PackedImage:
        said = tuple(str(d).partition(":")[2] for d in json.loads(config)["rootfs"]["diff_ids"])
        if said != facts.layers:
            raise PackageProblem(
                "image_changed", f"{facts.reference} was given to another image during the build.", "Build again."
            )
        lacking = [d for d in said if d not in omitted and not layers.has(d)]
        if lacking:
            raise PackageProblem(
                "bad_save", f"The engine's archive of {facts.reference} lacks layer {lacking[0]}.", "Try again."
            )
        kept = spool.add(iter([config]))
        spool.write(_note_name(facts), {"config": kept.sha256, "layers": list(said)})
        return PackedImage(facts.reference, kept.sha256, facts.layers, facts.created, facts.architecture, omitted)

    # the archive

    def _lay_out(self, spool: Spool, layers: _Layers, images: Sequence[PackedImage], warnings: list[str]) -> Built:
        """Everything small behind the layers, the manifest last: it is known only now."""
        layers.settle()
        self._advance(0, "Writing the package")
        texts = {**_configurations(spool, images), **self._texts(images)}
        files = [PackedFile(e.path, e.size, layers.digest_of(e.path), e.crc32) for e in layers.archive.entries]
        files += [PackedFile(p, len(d), hashlib.sha256(d).hexdigest(), zlib.crc32(d)) for p, d in texts.items()]
        base = self.request.base
        manifest = shapes.build_manifest(
            title=self._title(), nodes=self.nodes, images=images, files=files, base=base.sha256 if base else None
        )
        digest = hashlib.sha256(manifest).hexdigest()
        archive = layers.archive
        for path, text in texts.items():
            archive.add_bytes(path, text)
        archive.add_bytes(MANIFEST, manifest)
        archive.add_bytes(MANIFEST_SUM, f"{digest}  {MANIFEST}\n".encode())
        if self.request.key is not None:
            archive.add_bytes(SIGNATURE, signature_file(self.request.key, manifest))
        layers.finish()
        return Built(
            self.request.output,
            archive.size,
            digest,
            self._title(),
            [n.name for n in self.nodes],
            [i.reference for i in images],
            len({d for i in images for d in i.omitted}),
            public_hex(self.request.key) if self.request.key else "",
            warnings,
        )

    def _texts(self, images: Sequence[PackedImage]) -> dict[str, bytes]:
        """The small files that are written here, in their order."""
        found = {INSTALLER: assemble(), "README.txt": readme(self._title(), self.nodes, bool(self.request.base))}
        found[ENDPOINTS] = shapes.artists_config(
            generated_at=shapes.created_of(images),
            nodes=self.nodes,
            endpoints=self.request.endpoints,
            credentials_status=self.request.credentials_status,
        )
        for node in self.nodes:
            found[f"nodes/{node.slug}/compose.yml"] = compose_file(node)
            if node.gpu:
                found[f"nodes/{node.slug}/compose.gpu.yml"] = gpu_file(node)
        return found

    def _title(self) -> str:
        return (self.request.title or ", ".join(n.name for n in self.nodes))[:200]

    def _copied(self, size: int) -> None:
        """Bytes that have come before and are put in their place now: they count once."""
        self._advance(0, "Putting layers in their places")

    def _advance(self, size: int, words: str) -> None:
        self._done += size
        self._total = max(self._total, self._done)
        self._progress(self._done, self._total, words)


class _Layers:
    """Layers of one build: those in their places in the archive, and those that came early and wait in the spool."""

    def __init__(
        self,
        spool: Spool,
        archive: ArchiveWriter,
        order: Sequence[str],
        copied: Callable[[int], None],
    ) -> None:
        self.archive = archive
        self._spool = spool
        self._order = list(order)
        self._copied = copied
        noted = [Entry(*fields) for fields in spool.read(PLACED) or []]
        known = [shapes.layer_path(d) for d in self._order]
        archive.go_on([e for e, path in zip(noted, known, strict=False) if e.path == path])
        self._placed = set(self._order[: len(archive.entries)])

    def has(self, digest: str) -> bool:
        return digest in self._placed or self._spool.get(digest) is not None

    @staticmethod
    def digest_of(path: str) -> str:
        return path.rpartition("/")[2].removesuffix(".tar")

    def take(self, name: str, size: int, pieces: Iterator[bytes], known: Collection[str]) -> None:
        """A layer from the engine. `name` is its digest where the engine packs nothing, else anything; `known` are the
        layers of the image. Raises PackageProblem when its content is not what it is called."""
        if name in known and (name not in self._order or self.has(name)):
            return  # left to the base package, or there already
        if name in known and name == self._next():
            self.archive.place(shapes.layer_path(name), size, pieces, name)
            self._note(name)
        else:
            found = self._spool.add(uncompressed(pieces), size)
            if found.sha256 in self._placed or found.sha256 not in self._order:
                self._spool.forget(found.sha256)
        self.settle()

    def settle(self) -> None:
        """Copy what has waited for its turn."""
        while (digest := self._next()) is not None and (found := self._spool.get(digest)) is not None:
            try:
                self.archive.add_file(shapes.layer_path(digest), found, self._copied)
            except PackageProblem:
                self._spool.forget(digest)
                raise
            self._note(digest)
            self._spool.forget(digest)

    def finish(self) -> None:
        """Finish the archive. PackageProblem when a layer on the disk is no longer what it was: it and what follows it are
        saved again by the next build."""
        try:
            self.archive.finish()
        except Damaged as problem:
            paths = [e.path for e in self.archive.entries]
            self._write(self.archive.entries[: paths.index(problem.path)] if problem.path in paths else [])
            raise

    def _next(self) -> str | None:
        return self._order[len(self._placed)] if len(self._placed) < len(self._order) else None

    def _note(self, digest: str) -> None:
        self._placed.add(digest)
        self._write(self.archive.entries)

    def _write(self, entries: Sequence[Entry]) -> None:
        self._spool.write(PLACED, [list(e) for e in entries])


def _blocks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Pieces of about CHUNK bytes from the small ones that an engine sends."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        if not waiting and len(piece) >= CHUNK:
            yield piece
            continue
        waiting.append(piece)
        size += len(piece)
        if size >= CHUNK:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


class _Counted:
    """`read(size)` over pieces of any size, telling how many bytes have come."""

    def __init__(self, pieces: Iterator[bytes], arrived: Callable[[int], None]) -> None:
        self._pieces = pieces
        self._arrived = arrived
        self._left = memoryview(b"")

    def read(self, size: int) -> memoryview:
        """At most so many bytes, without copying them; none at the end."""
        if not self._left:
            piece = next(self._pieces, b"")
            self._arrived(len(piece))
            self._left = memoryview(piece)
        taken, self._left = self._left[:size], self._left[size:]
        return taken


def _configurations(spool: Spool, images: Sequence[PackedImage]) -> dict[str, bytes]:
    """Configurations of images, each once."""
    found: dict[str, bytes] = {}
    for image in images:
        blob = spool.get(image.config)
        data = blob.path.read_bytes() if blob else b""
        if hashlib.sha256(data).hexdigest() != image.config:
            spool.forget(image.config)
            raise PackageProblem(
                "spool_damaged", f"{image.config} was damaged after it had been saved.", "Build again."
            )
        found[shapes.config_path(image.config)] = data
    return found


def _note_name(facts: ImageFacts) -> str:
    return f"image-{hashlib.sha256(facts.reference.encode()).hexdigest()}"


def _warnings(facts: Sequence[ImageFacts]) -> list[str]:
    return [
        f"{f.reference} has {', '.join(f.secret_variables)} set inside the image itself: whoever gets the package can read it."
        for f in facts
        if f.secret_variables
    ]


def shape_of(built: Built) -> dict[str, Any]:
    """A finished package as JSON values."""
    return {
        "file": built.path.name,
        "size": built.size,
        "manifest_sha256": built.manifest_sha256,
        "title": built.title,
        "nodes": built.nodes,
        "images": built.images,
        "omitted_layers": built.omitted,
        "public_key": built.public_key,
        "warnings": built.warnings,
    }
