"""What a scan found becomes rows; what a disconnected account had leaves the ledger closed behind it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from django.db import transaction

from accounts.models import CloudAccount
from audit import services as audit
from cloudnodes.enums import RESOURCE, tier_of
from cloudnodes.models import AccountPoll, CloudNode, NodeType
from cloudnodes.providers.base import Instance, node_type_slug
from cloudnodes.services.observe import WATCHER, label_of, observe, own_tag
from core import clock
from core.actor import Actor
from core.live import publish
from costs import services as costs
from costs.enums import Phase
from operations.enums import ACTIVE
from operations.models import Operation


def sync_discovered(
    *, account: CloudAccount, instances: Collection[Instance], at: datetime | None = None, actor: Actor | None = None
) -> dict[str, int]:
    """Create or update the rows of what a scan found, each in its own transaction, and commit what it does now.

    Instances without a node type are left out. Nodes that the scan did not find are left to the next poll, which asks
    for them by name. Returns `{"cloud_nodes": found, "new_cloud_nodes": created}`.
    """
    moment = at or clock.now()
    who = actor or Actor.system(WATCHER, account.organization_id)
    created = found = 0
    AccountPoll.objects.for_org(account.organization_id).get_or_create(
        account=account, defaults={"organization_id": account.organization_id}
    )
    for instance in instances:
        if not node_type_slug(instance.node_type):
            continue
        found += 1
        with transaction.atomic():
            node_id, new = _upsert(account, instance, moment, who)
            created += new
            observe(node_id=node_id, instance=instance, at=moment, actor=who)
    return {"cloud_nodes": found, "new_cloud_nodes": created}


def _upsert(account: CloudAccount, instance: Instance, at: datetime, who: Actor) -> tuple[UUID, bool]:
    """The id of the instance's row, made now if need be; its type and tier are those of the tags."""
    node_type = _node_type(account, instance, at)
    tier = (instance.gpu_tier or tier_of(instance.instance_type))[:40]
    rows = CloudNode.objects.for_org(account.organization_id)
    node = rows.select_for_update(of=("self",)).filter(account=account, provider_id=instance.provider_id).first()
    if node is not None:
        if (node.node_type_id, node.gpu_tier) != (node_type.id, tier):
            node.node_type, node.gpu_tier = node_type, tier
            node.save(update_fields=["node_type", "gpu_tier"])
            publish(account.organization_id, "nodes", [node.id])
        return node.id, False
    node = CloudNode(
        organization_id=account.organization_id,
        account=account,
        node_type=node_type,
        gpu_tier=tier,
        provider=account.provider,
        provider_id=instance.provider_id,
        instance_name=instance.name[:200],
        region=instance.region[:60],
        instance_type=instance.instance_type[:200],
        created_at=at,
    )
    node.save(force_insert=True)
    audit.record(
        actor=who,
        verb="node.found",
        target=node,
        target_label=label_of(node),
        organization_id=account.organization_id,
        detail=f"{instance.instance_type} in {instance.region or account.name}",
    )
    return node.id, True


def _node_type(account: CloudAccount, instance: Instance, at: datetime) -> NodeType:
    """The type that the tag names; "FLUX Dev" and "flux-dev" are one, and the better spelling wins. Description, port
    and health path come from tags as well.
    """
    slug = node_type_slug(instance.node_type)[:120]
    name = instance.node_type.strip()[:120]
    row, _ = NodeType.objects.for_org(account.organization_id).get_or_create(
        slug=slug, defaults={"organization_id": account.organization_id, "name": name, "created_at": at}
    )
    better: dict[str, object] = {}
    if row.name == slug and name != slug:
        better["name"] = name
    told = {
        "description": own_tag(instance.tags, "description")[:200],
        "health_path": own_tag(instance.tags, "health-path")[:200],
    }
    better.update({field: text for field, text in told.items() if text and text != getattr(row, field)})
    port = own_tag(instance.tags, "port")
    if port.isdecimal() and 0 < int(port) < 65536 and int(port) != row.port:
        better["port"] = int(port)
    if better:
        for field, value in better.items():
            setattr(row, field, value)
        row.save(update_fields=list(better))
    return row


def disconnect_effects(*, actor: Actor, account: CloudAccount) -> list[str]:
    """What disconnecting an account would mean for its nodes, as sentences for the confirmation."""
    nodes = list(CloudNode.objects.for_org(account.organization_id).filter(account=account, gone_at=None))
    if not nodes:
        return []
    on = [n for n in nodes if n.is_on or n.still_billing]
    known = sum((n.hourly_cost for n in on if n.hourly_cost is not None), Decimal(0))
    words = f"{len(nodes)} cloud node{'s leave' if len(nodes) != 1 else ' leaves'} Curfew"
    if on:
        verb = "are on now and stay" if len(on) != 1 else "is on now and stays"
        cost = f", at ${known:.2f} an hour" if known else ""
        words += f"; {len(on)} of them {verb} on{cost}"
    found = [f"{words}."]
    under_way = (
        Operation.objects.for_org(account.organization_id)
        .filter(resource_kind=RESOURCE, resource_id__in=[n.id for n in nodes], status__in=ACTIVE)
        .count()
    )
    if under_way:
        verb = "operations under way on them end" if under_way != 1 else "operation under way on them ends"
        found.append(f"{under_way} {verb} without {'their' if under_way != 1 else 'its'} result being known.")
    return found


def close_account(*, actor: Actor, account: CloudAccount) -> None:
    """A cloud account is being disconnected: close its nodes' intervals and forget them, in the caller's transaction.

    What was spent and saved so far stays in the ledger.
    """
    moment = clock.now()
    rows = CloudNode.objects.for_org(account.organization_id).filter(account=account).select_related("node_type")
    for node in list(rows):
        if node.phase and node.phase != Phase.GONE:
            costs.record_event(
                actor=actor,
                organization_id=node.organization_id,
                resource_kind=RESOURCE,
                resource_id=node.id,
                resource_label=label_of(node),
                phase=Phase.GONE,
                at=moment,
                key=f"{node.phase_seq + 1}:{Phase.GONE.value}",
                source="account disconnected",
                team=node.team,
                person=actor.label,
            )
        audit.record(
            actor=actor,
            verb="node.forgotten",
            target=node,
            target_label=label_of(node),
            organization_id=node.organization_id,
            detail=f"{account.name} was disconnected; the node itself was left as it was.",
        )
    publish(account.organization_id, "nodes", [node.id for node in rows])
    rows.delete()
    AccountPoll.objects.for_org(account.organization_id).filter(account=account).delete()
