"""Every read of clusters: scoped and evaluated."""

from clusters.enums import WORDS
from clusters.selectors.detail import (
    alerts_of,
    chosen,
    get_cluster,
    nodes_of,
    open_alerts,
    samples_of,
    summary_of,
)
from clusters.selectors.registry import Filters, HeadsUp, Registry, find, get_registry, rows

__all__ = [
    "WORDS",
    "Filters",
    "HeadsUp",
    "Registry",
    "alerts_of",
    "chosen",
    "find",
    "get_cluster",
    "get_registry",
    "nodes_of",
    "open_alerts",
    "rows",
    "samples_of",
    "summary_of",
]
