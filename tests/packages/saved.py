"""Images without an engine: archives as `docker save` writes them: by old engines (classic), by today's (blobs, layers as
they are), and from containerd's store (oci, layers packed)."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cloudnodes.packages.images import ImageFacts

PIECE = 70_001


def layer(seed: int, size: int = 30_000) -> bytes:
    """A layer's tar with one incompressible file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(f"file{seed}")
        entry.size = size
        tar.addfile(entry, io.BytesIO(random.Random(seed).randbytes(size)))
    return buffer.getvalue()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class SavedImages:
    """An ImageSource from memory. `layout` is classic, blobs or oci; `saves` counts; `fail_after` cuts a stream off."""

    images: dict[str, list[bytes]]
    layout: str = "classic"
    clock: int = 0
    saves: list[str] = field(default_factory=list)
    fail_after: int | None = None
    variables: list[str] = field(default_factory=list)
    architecture: str = "amd64"

    def config(self, reference: str) -> bytes:
        diff_ids = [f"sha256:{digest(data)}" for data in self.images[reference]]
        found = {
            "architecture": self.architecture,
            "os": "linux",
            "config": {"Env": self.variables},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        return json.dumps(found).encode()

    def facts(self, reference: str, *, pull: bool, progress: Callable[[str], None]) -> ImageFacts:
        layers = self.images[reference]
        return ImageFacts(
            reference, tuple(map(digest, layers)), sum(map(len, layers)), "2026-01-02T03:04:05Z", self.architecture
        )

    def save(self, reference: str) -> Iterator[bytes]:
        self.saves.append(reference)
        data = self.archive(reference)
        for start in range(0, len(data), PIECE):
            if self.fail_after is not None and start >= self.fail_after:
                raise ConnectionError("the engine went away")
            yield data[start : start + PIECE]

    def archive(self, reference: str) -> bytes:
        """Member order and times differ from layout to layout and from `clock` to `clock`, as they do between engines."""
        layers, config = self.images[reference], self.config(reference)
        members: dict[str, bytes] = {}
        names = []
        for number, data in enumerate(layers):
            packed = gzip.compress(data) if self.layout == "oci" else data
            name = (
                f"blobs/sha256/{digest(packed)}"
                if self.layout != "classic"
                else f"{digest(f'{reference}{number}'.encode())}/layer.tar"
            )
            members[name] = packed
            names.append(name)
        config_name = f"blobs/sha256/{digest(config)}" if self.layout != "classic" else f"{digest(config)}.json"
        members[config_name] = config
        listing = [{"Config": config_name, "RepoTags": [reference], "Layers": names}]
        members["manifest.json"] = json.dumps(listing).encode()
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name in sorted(members):
                entry = tarfile.TarInfo(name)
                entry.size, entry.mtime = len(members[name]), self.clock + 0.5
                tar.addfile(entry, io.BytesIO(members[name]))
        return buffer.getvalue()
