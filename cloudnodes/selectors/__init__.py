"""Every read of cloud nodes: scoped, joined and evaluated."""

from cloudnodes.selectors.cells import NodeCell
from cloudnodes.selectors.detail import Detail, get_detail
from cloudnodes.selectors.estimate import Actual, Estimate, NodeSpend, actual_cost, estimate_cost, spend_by_node
from cloudnodes.selectors.grid import CURRENCY, Cell, Grid, Row, get_grid
from cloudnodes.selectors.nodes import (
    active_operations,
    get_node,
    learned_seconds,
    list_nodes,
    operation_of,
    standings,
    visible_nodes,
)
from cloudnodes.selectors.preview import Change, Preview, preview_all, preview_changes
from cloudnodes.selectors.status import cloud_nodes_status, node_shape

__all__ = [
    "CURRENCY",
    "Actual",
    "Cell",
    "Change",
    "Detail",
    "Estimate",
    "Grid",
    "NodeCell",
    "NodeSpend",
    "Preview",
    "Row",
    "active_operations",
    "actual_cost",
    "cloud_nodes_status",
    "estimate_cost",
    "get_detail",
    "get_grid",
    "get_node",
    "learned_seconds",
    "list_nodes",
    "node_shape",
    "operation_of",
    "preview_all",
    "preview_changes",
    "spend_by_node",
    "standings",
    "visible_nodes",
]
