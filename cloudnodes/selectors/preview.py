"""What a change would do before it is done: which nodes, what it costs now, after, and the difference."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID

from cloudnodes import rules
from cloudnodes.enums import START, provider_words
from cloudnodes.models import CloudNode
from cloudnodes.selectors.nodes import Light, active_operations, list_nodes
from core.actor import Actor
from core.errors import NotFound
from costs import budgets
from costs import selectors as costs
from operations.models import Operation

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Change:
    """One node that would be woken (`wake`) or put to sleep; `hourly` is None when its price is unknown."""

    id: UUID
    name: str
    detail: str
    wake: bool
    hourly: Decimal | None


@dataclass(frozen=True, slots=True)
class Kept:
    """A node that stays as it is, and why."""

    name: str
    why: str


@dataclass(slots=True)
class Preview:
    """USD per hour of the whole organization now and after; `unpriced` changes are in neither figure."""

    wake: list[Change] = field(default_factory=list)
    sleep: list[Change] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    now: Decimal = ZERO
    unpriced: int = 0

    @property
    def changes(self) -> list[Change]:
        return [*self.wake, *self.sleep]

    @property
    def difference(self) -> Decimal:
        up = sum((c.hourly or ZERO for c in self.wake), ZERO)
        return up - sum((c.hourly or ZERO for c in self.sleep), ZERO)

    @property
    def saved(self) -> Decimal:
        return -self.difference

    @property
    def after(self) -> Decimal:
        return self.now + self.difference


def name_of(node: CloudNode) -> str:
    return f"{node.node_type.name} on {provider_words(node.provider).label}"


def _change(node: CloudNode, *, wake: bool) -> Change:
    place = " · ".join(part for part in (node.gpu_tier.upper(), node.instance_name, node.region) if part)
    return Change(node.id, name_of(node), place, wake, node.hourly_cost)


def preview_changes(*, actor: Actor, on: Collection[UUID], off: Collection[UUID]) -> Preview:
    """Preview waking and putting to sleep the named nodes. NotFound when one is not the actor's."""
    wanted = {*on, *off}
    nodes = list_nodes(actor=actor, ids=wanted)
    if len(nodes) != len(wanted):
        raise NotFound("There is no such cloud node.")
    return _preview(actor, [n for n in nodes if n.id in set(on)], [n for n in nodes if n.id in set(off)])


def preview_all(*, actor: Actor, tier: str, wake: bool) -> Preview:
    """Preview "Start all" or "Stop all" of a tier: also which nodes stay as they are, and why."""
    nodes = list_nodes(actor=actor, tier=tier)
    chosen, kept = [], []
    busy = active_operations([n.id for n in nodes])
    refusing = budgets.refusing(actor=Actor.system("budgets", actor.org_id)) if wake and actor.org_id else []
    for node in nodes:
        why = why_kept(node, busy.get(node.id), wake=wake)
        if not why and node.hourly_cost != 0 and any(s.covers(team=node.team, person=actor.label) for s in refusing):
            why = "a budget is used up, so nothing new is woken"
        if why:
            kept.append(Kept(name_of(node), why))
        else:
            chosen.append(node)
    found = _preview(actor, chosen if wake else [], [] if wake else chosen)
    found.kept = kept
    return found


def why_kept(node: CloudNode | Light, operation: Operation | None, *, wake: bool) -> str:
    """Why "Start all" or "Stop all" leaves a node alone; "" when it does not."""
    protected = rules.protections(node.scaling, managed=node.managed)
    if protected:
        return protected[0]
    if operation is not None:
        return "is being woken" if operation.kind == START else "is being put to sleep"
    if wake and node.is_on:
        return "is awake already"
    if not wake and not node.is_on and not node.still_billing:
        return "is asleep already"
    return ""


def _preview(actor: Actor, wake: list[CloudNode], sleep: list[CloudNode]) -> Preview:
    now, _ = costs.burn_rate(actor)
    found = Preview([_change(n, wake=True) for n in wake], [_change(n, wake=False) for n in sleep], now=now)
    found.unpriced = sum(c.hourly is None for c in found.changes)
    return found
