"""From the name of a node to what is packaged for it: image, port, variables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from cloudnodes.packages.format import CONTAINER_PORT, NodeSpec, PackageProblem, slug_of

# The registry whose images ask for a key when they start.
_NVIDIA, _NVIDIA_KEY = "nvcr.io/", "NGC_API_KEY"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a node besides its name."""

    image: str
    container_port: int = CONTAINER_PORT
    health_path: str = ""
    gpu_tier: str = ""


def default_image(name: str) -> str:
    """The image that a node has where nobody said otherwise."""
    return f"{_NVIDIA}nim/nim-{slug_of(name)}:latest"


def node_for(name: str, known: Known, *, network: str = "bridge") -> NodeSpec:
    """The node as it is packaged."""
    return NodeSpec(
        name,
        known.image,
        None,
        known.container_port or CONTAINER_PORT,
        network,
        gpu_tier=known.gpu_tier,
        health_path=known.health_path,
        environment={"NIM_MODEL": name},
        credentials=(_NVIDIA_KEY,) if known.image.startswith(_NVIDIA) else (),
    )


def resolve(
    names: Sequence[str],
    *,
    explicit: Mapping[str, str],
    catalog: Mapping[str, NodeSpec],
    known: Mapping[str, Known],
    allow_default: bool,
    network: str = "bridge",
) -> list[NodeSpec]:
    """A node for each name: the image that was named, else the catalog's node, else what the engine knows, else the
    default image when that may be pulled. PackageProblem names those for which there is nothing."""
    slugs = {slug_of(name): found for name, found in known.items()}
    catalogued = {slug_of(name): found for name, found in catalog.items()}
    images = {slug_of(name): image for name, image in explicit.items()}
    found: list[NodeSpec] = []
    unknown: list[str] = []
    for name in dict.fromkeys(n.strip() for n in names if n.strip()):
        slug = slug_of(name)
        there = slugs.get(slug)
        if slug in catalogued:
            node = catalogued[slug]
            found.append(replace(node, image=images.get(slug, node.image)))
        elif slug in images or there:
            facts = there or Known(images[slug])
            found.append(node_for(name, replace(facts, image=images.get(slug, facts.image)), network=network))
        elif allow_default:
            found.append(node_for(name, Known(default_image(name)), network=network))
        else:
            unknown.append(name)
    if unknown:
        raise PackageProblem(
            "unknown_node",
            f"No image is known for {', '.join(unknown)}.",
            f"Name its image, or allow pulling {default_image(unknown[0])}.",
        )
    stray = [name for name in explicit if slug_of(name) not in {slug_of(n) for n in names}]
    if stray:
        raise PackageProblem("unknown_node", f"An image is named for {', '.join(stray)}, which is not among the nodes.")
    return found


def read_catalog(path: Path) -> dict[str, NodeSpec]:
    """Nodes from a JSON file: a list of objects with the fields of NodeSpec, `name` and `image` at least."""
    try:
        return {str(item["name"]): node_from(item) for item in json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, KeyError, TypeError) as failure:
        raise PackageProblem("bad_catalog", f"{path} cannot be used as a catalog of nodes: {failure}") from None


def node_from(item: Mapping[str, Any]) -> NodeSpec:
    """A node from JSON values; TypeError or ValueError for what is none."""
    allowed = {f.name for f in fields(NodeSpec)}
    strange = set(item) - allowed
    if strange:
        raise ValueError(f"unknown field {', '.join(sorted(strange))}")
    return NodeSpec(**{**item, "credentials": tuple(item.get("credentials", ()))})


def shape(node: NodeSpec) -> dict[str, Any]:
    """A node as JSON values; `node_from` reads it back."""
    return {f.name: list(v) if isinstance(v := getattr(node, f.name), tuple) else v for f in fields(NodeSpec)}
