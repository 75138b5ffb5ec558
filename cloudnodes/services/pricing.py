"""What a node costs an hour: the price on its own label, else the price book, else unknown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db import transaction

from audit import services as audit
from cloudnodes.enums import RESOURCE, Scales
from cloudnodes.models import CloudNode
from core import clock
from core.actor import Actor
from core.live import publish
from costs import selectors as prices
from costs import services as costs

UNKNOWN = "unknown: not on its label and not in the price book"
# A local container has no list price; a price list has no spot prices.
NO_COMPUTE_ASLEEP = Decimal(0)


@dataclass(frozen=True, slots=True)
class Quote:
    """USD per hour awake (None: unknown) and where the figure comes from."""

    hourly: Decimal | None
    source: str


def quote(node: CloudNode, at: datetime) -> Quote:
    """Find the price of a node; never a guess. Reads the price book unless a label or the scaling decides."""
    if node.scaling == Scales.TO_ZERO:
        return Quote(Decimal(0), "scales to zero by itself: nothing while idle")
    if node.label_cost is not None:
        return Quote(node.label_cost, "label on the instance")
    listed = prices.list_price(node.provider, node.region, node.instance_type, node.lifecycle, at)
    if listed is None or listed.currency != "USD":
        return Quote(None, UNKNOWN)
    return Quote(listed.hourly, f"{listed.source}, {listed.as_of.isoformat()}"[:200])


def set_node_price(*, actor: Actor, node: CloudNode, at: datetime) -> bool:
    """Bring the row's price snapshot and the ledger's dated price in line; the caller saves the row. True when it changed.

    While asleep the compute price is zero; disks and addresses are in neither figure.
    """
    found = quote(node, at)
    changed = (node.hourly_cost, node.hourly_cost_source) != (found.hourly, found.source)
    if not changed and node.hourly_cost_at is not None:
        return False
    node.hourly_cost, node.hourly_cost_source, node.hourly_cost_at = found.hourly, found.source, at
    if node.scaling != Scales.TO_ZERO:
        costs.set_price(
            actor=actor,
            organization_id=node.organization_id,
            resource_kind=RESOURCE,
            resource_id=node.id,
            resource_label=str(node),
            awake=found.hourly,
            asleep=NO_COMPUTE_ASLEEP,
            source=found.source,
            valid_from=at,
        )
    return True


def reprice(*, actor: Actor, node: CloudNode) -> bool:
    """Look the price up again, from now on. True when it changed."""
    at = clock.now()
    with transaction.atomic():
        row = CloudNode.objects.for_org(node.organization_id).select_for_update().filter(id=node.id).first()
        if row is None:
            return False
        before = row.hourly_cost
        if not set_node_price(actor=actor, node=row, at=at):
            return False
        row.save(update_fields=["hourly_cost", "hourly_cost_source", "hourly_cost_at"])
        if before != row.hourly_cost:
            audit.record(
                actor=actor,
                verb="node.repriced",
                target=row,
                detail=row.hourly_cost_source,
                organization_id=row.organization_id,
                changes={"hourly_cost": [_text(before), _text(row.hourly_cost)]},
            )
        publish(row.organization_id, "nodes", [row.id])
    return True


def reprice_all(*, actor: Actor) -> int:
    """Look up the price of every living node that has no label of its own; returns how many changed."""
    rows = CloudNode.objects.visible_to(actor).filter(gone_at=None, label_cost=None).order_by("id")
    at = clock.now()
    changed = 0
    for node in rows.iterator(chunk_size=500):
        found = quote(node, at)
        if (node.hourly_cost, node.hourly_cost_source) != (found.hourly, found.source):
            changed += reprice(actor=actor.within(node.organization_id), node=node)
    return changed


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else str(amount)
