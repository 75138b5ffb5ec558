"""Weeks that were learned: when clusters were really used, as a grid to paint with one click."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from clusters import selectors as clusters
from clusters.selectors import overview
from core.actor import Actor

MOST = 50


@dataclass(frozen=True, slots=True)
class Teacher:
    """A cluster whose week can be learned."""

    id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class Learned:
    """The week of a cluster; `rows` is None while it is not known, and `message` says why. Potential money."""

    name: str
    rows: tuple[str, ...] | None
    blue_hours: int
    weeks: int
    message: str
    monthly: Decimal | None


def teachers(actor: Actor) -> list[Teacher]:
    """The clusters that the actor may see, by name; none without the right."""
    if not actor.can("clusters.view"):
        return []
    rows = clusters.rows(actor=actor, filters=clusters.Filters()).order_by("name").values_list("id", "name")[:MOST]
    return [Teacher(key, name) for key, name in rows]


def learned_week(*, actor: Actor, cluster_id: UUID, rate: Decimal | None = None) -> Learned:
    """When a cluster was used, with what its blue zones would save a month at `rate`. Raises NotFound."""
    cluster = clusters.get_cluster(actor=actor, cluster_id=cluster_id)
    found = overview.activity_of(actor=actor, cluster=cluster)
    return Learned(cluster.name, found.grid, found.blue_hours, found.weeks, found.message, found.monthly_savings(rate))
