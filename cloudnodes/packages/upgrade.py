"""Upgrade packages: what an earlier package has brought need not travel again."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

from cloudnodes.packages.format import PackageProblem
from cloudnodes.packages.installer.archive import MANIFEST, MAX_SMALL_FILE
from cloudnodes.packages.installer.contents import FORMAT, open_source, read_manifest
from cloudnodes.packages.installer.problems import InstallProblem


@dataclass(frozen=True, slots=True)
class Base:
    """An earlier package: the digest of its manifest, and every layer that its images have, omitted ones included."""

    sha256: str
    layers: frozenset[str]


def read_base(path: Path) -> Base:
    """The base from a package (ZIP or unpacked folder) or from its manifest alone; PackageProblem when it is neither."""
    if path.is_file() and not zipfile.is_zipfile(path):
        return base_from_manifest(path)
    try:
        manifest = read_manifest(open_source(str(path)))
    except InstallProblem as problem:
        raise PackageProblem("bad_base", f"{path}: {problem.message}") from None
    return Base(
        manifest.sha256, frozenset(layer.diff_id for image in manifest.images.values() for layer in image.layers)
    )


def base_from_manifest(path: Path) -> Base:
    """The base from a manifest.json that was kept."""
    try:
        if path.stat().st_size > MAX_SMALL_FILE:
            raise ValueError("it is too large")
        raw = path.read_bytes()
        found = json.loads(raw)
        if found["format"] != FORMAT:
            raise ValueError("it is not the manifest of a package")
        layers = frozenset(str(layer["diff_id"]) for image in found["images"] for layer in image["layers"])
    except (OSError, ValueError, KeyError, TypeError) as failure:
        raise PackageProblem(
            "bad_base", f"{path} cannot be used as {MANIFEST} of an earlier package: {failure}"
        ) from None
    return Base(hashlib.sha256(raw).hexdigest(), layers)
