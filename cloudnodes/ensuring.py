"""A workflow needs a node: find one that is awake, else wake the cheapest that may be woken, and say how far it is.

Asking again is how a tool waits: the same question gives the same node and the same operation, however often it is put.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from cloudnodes import automatic, rules, runs, selectors, services
from cloudnodes.automatic_models import WorkflowRun
from cloudnodes.enums import RESOURCE, START, UNMEASURED_SECONDS, Power, Scales, provider_words
from cloudnodes.models import CloudNode
from core.actor import Actor
from core.errors import Conflict, CurfewError, InvalidState, NotFound
from core.sleepable import SleepState
from operations import services as operations
from operations.enums import Status
from operations.models import Operation

LONGEST_WAIT = 20.0
PAUSE = 0.5
NOT_STARTED = "node_not_started"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a workflow asks for. `node_id` alone is enough; else a type, and a provider or tier where that matters."""

    node_type: str = ""
    provider: str = ""
    gpu_tier: str = ""
    node_id: UUID | None = None
    workflow_id: str = ""
    params: Mapping[str, Any] | None = None
    retry: bool = False


@dataclass(frozen=True, slots=True)
class Ensured:
    """`ready`: the node answers. Else `operation` is what wakes it, `seconds_left` by the learned median."""

    node: CloudNode
    ready: bool
    operation: Operation | None
    seconds_left: int
    run: WorkflowRun | None
    chosen_because: str


def ensure(*, actor: Actor, wanted: Wanted) -> Ensured:
    """One step towards a node that is ready. Raises NotFound, Forbidden, QuotaExceeded (a budget), InvalidState (only what
    may not be started automatically), and Conflict `node_not_started` with the cause and the next step when the start that
    this workflow asked for failed; `retry` then starts anew.
    """
    actor.require("nodes.operate", "wake cloud nodes")
    known = _known_run(actor, wanted)
    if known is not None and known.node is not None and known.ended_at is None:
        node, why = known.node, "it is this workflow's node"
        if not wanted.retry:
            _refuse_failed(known)
    else:
        node, why = choose(actor=actor, wanted=wanted)
    return _towards(actor, wanted, node, why)


def _towards(actor: Actor, wanted: Wanted, node: CloudNode, why: str) -> Ensured:
    active = operations.active_operation(RESOURCE, node.id)
    ready = is_ready(node) and active is None
    operation = None
    if not ready and node.scaling == Scales.MANUAL:
        operation = active if active is not None and active.kind == START else _wake(actor, wanted, node)
    run = None
    with transaction.atomic():
        if wanted.workflow_id:
            run = runs.begin(
                actor=actor,
                node=node,
                workflow_id=wanted.workflow_id,
                params=wanted.params,
                operation_id=operation.id if operation else None,
                ready=ready,
            )
            if operation is not None and run.operation_id != operation.id:
                WorkflowRun.objects.for_org(run.organization_id).filter(id=run.id).update(operation_id=operation.id)
        if ready:
            automatic.touch(node)
    return Ensured(node, ready, operation, 0 if ready else _seconds_left(operation), run, why)


def _wake(actor: Actor, wanted: Wanted, node: CloudNode) -> Operation:
    reason = f"Workflow {wanted.workflow_id} needs it" if wanted.workflow_id else "A workflow needs it"
    return services.request_start(actor=actor, node_id=node.id, reason=reason, cause="workflow")


def _seconds_left(operation: Operation | None) -> int:
    if operation is None:
        return UNMEASURED_SECONDS
    left = operation.seconds_left
    return max(1, int(left)) if left is not None else UNMEASURED_SECONDS


def wait(*, actor: Actor, wanted: Wanted, seconds: float) -> Ensured:
    """Step until it is ready, it failed, or the time is over (at most twenty seconds); never inside a transaction."""
    until = time.monotonic() + min(max(0.0, seconds), LONGEST_WAIT)
    found = ensure(actor=actor, wanted=wanted)
    while not found.ready and time.monotonic() < until:
        time.sleep(PAUSE)
        if wanted.workflow_id:
            found = ensure(actor=actor, wanted=wanted)
        else:
            found = _look_again(actor, wanted, found)
    return found


