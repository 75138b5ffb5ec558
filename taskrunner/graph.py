"""Tasks that need each other: order, and the refusal of cycles. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter


class BadGraph(ValueError):
    """A key is unknown or the tasks wait for each other in a circle; the message names them."""


def order(needs: Mapping[str, Iterable[str]]) -> list[str]:
    """Keys in an order in which each comes after what it needs. Raises BadGraph."""
    for key, wanted in needs.items():
        unknown = sorted(set(wanted) - set(needs))
        if unknown:
            raise BadGraph(f"{key} needs {', '.join(unknown)}, which is not among these tasks.")
    try:
        return list(TopologicalSorter({key: sorted(set(wanted)) for key, wanted in needs.items()}).static_order())
    except CycleError as circle:
        raise BadGraph(f"These tasks wait for each other: {' → '.join(reversed(circle.args[1]))}.") from None
