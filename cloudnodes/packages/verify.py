"""Verifying a package on the server, with the very code that the workstation uses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloudnodes.packages.installer import actions
from cloudnodes.packages.installer.problems import InstallProblem

__all__ = ["InstallProblem", "verify_package"]


def verify_package(
    path: Path, *, public_key: str = "", progress: Callable[[int, int, str], None] | None = None
) -> dict[str, Any]:
    """Read and check all of a package; its title, digest, size, nodes, images and signature. InstallProblem if refused."""
    options = actions.Options(action="verify", package=str(path), public_key=public_key)
    found: dict[str, Any] = actions.verify(options, progress)["package"]
    return found
