"""Asking for nodes to wake and sleep, and bringing their rows in line when an operation begins and ends."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.db import transaction

from audit import services as audit
from cloudnodes import rules
from cloudnodes.enums import RESOURCE, START, STOP, Desired, ErrorOn, Power, Scales, provider_words
from cloudnodes.models import CloudNode
from cloudnodes.services.observe import forget_error, label_of, locked, settle
from core import clock
from core.actor import Actor
from core.errors import Conflict, CurfewError, InvalidInput, InvalidState, NotFound, QuotaExceeded
from core.live import publish
from costs import budgets
from operations import services as operations
from operations.enums import Status
from operations.models import Operation

# What the operation's own deadline adds to the executor's, so that the executor's better words come first.
GRACE_SECONDS = 120
ROW = ("desired_state", "observed_state", "state_since", "error_on", "error_code", "error", "next_step")
PERMISSION = "nodes.operate"


def request_start(
    *,
    actor: Actor,
    node_id: UUID | str | None = None,
    provider: str = "",
    instance_name: str = "",
    reason: str = "",
    idempotency_key: str | None = None,
    cause: str = "hand",
) -> Operation:
    """Ask for a node to be woken: by id, or by provider and instance name (or provider id).

    A start that is under way already is returned, so a hundred clicks are one start. Raises NotFound, Forbidden,
    InvalidState for a node that cannot be switched, and Conflict with `operation` while it is being put to sleep.
    """
    node = find_node(actor=actor, node_id=node_id, provider=provider, instance_name=instance_name)
    return _order(actor, node, START, reason, idempotency_key, cause)


def request_stop(
    *,
    actor: Actor,
    node_id: UUID | str | None = None,
    provider: str = "",
    instance_name: str = "",
    reason: str = "",
    idempotency_key: str | None = None,
    cause: str = "hand",
) -> Operation:
    """Ask for a node to be put to sleep; the mirror of `request_start`."""
    node = find_node(actor=actor, node_id=node_id, provider=provider, instance_name=instance_name)
    return _order(actor, node, STOP, reason, idempotency_key, cause)


def find_node(
    *, actor: Actor, node_id: UUID | str | None = None, provider: str = "", instance_name: str = ""
) -> CloudNode:
    """One living node that the actor may see. NotFound also for another organization's; InvalidInput for a name that
    several nodes bear.
    """
    rows = CloudNode.objects.visible_to(actor).filter(gone_at=None).select_related("node_type")
    if node_id:
        found = list(rows.filter(id=_uuid(node_id)))
    else:
        named = rows.filter(provider=provider) if provider else rows
        found = list(named.filter(instance_name=instance_name)[:2]) or list(named.filter(provider_id=instance_name)[:2])
    if not found:
        raise NotFound("There is no such cloud node.")
    if len(found) > 1:
        raise InvalidInput(
            errors={"instance_name": ["Several nodes bear this name; give the id or the provider's id instead."]}
        )
    return found[0]


def _uuid(text: UUID | str) -> UUID:
    try:
        return text if isinstance(text, UUID) else UUID(str(text))
    except ValueError:
        raise NotFound("There is no such cloud node.") from None


def _order(actor: Actor, node: CloudNode, kind: str, reason: str, key: str | None, cause: str) -> Operation:
    waking = kind == START
    actor.require(PERMISSION, "wake cloud nodes" if waking else "put cloud nodes to sleep")
    if waking and node.hourly_cost != 0 and not _under_way_already(node, kind):
        budgets.require_room(organization_id=node.organization_id, team=node.team, person=actor.label)
    with transaction.atomic():
        row = locked(node.id)
        if row is None:
            raise NotFound("There is no such cloud node.")
        known = _known(row, kind, key)
        if known is not None:
            return known
        under_way = _under_way(row, kind)
        if under_way is not None:
            return under_way
        _refuse_unswitchable(row)
        operation = _request(actor, row, kind, reason, key, cause)
        before = row.desired_state
        row.desired_state = Desired.AWAKE if waking else Desired.ASLEEP
        forget_error(row)
        settle(row, kind, clock.now())
        row.save(update_fields=ROW)
        audit.record(
            actor=actor,
            verb="node.wake_requested" if waking else "node.sleep_requested",
            target=row,
            target_label=label_of(row),
            detail=reason,
            changes={"desired_state": [before, str(row.desired_state)]},
            operation_id=operation.id,
            organization_id=row.organization_id,
        )
        publish(row.organization_id, "nodes", [row.id])
    return operation


def _request(actor: Actor, row: CloudNode, kind: str, reason: str, key: str | None, cause: str) -> Operation:
    words = provider_words(row.provider)
    seconds = words.start_seconds if kind == START else words.stop_seconds
    return operations.request_operation(
        actor=actor,
        kind=kind,
        resource_kind=RESOURCE,
        resource_id=row.id,
        resource_label=label_of(row),
        payload={"subject": row.subject, "provider": row.provider, "cause": cause},
        organization_id=row.organization_id,
        idempotency_key=key,
        reason=reason,
        subject=row.subject,
        deadline_seconds=seconds + GRACE_SECONDS,
    )


def _known(row: CloudNode, kind: str, key: str | None) -> Operation | None:
    """The operation that this idempotency key made before; Conflict when it was another one."""
    if not key:
        return None
    if len(key) > 120:
        raise InvalidInput(errors={"Idempotency-Key": ["At most 120 characters."]})
    known: Operation | None = Operation.objects.for_org(row.organization_id).filter(idempotency_key=key).first()
    if known is not None and (known.resource_id, known.kind) != (row.id, kind):
        raise Conflict(
            "This Idempotency-Key was used for something else.", code="idempotency_key_reused", operation=str(known.id)
        )
    return known


def _under_way_already(node: CloudNode, kind: str) -> bool:
    """Whether a start is under way: asking for it again starts nothing, so that no budget has a say in it."""
    active = operations.active_operation(RESOURCE, node.id)
    return active is not None and active.kind == kind


def _under_way(row: CloudNode, kind: str) -> Operation | None:
    active = operations.active_operation(RESOURCE, row.id)
    if active is None:
        return None
    if active.kind == kind and active.cancel_requested_at is None:
        return active
    doing = "woken" if active.kind == START else "put to sleep"
    words = "is being cancelled" if active.cancel_requested_at else f"is being {doing}"
    raise Conflict(
        f"{label_of(row)} {words}. Wait for it, or cancel it first.", code="operation_active", operation=str(active.id)
    )


def _refuse_unswitchable(row: CloudNode) -> None:
    if row.gone_at is not None:
        raise NotFound("There is no such cloud node.")
    if row.scaling != Scales.MANUAL:
        raise InvalidState(
            f"{label_of(row)} scales to zero by itself; there is nothing to switch.", code="scales_by_itself"
        )
    if not row.managed:
        raise InvalidState(
            f"{label_of(row)} no longer carries Curfew's tag, so Curfew leaves it alone.", code="unmanaged"
        )


@dataclass(slots=True)
class Applied:
    """What a batch did: operations under way, and what was left out with the reason."""

    operations: list[Operation] = field(default_factory=list)
    skipped: list[tuple[str, CurfewError]] = field(default_factory=list)


def apply_changes(
    *,
    actor: Actor,
    on: Collection[UUID | str] = (),
    off: Collection[UUID | str] = (),
    reason: str = "",
    idempotency_key: str | None = None,
    cause: str = "hand",
) -> Applied:
    """Wake and put to sleep several nodes, named by id or instance name. Each stands for itself: what cannot be done is
    reported and keeps nothing else from happening. Raises InvalidInput when a node is named in both, NotFound when one
    is not the actor's, before anything is changed.
    """
    actor.require(PERMISSION, "wake and put to sleep cloud nodes")
    if not on and not off:
        raise InvalidInput(errors={"on": ["Name at least one node to wake or to put to sleep."]})
    wake, sleep = _unique(actor, on), _unique(actor, off)
    both = {n.id for n in wake} & {n.id for n in sleep}
    if both:
        raise InvalidInput(errors={"off": ["A node cannot be woken and put to sleep at once."]})
    done = Applied()
    for kind, nodes in ((STOP, sleep), (START, wake)):
        for node in nodes:
            key = f"{idempotency_key}:{node.id.hex}" if idempotency_key else None
            try:
                done.operations.append(_order(actor, node, kind, reason, key, cause))
            except (Conflict, NotFound, QuotaExceeded) as refused:
                done.skipped.append((label_of(node), refused))
    return done


def _unique(actor: Actor, names: Collection[UUID | str]) -> list[CloudNode]:
    found: dict[UUID, CloudNode] = {}
    for name in names:
        node = _named(actor, name)
        found[node.id] = node
    return list(found.values())


def _named(actor: Actor, name: UUID | str) -> CloudNode:
    try:
        return find_node(actor=actor, node_id=UUID(str(name)))
    except ValueError:
        return find_node(actor=actor, instance_name=str(name))


def start_all(
    *, actor: Actor, tier: str = "", only: Collection[UUID | str] | None = None, reason: str = "Start all"
) -> Applied:
    """Wake every node of a tier that is off; `only` limits it to those that a person confirmed."""
    return _all(actor, tier, only, reason, wake=True)


def stop_all(
    *, actor: Actor, tier: str = "", only: Collection[UUID | str] | None = None, reason: str = "Stop all"
) -> Applied:
    """Put to sleep every node of a tier that is up, or off but still billed; `only` as in `start_all`."""
    return _all(actor, tier, only, reason, wake=False)


def _all(actor: Actor, tier: str, only: Collection[UUID | str] | None, reason: str, *, wake: bool) -> Applied:
    actor.require(PERMISSION, "wake and put to sleep cloud nodes")
    wanted = None if only is None else {str(i) for i in only}
    nodes = [n for n in switchable(actor=actor, tier=tier, wake=wake) if wanted is None or str(n.id) in wanted]
    if not nodes:
        return Applied()
    ids = [n.id for n in nodes]
    return apply_changes(actor=actor, on=ids if wake else (), off=() if wake else ids, reason=reason)


def switchable(*, actor: Actor, tier: str = "", wake: bool) -> Sequence[CloudNode]:
    """The nodes that "Start all" or "Stop all" would change now."""
    rows = CloudNode.objects.visible_to(actor).filter(gone_at=None, managed=True, scaling=Scales.MANUAL)
    if tier:
        rows = rows.filter(gpu_tier=tier)
    up = sorted(rules.UP)
    chosen = (
        rows.exclude(provider_state__in=up) if wake else rows.filter(provider_state__in=[*up, Power.STOPPED_BILLING])
    )
    return list(chosen.select_related("node_type").order_by("node_type__name", "provider", "instance_name"))


def dismiss_error(*, actor: Actor, node_id: UUID | str) -> CloudNode:
    """A person has read the error of the last order: show again what the provider says."""
    actor.require(PERMISSION, "dismiss errors of cloud nodes")
    found = find_node(actor=actor, node_id=node_id)
    with transaction.atomic():
        row = locked(found.id)
        if row is None:
            raise NotFound("There is no such cloud node.")
        if row.error_on:
            words = row.error
            forget_error(row)
            active = operations.active_operation(RESOURCE, row.id)
            settle(row, active.kind if active else "", clock.now())
            row.save(update_fields=ROW)
            audit.record(
                actor=actor,
                verb="node.error_dismissed",
                target=row,
                target_label=label_of(row),
                detail=words,
                organization_id=row.organization_id,
            )
            publish(row.organization_id, "nodes", [row.id])
    return row


def begin_order(*, operation: Operation) -> CloudNode | None:
    """An operation runs (again): its node shows that, whoever asked for it. None when the node is no more."""
    with transaction.atomic():
        row = locked(operation.resource_id)
        if row is None or row.gone_at is not None:
            return None
        wanted = Desired.AWAKE if operation.kind == START else Desired.ASLEEP
        before = (row.desired_state, row.observed_state, row.error_on)
        row.desired_state = wanted
        forget_error(row)
        settle(row, operation.kind, clock.now())
        if before != (row.desired_state, row.observed_state, row.error_on):
            row.save(update_fields=ROW)
            publish(row.organization_id, "nodes", [row.id])
    return row


def finish_order(*, operation: Operation) -> None:
    """An operation has ended, in the transaction that ends it: the node's row says how.

    A start that was cancelled after its order went out is followed by a stop, and the other way round, so that a cancel
    leaves the node as it was.
    """
    row = locked(operation.resource_id)
    if row is None:
        return
    who = Actor.system("worker", row.organization_id, operation.request_id)
    waking, now = operation.kind == START, clock.now()
    follow_up = ""
    if operation.status == Status.SUCCEEDED:
        _succeeded(row, operation, who)
    else:
        row.desired_state = Desired.AWAKE if row.is_on else Desired.ASLEEP
        if operation.status == Status.FAILED:
            _failed(row, operation, who)
        elif operation.state.get("token") and row.can_switch:
            follow_up = STOP if waking else START
            row.desired_state = Desired.ASLEEP if waking else Desired.AWAKE
            asked = f"{'Waking' if waking else 'The sleep'} was cancelled"
            _request(who, row, follow_up, asked, None, "hand")
    settle(row, follow_up, now)
    row.save(update_fields=[*ROW, "ready_at", "started_at", "cause", "cause_label", "cause_at"])
    publish(row.organization_id, "nodes", [row.id])


def _succeeded(row: CloudNode, operation: Operation, who: Actor) -> None:
    waking, now = operation.kind == START, clock.now()
    row.desired_state = Desired.AWAKE if waking else Desired.ASLEEP
    forget_error(row)
    row.ready_at = now if waking else None
    row.started_at = row.started_at if waking else None
    row.cause, row.cause_at = str(operation.payload.get("cause", "hand"))[:20], now
    said = f": {operation.reason}" if operation.reason else ""
    row.cause_label = f"{'Woken' if waking else 'Put to sleep'} by {operation.actor_label}{said}"[:300]
    audit.record(
        actor=who,
        verb="node.woke" if waking else "node.fell_asleep",
        target=row,
        target_label=label_of(row),
        detail=row.cause_label,
        operation_id=operation.id,
    )


def _failed(row: CloudNode, operation: Operation, who: Actor) -> None:
    waking = operation.kind == START
    row.error_on = ErrorOn.START if waking else ErrorOn.STOP
    row.error_code, row.error, row.next_step = operation.error_code, operation.error, operation.next_step
    audit.record(
        actor=who,
        verb="node.wake_failed" if waking else "node.sleep_failed",
        target=row,
        target_label=label_of(row),
        outcome="failed",
        detail=operation.error,
        operation_id=operation.id,
    )
