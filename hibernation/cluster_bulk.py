"""What hibernation adds to the bulk bar of the cluster registry: let the chosen clusters follow a schedule."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from clusters.enums import RESOURCE
from clusters.extensions import BulkAction, Choice
from clusters.models import Cluster
from core.actor import Actor
from hibernation import services
from hibernation.models import Schedule

MOST = 100


def choices(actor: Actor) -> Sequence[Choice]:
    """The organization's schedules by name."""
    rows = Schedule.objects.visible_to(actor).order_by("name").values_list("id", "name")[:MOST]
    return [Choice(str(schedule_id), name) for schedule_id, name in rows]


def apply(actor: Actor, cluster: Cluster, choice: str) -> None:
    """Let one cluster follow the schedule."""
    services.assign(actor=actor, schedule_id=UUID(choice), resources=[(RESOURCE, cluster.id)])


ACTION = BulkAction("schedule", "Apply schedule", "calendar-time", "hibernation.manage", choices, apply)
