"""Building a package: look, save each image once as a stream, then lay everything out in its one order.

Resumable: what is saved stays in `<output>.parts` until the package is whole. Reproducible: the same images, nodes and key
give the same bytes, whichever engine they came from.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloudnodes.packages import format as shapes
from cloudnodes.packages.archives import ArchiveWriter
from cloudnodes.packages.bundle import assemble
from cloudnodes.packages.compose import compose_file, gpu_file
from cloudnodes.packages.format import NodeSpec, PackageProblem, PackedFile, PackedImage
from cloudnodes.packages.images import ImageFacts, ImageSource
from cloudnodes.packages.installer.archive import INSTALLER, MANIFEST, MANIFEST_SUM, SIGNATURE
from cloudnodes.packages.installer.savetar import TarReader, uncompressed
from cloudnodes.packages.readme import readme
from cloudnodes.packages.signing import public_hex, signature_file
from cloudnodes.packages.spool import Spool, Spooled
from cloudnodes.packages.upgrade import Base

ENDPOINTS = "budgetguard_artists_config.json"
# A build needs the images twice: once as parts, once in the package.
ROOM_FACTOR = 2.05
_MAX_CONFIG = 4 * 1024 * 1024
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
    sha256: str
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
        with Spool(self.parts) as spool:
            self._measure(spool, facts)
            images = [self._image(spool, f) for f in facts]
            built = self._lay_out(spool, images, _warnings(facts))
            spool.discard()
        return built

    def _measure(self, spool: Spool, facts: Sequence[ImageFacts]) -> None:
        """Reckon what there is to do, and refuse early when it cannot fit."""
        missing = [f for f in facts if self._saved(spool, f) is None]
        self._total = sum(f.size for f in missing) + sum(f.size for f in facts)
        self._done = 0
        there = sum(p.stat().st_size for p in spool.folder.glob("blob-*"))
        wanted = int(sum(f.size for f in facts) * ROOM_FACTOR) - there
        free = shutil.disk_usage(spool.folder).free
        if free < wanted:
            raise PackageProblem(
                "no_room",
                f"{self.request.output.parent} has {free // 10**6} MB free; about {wanted // 10**6} MB are needed to build.",
                "Make room, or choose another place for the output.",
            )

    def _saved(self, spool: Spool, facts: ImageFacts) -> PackedImage | None:
        """An image that an earlier run has saved whole."""
        noted = spool.read(_note_name(facts))
        if noted is None or noted["layers"] != list(facts.layers):
            return None
        omitted = self._omitted(facts.layers)
        wanted = {noted["config"], *facts.layers} - omitted
        if any(spool.get(digest) is None for digest in wanted):
            return None
        return PackedImage(facts.reference, noted["config"], facts.layers, facts.created, facts.architecture, omitted)

    def _omitted(self, layers: Sequence[str]) -> frozenset[str]:
        return self.request.base.layers & frozenset(layers) if self.request.base else frozenset()

    def _image(self, spool: Spool, facts: ImageFacts) -> PackedImage:
        saved = self._saved(spool, facts)
        if saved is None:
            saved = self._save(spool, facts)
            self._between()
        return saved

    def _save(self, spool: Spool, facts: ImageFacts) -> PackedImage:
        """Read the stream of `docker save` once: layers into the spool, the configuration picked by its listing."""
        words = f"Saving {facts.reference}"
        small: dict[str, bytes] = {}
        omitted = self._omitted(facts.layers)
        stream = _Counted(self._source.save(facts.reference), lambda size: self._advance(size, words))
        try:
            for info, pieces in TarReader(stream.read).members():
                if not info.isreg():
                    continue
                if info.name.endswith("/layer.tar") or (info.name.startswith("blobs/") and info.size > _MAX_CONFIG):
                    self._keep_layer(spool, pieces, omitted)
                elif info.size <= _MAX_CONFIG:
                    small[info.name] = b"".join(pieces)
            listing = json.loads(small["manifest.json"])
            config = small[listing[0]["Config"]]
            for name in listing[0]["Layers"]:
                if name in small:
                    self._keep_layer(spool, iter([small[name]]), omitted)
        except (EOFError, ValueError, KeyError, IndexError, TypeError, tarfile.TarError) as broken:
            raise PackageProblem(
                "bad_save", f"The engine's archive of {facts.reference} cannot be read: {broken!r}", "Try again."
            ) from None
        return self._note(spool, facts, config, omitted)

    def _keep_layer(self, spool: Spool, pieces: Iterator[bytes], omitted: frozenset[str]) -> None:
        found = spool.add(uncompressed(pieces))
        if found.sha256 in omitted:
            spool.forget(found.sha256)

    def _note(self, spool: Spool, facts: ImageFacts, config: bytes, omitted: frozenset[str]) -> PackedImage:
        said = tuple(str(d).partition(":")[2] for d in json.loads(config)["rootfs"]["diff_ids"])
        if said != facts.layers:
            raise PackageProblem(
                "image_changed", f"{facts.reference} was given to another image during the build.", "Build again."
            )
        lacking = [d for d in said if d not in omitted and spool.get(d) is None]
        if lacking:
            raise PackageProblem(
                "bad_save", f"The engine's archive of {facts.reference} lacks layer {lacking[0]}.", "Try again."
            )
        kept = spool.add(iter([config]))
        spool.write(_note_name(facts), {"config": kept.sha256, "layers": list(said)})
        return PackedImage(facts.reference, kept.sha256, facts.layers, facts.created, facts.architecture, omitted)

    # the archive

    def _lay_out(self, spool: Spool, images: Sequence[PackedImage], warnings: list[str]) -> Built:
        texts = self._texts(images)
        blobs = _blobs(spool, images)
        files = [PackedFile(p, len(d), hashlib.sha256(d).hexdigest(), zlib.crc32(d)) for p, d in texts.items()]
        files += [PackedFile(p, b.size, b.sha256, b.crc32) for p, b in blobs.items()]
        base = self.request.base
        manifest = shapes.build_manifest(
            title=self._title(), nodes=self.nodes, images=images, files=files, base=base.sha256 if base else None
        )
        digest = hashlib.sha256(manifest).hexdigest()
        with ArchiveWriter(self.request.output) as archive:
            archive.add_bytes(MANIFEST, manifest)
            archive.add_bytes(MANIFEST_SUM, f"{digest}  {MANIFEST}\n".encode())
            if self.request.key is not None:
                archive.add_bytes(SIGNATURE, signature_file(self.request.key, manifest))
            for path, text in texts.items():
                archive.add_bytes(path, text)
            for path, blob in blobs.items():
                self._copy(spool, archive, path, blob)
            whole = archive.finish()
        return Built(
            self.request.output,
            archive.size,
            whole,
            digest,
            self._title(),
            [n.name for n in self.nodes],
            [i.reference for i in images],
            len({d for i in images for d in i.omitted}),
            public_hex(self.request.key) if self.request.key else "",
            warnings,
        )

    def _copy(self, spool: Spool, archive: ArchiveWriter, path: str, blob: Spooled) -> None:
        try:
            archive.add_file(path, blob, lambda size: self._advance(size, "Writing the package"))
        except PackageProblem:
            spool.forget(blob.sha256)
            raise

    def _texts(self, images: Sequence[PackedImage]) -> dict[str, bytes]:
        """The small files, in their order."""
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

    def _advance(self, size: int, words: str) -> None:
        self._done += size
        self._total = max(self._total, self._done)
        self._progress(self._done, self._total, words)


class _Counted:
    """`read(size)` over pieces of any size, telling how many bytes have come."""

    def __init__(self, pieces: Iterator[bytes], arrived: Callable[[int], None]) -> None:
        self._pieces = pieces
        self._arrived = arrived
        self._left = memoryview(b"")

    def read(self, size: int) -> bytes:
        if not self._left:
            piece = next(self._pieces, b"")
            self._arrived(len(piece))
            self._left = memoryview(piece)
        taken, self._left = self._left[:size], self._left[size:]
        return bytes(taken)


def _blobs(spool: Spool, images: Sequence[PackedImage]) -> dict[str, Spooled]:
    """Configurations, then layers from the bottom up, each once."""
    wanted: dict[str, str] = {}
    for image in images:
        wanted[shapes.config_path(image.config)] = image.config
    for image in images:
        wanted.update({shapes.layer_path(d): d for d in image.layers if d not in image.omitted})
    found: dict[str, Spooled] = {}
    for path, digest in wanted.items():
        blob = spool.get(digest)
        if blob is None:
            raise PackageProblem(
                "spool_damaged", f"{digest} vanished from the work folder during the build.", "Build again."
            )
        found[path] = blob
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
        "sha256": built.sha256,
        "manifest_sha256": built.manifest_sha256,
        "title": built.title,
        "nodes": built.nodes,
        "images": built.images,
        "omitted_layers": built.omitted,
        "public_key": built.public_key,
        "warnings": built.warnings,
    }
