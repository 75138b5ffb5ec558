"""One node's page: what it does and why, what was done to it, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from cloudnodes import rules
from cloudnodes.automatic_models import NodeActivity
from cloudnodes.enums import RESOURCE, START, STOP, provider_words, tier_words
from cloudnodes.models import AccountPoll, CloudNode
from cloudnodes.selectors.cells import NodeCell, Ring, cell_of, ring_of
from cloudnodes.selectors.estimate import Estimate, estimate_cost
from cloudnodes.selectors.nodes import active_operations, get_node, learned_seconds
from cloudnodes.selectors.preview import name_of
from core import clock
from core.actor import Actor
from costs import ledger
from costs import selectors as costs
from costs.enums import Phase
from costs.models import Interval
from operations.models import Operation
from operations.selectors import Line, line

SHOWN = 20
MONTH = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class IntervalLine:
    """One interval of the ledger, with its amount so far (None: no price)."""

    id: UUID
    phase: str
    started_at: datetime
    ended_at: datetime | None
    seconds: float
    price: Decimal | None
    source: str
    amount: Decimal | None
    why: str


@dataclass(slots=True)
class Detail:
    """Everything on a node's page. Sums are of the last thirty days, in USD. `run`: what one run of its kind would cost."""

    node: CloudNode
    cell: NodeCell
    name: str
    provider: str
    tier: str
    why: str
    operation: Operation | None
    ring: Ring | None
    history: list[Line]
    intervals: list[IntervalLine]
    spent: Decimal
    saved: Decimal
    awake_hours: Decimal
    unpriced: int
    wake_seconds: float | None
    sleep_seconds: float | None
    protections: tuple[str, ...]
    problem: dict[str, str] | None
    can_operate: bool
    can_wake: bool
    can_sleep: bool
    can_manage: bool
    run: Estimate | None = None
    work: NodeActivity | None = None


def get_detail(*, actor: Actor, node_id: UUID) -> Detail:
    """The page of one node, also of one that is gone; NotFound for another organization's."""
    node = get_node(actor=actor, node_id=node_id)
    operation = active_operations([node.id]).get(node.id)
    now = clock.now()
    mine = Interval.objects.visible_to(actor).filter(resource_kind=RESOURCE, resource_id=node.id)
    month = [row for row in mine.order_by("-started_at") if row.ended_at is None or row.ended_at > now - MONTH]
    sums = costs.sum_intervals(month, now - MONTH, now)
    history = (
        Operation.objects.visible_to(actor)
        .filter(resource_kind=RESOURCE, resource_id=node.id)
        .order_by("-created_at")[:SHOWN]
    )
    poll = AccountPoll.objects.visible_to(actor).filter(account_id=node.account_id).first()
    free = node.can_switch and operation is None and actor.can("nodes.operate")
    return Detail(
        node=node,
        cell=cell_of(node, operation),
        name=name_of(node),
        provider=provider_words(node.provider).label,
        tier=tier_words(node.gpu_tier).label,
        why=_why(node, operation),
        operation=operation,
        ring=ring_of(operation) if operation else None,
        history=[line(o) for o in history],
        intervals=[_interval(row, now) for row in month[:SHOWN]],
        spent=sums.spent,
        saved=sums.saved,
        awake_hours=sums.awake_hours,
        unpriced=sums.unpriced,
        wake_seconds=learned_seconds(START, [node.subject]).get(node.subject),
        sleep_seconds=learned_seconds(STOP, [node.subject]).get(node.subject),
        protections=rules.protections(node.scaling, managed=node.managed),
        problem=poll.problem() if poll else None,
        can_operate=actor.can("nodes.operate"),
        can_wake=free and (not node.is_on or bool(node.error_on)),
        work=getattr(node, "activity", None) if node.is_on else None,
        can_sleep=free and (node.is_on or node.still_billing or bool(node.error_on)),
        can_manage=actor.can("nodes.manage"),
        run=None if node.gone_at else _run(actor, node),
    )


def _run(actor: Actor, node: CloudNode) -> Estimate:
    return estimate_cost(
        actor=actor, node_type=node.node_type.slug, provider=node.provider, params={"gpu_tier": node.gpu_tier}
    )


def _why(node: CloudNode, operation: Operation | None) -> str:
    """Why it is on, or off: who asked last, or that it happened outside Curfew."""
    if operation is not None:
        said = f": {operation.reason}" if operation.reason else ""
        return f"{operation.actor_label} asked to {'wake' if operation.kind == START else 'put to sleep'} it{said}"
    return node.cause_label


def _interval(row: Interval, now: datetime) -> IntervalLine:
    end = row.ended_at or now
    return IntervalLine(
        id=row.id,
        phase=str(Phase(row.phase).label),
        started_at=row.started_at,
        ended_at=row.ended_at,
        seconds=max(0.0, (end - row.started_at).total_seconds()),
        price=row.price,
        source=row.price_source,
        amount=None if row.price is None else ledger.amount(row.price, row.started_at, end),
        why=" · ".join(part for part in (row.cause, row.person) if part),
    )
