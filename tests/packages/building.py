"""Builds a package in a process of its own, for tests that kill it: `python -m tests.packages.building SOCKET OUTPUT PORT PORT`."""

from __future__ import annotations

import sys
from pathlib import Path

import docker

from cloudnodes.packages.builder import PackageBuilder, Request
from cloudnodes.packages.images import EngineImages
from tests.packages.conftest import node


def main(socket: str, output: str, port: str, other_port: str) -> None:
    nodes = [
        node(container_port=int(port)),
        node("FLUX Canny", "studio/flux-canny:1.0", container_port=int(other_port)),
    ]
    client = docker.APIClient(base_url=f"unix://{socket}", timeout=120)
    PackageBuilder(Request(nodes, Path(output)), EngineImages(client)).build()


if __name__ == "__main__":
    main(*sys.argv[1:])
