"""Nodes with what every page needs beside them: the operation under way and the learned durations."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from django.db.models import QuerySet

from cloudnodes import rules
from cloudnodes.enums import RESOURCE, START, Scales, subject_of
from cloudnodes.models import CloudNode
from core.actor import Actor
from core.errors import NotFound
from core.sleepable import SleepState, Standing
from operations.enums import ACTIVE
from operations.models import Duration, Operation

NEWEST = 20
VIEW = "nodes.view"


def visible_nodes(actor: Actor, *, gone: bool = False) -> QuerySet[CloudNode]:
    """Nodes of the actor's organization with their type and account; gone ones only when asked for."""
    actor.require(VIEW, "see cloud nodes")
    rows = CloudNode.objects.visible_to(actor).select_related("node_type", "account", "activity")
    found: QuerySet[CloudNode] = rows if gone else rows.filter(gone_at=None)
    return found.order_by("node_type__name", "provider", "instance_name", "id")


class Light(NamedTuple):
    """What is asked of every node of an organization at once; the full row is read only for those that are shown."""

    id: UUID
    node_type_id: UUID
    type_name: str
    instance_name: str
    gpu_tier: str
    provider: str
    region: str
    zone: str
    instance_type: str
    provider_state: str
    observed_state: str
    scaling: str
    managed: bool
    still_billing: bool
    hourly_cost: Decimal | None
    error_on: str
    team: str

    @property
    def is_on(self) -> bool:
        return self.provider_state in rules.UP

    @property
    def can_switch(self) -> bool:
        return self.managed and self.scaling == Scales.MANUAL

    @property
    def subject(self) -> str:
        return subject_of(self.provider, self.instance_type)


_LIGHT = tuple("node_type__name" if name == "type_name" else name for name in Light._fields)


def light_nodes(actor: Actor) -> list[Light]:
    """Every living node of the organization, in one narrow query."""
    actor.require(VIEW, "see cloud nodes")
    rows = CloudNode.objects.visible_to(actor).filter(gone_at=None).values_list(*_LIGHT)
    return [Light._make(row) for row in rows]


def standings(actor: Actor, ids: Collection[UUID]) -> list[Standing]:
    """How living nodes stand, in three narrow queries: for thousands at once."""
    actor.require(VIEW, "see cloud nodes")
    found = list(
        CloudNode.objects.visible_to(actor)
        .filter(gone_at=None, id__in=list(ids))
        .values_list("id", "organization_id", "observed_state", "provider", "instance_type", "scaling", "managed")
    )
    busy = set(
        Operation.objects.visible_to(actor)
        .filter(resource_kind=RESOURCE, status__in=ACTIVE)
        .values_list("resource_id", flat=True)
    )
    learned = learned_seconds(START, {subject_of(row[3], row[4]) for row in found})
    barred = {key: next(iter(rules.protections(key[0], managed=key[1])), "") for key in {row[5:] for row in found}}
    return [
        Standing(
            row[0],
            row[1],
            SleepState(row[2]),
            row[0] in busy,
            learned.get(subject_of(row[3], row[4])) if learned else None,
            barred[row[5:]],
        )
        for row in found
    ]


def operations_under_way(actor: Actor) -> dict[UUID, Operation]:
    """The operation under way on each of the organization's nodes that has one."""
    rows = Operation.objects.visible_to(actor).filter(resource_kind=RESOURCE, status__in=ACTIVE)
    return {operation.resource_id: operation for operation in rows}


def list_nodes(*, actor: Actor, tier: str = "", ids: Collection[UUID] | None = None) -> list[CloudNode]:
    """Living nodes by type, provider and name."""
    rows = visible_nodes(actor)
    if tier:
        rows = rows.filter(gpu_tier=tier)
    if ids is not None:
        rows = rows.filter(id__in=list(ids))
    return list(rows)


def get_node(*, actor: Actor, node_id: UUID) -> CloudNode:
    """One node, also when it is gone; NotFound for another organization's."""
    row = visible_nodes(actor, gone=True).filter(id=node_id).first()
    if row is None:
        raise NotFound("There is no such cloud node.")
    return row


def active_operations(node_ids: Collection[UUID]) -> dict[UUID, Operation]:
    """The operation under way on each of the nodes, if any. The ids must be the actor's own."""
    rows = Operation.objects.all_orgs().filter(
        resource_kind=RESOURCE, resource_id__in=list(node_ids), status__in=ACTIVE
    )
    return {operation.resource_id: operation for operation in rows}


def learned_seconds(kind: str, subjects: Iterable[str]) -> dict[str, float]:
    """Median seconds of the newest successes of a kind per subject, in one query; what was never measured is left out."""
    wanted = sorted({s for s in subjects if s})
    seen: dict[str, list[float]] = defaultdict(list)
    rows = Duration.objects.filter(kind=kind, subject__in=wanted).order_by("-at").values_list("subject", "seconds")
    for subject, seconds in rows[: NEWEST * max(1, len(wanted)) * 3]:
        if len(seen[subject]) < NEWEST:
            seen[subject].append(seconds)
    return {subject: statistics.median(values) for subject, values in seen.items()}


def operation_of(*, actor: Actor, node_id: UUID) -> Operation | None:
    """What is under way on a node of the actor's; NotFound for another organization's."""
    return active_operations([get_node(actor=actor, node_id=node_id).id]).get(node_id)
