"""Every read of clusters: scoped and evaluated."""

from clusters.selectors.detail import (
    alerts_of,
    get_cluster,
    nodes_of,
    open_alerts,
    samples_of,
    summary_of,
)
from clusters.selectors.registry import Filters, HeadsUp, Registry, find, get_registry, rows

__all__ = [
    "Filters",
    "HeadsUp",
    "Registry",
    "alerts_of",
    "find",
    "get_cluster",
    "get_registry",
    "nodes_of",
    "open_alerts",
    "rows",
    "samples_of",
    "summary_of",
]
