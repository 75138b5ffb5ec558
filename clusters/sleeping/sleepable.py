"""Clusters as Sleepables: what schedules, bulk actions and the home page see of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal
from uuid import UUID

from clusters.enums import RESOURCE, State
from clusters.models import Cluster
from clusters.sleeping import gateway, services
from clusters.sleeping.models import SleepSnapshot
from core.actor import Actor
from core.sleepable import SleepableView, SleepState
from operations.enums import ACTIVE
from operations.models import Duration, Operation

_NOT_ASLEEP = {
    State.LIVE: SleepState.AWAKE,
    State.CONNECTING: SleepState.AWAKE,
    State.LOST: SleepState.LOST,
    State.ERROR: SleepState.TROUBLE,
    State.ASLEEP: SleepState.ASLEEP,
}


class ClusterKind:
    """The registered kind of clusters; see `core.sleepable.SleepableKind`."""

    kind = RESOURCE
    label = "Cluster"
    label_plural = "Clusters"
    icon = "hexagons"
    operate = "clusters.operate"

    def list(self, actor: Actor, ids: Collection[UUID] | None = None) -> Sequence[SleepableView]:
        """Clusters in four queries; none for an actor that may not see clusters."""
        if not actor.can("clusters.view"):
            return []
        rows = Cluster.objects.visible_to(actor).order_by("name", "id")
        clusters = list(rows if ids is None else rows.filter(id__in=list(ids)))
        if not clusters:
            return []
        known = [c.id for c in clusters]
        under_way = {
            o.resource_id: o
            for o in Operation.objects.visible_to(actor).filter(
                resource_kind=RESOURCE, resource_id__in=known, status__in=ACTIVE
            )
        }
        open_ones = SleepSnapshot.objects.visible_to(actor).filter(restored_at=None, handed_over_at=None)
        snapshots = {s.cluster_id: s for s in open_ones.filter(cluster_id__in=known).defer("entries", "decision")}
        learned = _learned([str(i) for i in known])
        return [view_of(c, under_way.get(c.id), snapshots.get(c.id), learned.get(str(c.id))) for c in clusters]

    def request_sleep(
        self, actor: Actor, resource_id: UUID, *, reason: str, options: dict[str, object] | None = None
    ) -> UUID | None:
        """Order a sleep; `options` may hold `cause` and `idempotency_key`."""
        return services.request_sleep(actor=actor, cluster_id=resource_id, reason=reason, **_options(options)).id

    def request_wake(
        self, actor: Actor, resource_id: UUID, *, reason: str, options: dict[str, object] | None = None
    ) -> UUID | None:
        """Order a wake; options as for `request_sleep`."""
        return services.request_wake(actor=actor, cluster_id=resource_id, reason=reason, **_options(options)).id


def _options(options: dict[str, object] | None) -> dict[str, str]:
    return {k: str(v) for k, v in (options or {}).items() if k in ("cause", "idempotency_key") and v}


def _learned(subjects: list[str]) -> dict[str, float]:
    """How long the last wake of each took, in one query."""
    rows = Duration.objects.filter(kind=services.WAKE, subject__in=subjects).order_by("at")
    return dict(rows.values_list("subject", "seconds"))


def state_of(cluster: Cluster, operation: Operation | None, snapshot: SleepSnapshot | None) -> SleepState:
    """The word for a cluster: an order under way, else what its snapshot says, else how it reports."""
    if operation is not None and operation.kind in (services.SLEEP, services.WAKE):
        return SleepState.FALLING if operation.kind == services.SLEEP else SleepState.WAKING
    if snapshot is not None:
        if snapshot.trouble or snapshot.asleep_at is None:
            return SleepState.TROUBLE
        return SleepState.CONTESTED if snapshot.contested_at else SleepState.ASLEEP
    if not gateway.has_way(cluster):
        return SleepState.LOST if cluster.state == State.LOST else SleepState.UNMANAGED
    return _NOT_ASLEEP[State(cluster.state)]


def view_of(
    cluster: Cluster, operation: Operation | None, snapshot: SleepSnapshot | None, wake_seconds: float | None
) -> SleepableView:
    cause = (snapshot.trouble or snapshot.contested) if snapshot is not None else ""
    asleep = cluster.hourly_cost if snapshot is not None and snapshot.asleep_at and cluster.hourly_cost else Decimal(0)
    parts = (cluster.get_distribution_display(), cluster.version, cluster.region)
    return SleepableView(
        kind=RESOURCE,
        id=cluster.id,
        organization_id=cluster.organization_id,
        name=cluster.name,
        detail=" · ".join(str(part) for part in parts if part),
        url=cluster.get_absolute_url(),
        state=state_of(cluster, operation, snapshot),
        since=cluster.state_since,
        hourly_cost=snapshot.awake_hourly if snapshot is not None else cluster.hourly_cost,
        tags={str(k): str(v) for k, v in cluster.tags.items()},
        wake_seconds=wake_seconds,
        owner=cluster.owner,
        cause=cause or cluster.cause,
        operation_id=operation.id if operation is not None else None,
        asleep_hourly_cost=asleep,
    )


__all__ = ["ClusterKind", "state_of", "view_of"]
