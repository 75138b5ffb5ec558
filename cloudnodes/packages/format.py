"""What a package is made from and what its manifest says. Pure: same input, same bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloudnodes.packages.installer.contents import FORMAT, VERSION

FIRST_PORT, CONTAINER_PORT = 8001, 8000
NETWORKS = ("bridge", "host", "none")
_SECRET = re.compile(r"(?i)(?:^|_)(?:key|token|secret|password|passwd|credential|credentials|auth)(?:_|$)")
_REFERENCE = re.compile(r"[a-z0-9][A-Za-z0-9._:/-]*")


class PackageProblem(Exception):
    """A package cannot be built as asked; `code` is stable, the words are for people."""

    def __init__(self, code: str, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.next_step = next_step


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node to package. `credentials` are names of variables that the workstation provides, never values."""

    name: str
    image: str
    port: int | None = None
    container_port: int = CONTAINER_PORT
    network: str = "bridge"
    gpu: bool = True
    gpu_tier: str = ""
    health_path: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    gpu_environment: Mapping[str, str] = field(default_factory=dict)
    credentials: Sequence[str] = ()

    @property
    def slug(self) -> str:
        return slug_of(self.name)


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file as it will be in the archive."""

    path: str
    size: int
    sha256: str
    crc32: int


@dataclass(frozen=True, slots=True)
class PackedImage:
    """An image as it will be in the archive: digests as hex; `omitted` are layers that the base package has brought."""

    reference: str
    config: str
    layers: tuple[str, ...]
    created: str
    architecture: str
    omitted: frozenset[str] = frozenset()


def slug_of(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60].strip("-")


def with_tag(reference: str) -> str:
    """The reference with its tag spelt out. Raises PackageProblem for a digest, which `docker save` would lose."""
    if "@" in reference or not _REFERENCE.fullmatch(reference):
        raise PackageProblem(
            "bad_reference", f"{reference!r} is not an image of the form name:tag.", "Tag the image, and name the tag."
        )
    return reference if ":" in reference.rpartition("/")[2] else f"{reference}:latest"


def looks_secret(name: str) -> bool:
    """Whether a variable of this name usually holds a secret."""
    return bool(_SECRET.search(name))


def check_nodes(nodes: Sequence[NodeSpec]) -> list[NodeSpec]:
    """The nodes with tags and ports filled in, sorted by name; PackageProblem for what no package may hold."""
    if not nodes:
        raise PackageProblem("no_nodes", "Name at least one node.")
    taken = {n.port for n in nodes if n.port}
    free = (port for port in range(FIRST_PORT, 65536) if port not in taken)
    found: list[NodeSpec] = []
    for node in sorted(nodes, key=lambda n: n.slug):
        if not node.slug:
            raise PackageProblem("bad_name", f"{node.name!r} has no letter or digit to name its files after.")
        if any(other.slug == node.slug for other in found):
            raise PackageProblem("same_name", f"{node.name!r} is asked for twice.")
        if node.network not in NETWORKS:
            raise PackageProblem("bad_network", f"{node.network!r} is none of {', '.join(NETWORKS)}.")
        _refuse_secrets(node)
        found.append(_complete(node, node.port or next(free)))
    ports = [n.port for n in found if n.network == "bridge"]
    if len(set(ports)) != len(ports):
        raise PackageProblem("same_port", "Two nodes are given the same port.")
    return found


def _complete(node: NodeSpec, port: int) -> NodeSpec:
    return NodeSpec(
        node.name,
        with_tag(node.image),
        port,
        node.container_port,
        node.network,
        node.gpu,
        node.gpu_tier,
        node.health_path,
        dict(node.environment),
        dict(node.gpu_environment),
        tuple(sorted(set(node.credentials))),
    )


def _refuse_secrets(node: NodeSpec) -> None:
    for name, value in {**node.environment, **node.gpu_environment}.items():
        if value and looks_secret(name):
            raise PackageProblem(
                "secret_in_clear",
                f"{node.name}: {name} looks like a secret, and a package is readable by everybody.",
                f"List it as a credential: the workstation gives its value (export {name}=... before installing).",
            )


def build_manifest(
    *,
    title: str,
    nodes: Sequence[NodeSpec],
    images: Sequence[PackedImage],
    files: Sequence[PackedFile],
    base: str | None,
) -> bytes:
    """The manifest in its one canonical spelling. `base` is the digest of the manifest that an upgrade builds on."""
    found = {
        "format": FORMAT,
        "version": VERSION,
        "title": title,
        "created": created_of(images),
        "architecture": images[0].architecture,
        "requires": {"docker": "20.10", "python": "3.8"},
        "base": {"sha256": base} if base else None,
        "nodes": [node_shape(n) for n in nodes],
        "images": [_image_shape(i) for i in images],
        "files": [{"path": f.path, "size": f.size, "sha256": f.sha256, "crc32": f.crc32} for f in files],
    }
    return canonical(found)


def canonical(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True) + "\n").encode()


def created_of(images: Sequence[PackedImage]) -> str:
    """The creation time of the newest image: the only moment that a rebuild finds again."""
    return max(i.created for i in images)


def node_shape(node: NodeSpec) -> dict[str, Any]:
    return {
        "name": node.name,
        "slug": node.slug,
        "image": node.image,
        "port": node.port,
        "container_port": node.container_port,
        "network": node.network,
        "gpu": node.gpu,
        "gpu_tier": node.gpu_tier,
        "health_path": node.health_path,
        "environment": dict(node.environment),
        "gpu_environment": dict(node.gpu_environment),
        "credentials": list(node.credentials),
    }


def config_path(digest: str) -> str:
    return f"images/{digest}.json"


def layer_path(digest: str) -> str:
    return f"layers/{digest}.tar"


def _image_shape(image: PackedImage) -> dict[str, Any]:
    layers = [{"diff_id": d, "file": None if d in image.omitted else layer_path(d)} for d in image.layers]
    return {
        "reference": image.reference,
        "config": image.config,
        "config_file": config_path(image.config),
        "layers": layers,
    }


def artists_config(
    *,
    generated_at: str,
    nodes: Sequence[NodeSpec],
    endpoints: Mapping[str, Mapping[str, Sequence[Mapping[str, str]]]],
    credentials_status: Mapping[str, bool],
) -> bytes:
    """`budgetguard_artists_config.json`: where each node answers, and for which providers credentials are there. Values of
    credentials are not even passed in here.

    `endpoints` maps node -> provider -> [{url, gpu_tier}]; the packaged nodes are added as provider `local`.
    """
    found: dict[str, dict[str, list[dict[str, str]]]] = {
        name: {provider: [dict(place) for place in places] for provider, places in providers.items()}
        for name, providers in endpoints.items()
    }
    for node in nodes:
        if node.network != "none":
            port = node.port if node.network == "bridge" else node.container_port
            place = {"url": f"http://localhost:{port}", "gpu_tier": node.gpu_tier or "local"}
            found.setdefault(node.name, {})["local"] = [place]
    return canonical(
        {
            "version": "1.0",
            "generated_at": generated_at,
            "nim_endpoints": found,
            "credentials_status": dict(credentials_status),
        }
    )
