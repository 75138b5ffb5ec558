"""The compose files of a node: `compose.yml` runs on every machine, `compose.gpu.yml` beside it adds the GPU."""

from __future__ import annotations

import json
from collections.abc import Mapping

from cloudnodes.packages.format import NodeSpec
from cloudnodes.packages.installer.containers import INSTALL_LABEL, SLUG_LABEL, SPEC_LABEL

HEAD = """# {name}. The installer has created this container already; in this folder `docker compose up -d`, `stop`, `logs` and
# `down` speak of the same one. Which image, port and profile: see .env.
"""
GPU_HEAD = "# Used together with compose.yml where Docker can hand out an NVIDIA GPU.\n"


def compose_file(node: NodeSpec) -> bytes:
    """The CPU profile: the whole service."""
    lines = [
        "services:",
        f"  {node.slug}:",
        f"    image: ${{CURFEW_IMAGE:-{node.image}}}",
        f"    container_name: curfew-{node.slug}",
        f"    network_mode: {node.network}",
    ]
    if node.network == "bridge":
        lines += ["    ports:", f'      - "${{CURFEW_PORT:-{node.port}}}:{node.container_port}"']
    lines += ["    environment:", *_mapping({"CURFEW_PROFILE": "cpu", **node.environment}, node.credentials)]
    lines += ["    restart: unless-stopped", "    labels:", *_mapping(labels(node, "cpu"))]
    return (HEAD.format(name=node.name) + "\n".join(lines) + "\n").encode()


def gpu_file(node: NodeSpec) -> bytes:
    """What the GPU profile adds: one device, and the variables that differ."""
    lines = [
        "services:",
        f"  {node.slug}:",
        "    environment:",
        *_mapping({"CURFEW_PROFILE": "gpu", **node.gpu_environment}),
        "    labels:",
        *_mapping({"curfew.gpu-tier": node.gpu_tier}),
        "    deploy:",
        "      resources:",
        "        reservations:",
        "          devices:",
        "            - driver: nvidia",
        "              count: 1",
        "              capabilities: [gpu]",
    ]
    return (GPU_HEAD + "\n".join(lines) + "\n").encode()


def labels(node: NodeSpec, tier: str) -> dict[str, str]:
    """What Curfew finds the container by, and what the installer knows it by."""
    found = {
        "curfew.node-type": node.name,
        "curfew.gpu-tier": tier,
        SLUG_LABEL: node.slug,
        INSTALL_LABEL: "${CURFEW_INSTALL:-}",
        SPEC_LABEL: "${CURFEW_SPEC:-}",
    }
    if node.network == "bridge":
        found["curfew.port"] = f"${{CURFEW_PORT:-{node.port}}}"
    elif node.network == "host":
        found["curfew.port"] = str(node.container_port)
    if node.health_path:
        found["curfew.health-path"] = node.health_path
    return found


def _mapping(values: Mapping[str, str], passed: tuple[str, ...] | list[str] | object = ()) -> list[str]:
    """Lines of a mapping. A quoted JSON string is a YAML string; names in `passed` get no value: compose looks them up in
    the environment of whoever runs it."""
    found = [f"      {name}: {json.dumps(_escaped(name, value))}" for name, value in sorted(values.items())]
    return found + [f"      {name}:" for name in (passed if isinstance(passed, tuple | list) else ())]


def _escaped(name: str, value: str) -> str:
    """A dollar sign of ours stays one; those of our own variables are meant."""
    return value if value.startswith("${CURFEW_") else value.replace("$", "$$")