def _look_again(actor: Actor, wanted: Wanted, found: Ensured) -> Ensured:
    """Without a workflow there is no row that remembers: follow the node that was chosen, and its operation."""
    node = selectors.get_node(actor=actor, node_id=found.node.id)
    if found.operation is not None:
        operation = Operation.objects.for_org(node.organization_id).get(id=found.operation.id)
        if operation.status == Status.FAILED:
            raise _failed(operation)
        if not operation.is_final:
            return Ensured(node, False, operation, _seconds_left(operation), None, found.chosen_because)
    return _towards(actor, wanted, node, found.chosen_because)


def is_ready(node: CloudNode) -> bool:
    """Awake, and answering as far as that can be asked."""
    if node.scaling == Scales.TO_ZERO:
        return node.provider_state == Power.RUNNING
    return node.provider_state == Power.RUNNING and node.observed_state == SleepState.AWAKE


def choose(*, actor: Actor, wanted: Wanted) -> tuple[CloudNode, str]:
    """The node for a workflow and why it: one that is ready, else one that is waking, else the cheapest that may be woken."""
    rows = selectors.visible_nodes(actor)
    if wanted.node_id is not None:
        node = rows.filter(id=wanted.node_id).first()
        if node is None:
            raise NotFound("There is no such cloud node.")
        return node, "it was named"
    named = Q(node_type__name__iexact=wanted.node_type.strip()) | Q(node_type__slug=wanted.node_type.strip().lower())
    rows = rows.filter(named)
    if wanted.provider:
        rows = rows.filter(provider=wanted.provider)
    if wanted.gpu_tier:
        rows = rows.filter(gpu_tier=wanted.gpu_tier.lower())
    nodes = list(rows)
    if not nodes:
        raise NotFound("There is no such node type here. Scan the account again, or look at Cloud Nodes.")
    return _best(nodes)


def _best(nodes: list[CloudNode]) -> tuple[CloudNode, str]:
    busy = runs.under_way([n.id for n in nodes])

    def rank(node: CloudNode) -> tuple[int, Decimal, str]:
        return (
            len(busy.get(node.id, ())),
            node.hourly_cost if node.hourly_cost is not None else Decimal(10**6),
            str(node.id),
        )

    ready = sorted((n for n in nodes if is_ready(n)), key=rank)
    if ready:
        return ready[0], "it is awake already"
    waking = sorted((n for n in nodes if n.observed_state == SleepState.WAKING), key=rank)
    if waking:
        return waking[0], "it is being woken already"
    may = automatic.rules_for(nodes)
    asleep = [n for n in nodes if n.can_switch and may[n.id].auto_start]
    if not asleep:
        why = [w for n in nodes for w in rules.protections(n.scaling, managed=n.managed)]
        raise InvalidState(
            "None of these nodes may be started automatically"
            + (f": {why[0]}." if why else ". Their rule forbids it; wake one by hand, or change the rule."),
            code="auto_start_off",
        )
    sound = [n for n in asleep if not n.error_on] or asleep
    return min(sound, key=rank), "it is the cheapest that can be woken"


def _known_run(actor: Actor, wanted: Wanted) -> WorkflowRun | None:
    if not wanted.workflow_id:
        return None
    rows = WorkflowRun.objects.visible_to(actor).filter(workflow_id=wanted.workflow_id, ended_at=None)
    if wanted.node_id is not None:
        rows = rows.filter(resource_id=wanted.node_id)
    if wanted.node_type:
        text = wanted.node_type.strip().lower()
        rows = rows.filter(Q(type_slug=text) | Q(node__node_type__name__iexact=wanted.node_type.strip()))
    if wanted.provider:
        rows = rows.filter(provider=wanted.provider)
    if wanted.gpu_tier:
        rows = rows.filter(gpu_tier=wanted.gpu_tier.lower())
    found: WorkflowRun | None = rows.select_related("node__node_type", "node__account").order_by("-asked_at").first()
    return found


def _refuse_failed(run: WorkflowRun) -> None:
    if run.operation_id is None or run.node is None or is_ready(run.node):
        return
    operation = Operation.objects.for_org(run.organization_id).filter(id=run.operation_id).first()
    if operation is not None and operation.status == Status.FAILED:
        raise _failed(operation)


def _failed(operation: Operation) -> CurfewError:
    words = provider_words(str(operation.payload.get("provider", ""))).label
    return Conflict(
        f"{words} could not start it: {operation.error} {operation.next_step}".strip(),
        code=NOT_STARTED,
        cause=operation.error_code,
        next_step=operation.next_step,
        operation=str(operation.id),
    )
