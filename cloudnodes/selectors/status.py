"""The status answer of the HTTP interface: node type -> tier -> provider -> node, in the specification's words."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from cloudnodes.enums import Scales
from cloudnodes.models import CloudNode
from cloudnodes.selectors.nodes import active_operations, list_nodes
from core.actor import Actor
from core.sleepable import SleepState
from operations.api.shapes import moment
from operations.models import Operation

CURRENCY = "USD"
_WORDS = {
    SleepState.AWAKE: "running",
    SleepState.ASLEEP: "stopped",
    SleepState.WAKING: "starting",
    SleepState.FALLING: "stopping",
    SleepState.TROUBLE: "error",
    SleepState.LOST: "lost",
}


def status_word(node: CloudNode) -> str:
    """running, stopped, starting, stopping, error or lost. A service that scales to zero is always running; one that
    is off but still billed is stopped, with `still_billing`.
    """
    if node.scaling == Scales.TO_ZERO:
        return "running"
    if node.still_billing and not node.error_on and node.observed_state == SleepState.TROUBLE:
        return "stopped"
    word = _WORDS.get(SleepState(node.observed_state))
    return word or ("running" if node.is_on else "stopped")


def node_shape(node: CloudNode, operation: Operation | None) -> dict[str, Any]:
    """One node as the API says it; `error` is null unless something went wrong."""
    error = None
    if node.error_on:
        error = {"code": node.error_code, "message": node.error, "next_step": node.next_step}
    elif node.still_billing:
        error = {
            "code": "still_billing",
            "message": "It is off but not deallocated, so it is still charged in full.",
            "next_step": "Stop it here: that deallocates it.",
        }
    return {
        "id": str(node.id),
        "instance_name": node.instance_name,
        "provider_id": node.provider_id,
        "endpoint": node.endpoint,
        "status": status_word(node),
        "region": node.region,
        "gpu_tier": node.gpu_tier,
        "instance_type": node.instance_type,
        "hourly_cost": None if node.hourly_cost is None else f"{node.hourly_cost:.4f}",
        "currency": CURRENCY,
        "started_at": moment(node.started_at),
        "ready_at": moment(node.ready_at),
        "observed_at": moment(node.observed_at),
        "operation": None if operation is None else _operation(operation),
        "error": error,
        "scaling": node.scaling,
        "still_billing": node.still_billing,
    }


def _operation(operation: Operation) -> dict[str, Any]:
    return {
        "id": str(operation.id),
        "kind": operation.kind,
        "status": str(operation.status),
        "progress": operation.progress,
        "step": operation.step,
        "expected_seconds": operation.expected_seconds,
        "seconds_left": operation.seconds_left,
    }


def cloud_nodes_status(*, actor: Actor) -> dict[str, Any]:
    """`{"cloud_nodes": {"FLUX Dev": {"t4": {"aws": {…}}}}}`, in two queries.

    Where several nodes share a place (two accounts, two regions), the first by name stands there and the others follow
    in its `also`.
    """
    nodes = list_nodes(actor=actor)
    operations: dict[UUID, Operation] = active_operations([n.id for n in nodes])
    tree: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    for node in nodes:
        shape = node_shape(node, operations.get(node.id))
        cell = tree.setdefault(node.node_type.name, {}).setdefault(node.gpu_tier, {})
        if node.provider in cell:
            cell[node.provider].setdefault("also", []).append(shape)
        else:
            cell[node.provider] = shape
    return {"cloud_nodes": tree}
