"""OpenAPI: each path once, under its canonical mount."""

from collections.abc import Iterable
from typing import Any


def only_canonical_paths(endpoints: Iterable[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """Drop the /api/v1/ duplicates; keep /budgetguard/api/ for the paths that artists' tools call there."""
    return [e for e in endpoints if not e[0].startswith("/api/v1/")]
