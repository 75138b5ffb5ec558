"""OpenAPI: each path once, under its canonical mount; loaded by drf-spectacular when it makes the schema."""

from collections.abc import Iterable
from typing import Any

from accounts.api import schema  # noqa: F401  registers the ways to authenticate


def only_canonical_paths(endpoints: Iterable[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """Drop the /api/v1/ duplicates, and under /api/ what artists' tools call under /budgetguard/api/."""
    found = [e for e in endpoints if not e[0].startswith("/api/v1/")]
    twins = {e[0].removeprefix("/budgetguard") for e in found if e[0].startswith("/budgetguard/")}
    return [e for e in found if e[0] not in twins]
