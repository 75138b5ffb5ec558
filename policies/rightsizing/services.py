"""Ordering changes of requests and the way back, by hand and by the sweep; what executors write down."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import transaction

from accounts.models import Organization
from audit import services as audit
from clusters.enums import RESOURCE as CLUSTER
from clusters.enums import State
from clusters.models import Cluster
from clusters.selectors import automation
from clusters.sleeping import gateway
from core import clock
from core.actor import Actor
from core.errors import Conflict, InvalidState, NotFound
from core.live import publish
from operations import services as operations
from operations.enums import ACTIVE, Status
from operations.models import Operation
from policies.enums import Mode, Rightsizing
from policies.models import PolicyAssignment
from policies.rightsizing import due, reporting
from policies.rightsizing.enums import RESIZE, RESOURCE, ROLLBACK, ROLLOUT, Outcome
from policies.rightsizing.models import SizeChange, SizedWorkload, SizeReport
from policies.rightsizing.patching import Snapshot

OPERATE = "policies.operate"
RESIZE_SECONDS, ROLLBACK_SECONDS = 3600, 1800
HELD_AFTER_HARM = timedelta(days=7)
HELD_AFTER_REFUSAL = timedelta(days=1)
FRESH = timedelta(hours=24)
TOPIC = "policies"


def why_not(cluster: Cluster) -> str:
    """Why nothing of this cluster may be changed now, whoever asks: maintenance and sleep win; "" when it may."""
    if cluster.maintenance_since is not None:
        return automation.why_paused(cluster)
    if cluster.state == State.ASLEEP:
        return f"{cluster.name} is asleep."
    active = operations.active_operation(CLUSTER, cluster.id)
    if active is not None and active.kind.startswith("cluster."):
        return f"{cluster.name} is on its way to sleep or awake."
    if not gateway.reaches(cluster):
        return f"Curfew only hears {cluster.name} through its agent. Connect it with a kubeconfig or through its EKS account."
    return "" if cluster.state == State.LIVE else f"{cluster.name} does not answer."


def request_resize(
    *, actor: Actor, cluster_id: UUID, recommendation_id: UUID, idempotency_key: str | None = None
) -> Operation:
    """Apply one recommendation now, without waiting for its hours. Raises Forbidden, NotFound, Conflict while the
    workload is being changed, InvalidState when the policy only recommends, or nothing may be changed now."""
    actor.require(OPERATE, "change what workloads request")
    cluster, row = _recommended(actor, cluster_id, recommendation_id)
    ruling = reporting.ruling_of(cluster)
    if ruling.mode is not Rightsizing.APPLY:
        raise InvalidState(
            "The policy of this cluster only recommends. Set rightsizing to automatic apply, and the policy to enforce.",
            code="recommends_only",
        )
    wanted = due.wanted(row) if row["changes"] else {}
    if not wanted:
        raise InvalidState("There is nothing to change: every figure of it is held, with the reason beside it.")
    return order(
        actor=actor, cluster=cluster, row=row, wanted=wanted, in_place=False, reason="by hand", key=idempotency_key
    )


def _recommended(actor: Actor, cluster_id: UUID, recommendation_id: UUID) -> tuple[Cluster, Mapping[str, Any]]:
    cluster = Cluster.objects.visible_to(actor).filter(id=cluster_id).first()
    if cluster is None:
        raise NotFound("There is no such cluster.")
    report = SizeReport.objects.visible_to(actor).filter(cluster=cluster).first()
    rows = report.rows if report is not None else []
    row = next((one for one in rows if one["id"] == str(recommendation_id)), None)
    if report is None or row is None:
        raise NotFound("There is no such recommendation.")
    if clock.now() - report.at > FRESH:
        raise InvalidState("This recommendation is older than a day: the cluster has not reported since.", code="stale")
    return cluster, row


def order(
    *,
    actor: Actor,
    cluster: Cluster,
    row: Mapping[str, Any],
    wanted: Mapping[str, Mapping[str, int]],
    in_place: bool,
    reason: str = "",
    key: str | None = None,
) -> Operation:
    """The operation that makes one change. Raises InvalidState, Conflict."""
    refused = why_not(cluster)
    if refused:
        raise InvalidState(refused, code="paused")
    old = {box["name"]: {name: box[name]["old"] for name in ("cpu", "memory")} for box in row["boxes"]}
    with transaction.atomic():
        workload, _ = SizedWorkload.objects.for_org(cluster.organization_id).get_or_create(
            cluster=cluster,
            key=row["key"],
            defaults={"id": UUID(row["id"]), "organization_id": cluster.organization_id},
        )
        operation = operations.request_operation(
            actor=actor,
            kind=RESIZE,
            resource_kind=RESOURCE,
            resource_id=workload.id,
            resource_label=f"{row['key']} of {cluster.name}",
            payload={
                "cluster": str(cluster.id),
                "wanted": {name: dict(sizes) for name, sizes in wanted.items()},
                "expected": {name: {n: old[name][n] for n in sizes} for name, sizes in wanted.items()},
                "in_place": in_place,
                "saves": row["saves"],
            },
            organization_id=cluster.organization_id,
            reason=reason,
            idempotency_key=key,
            deadline_seconds=RESIZE_SECONDS,
        )
        publish(cluster.organization_id, TOPIC, [cluster.id])
    return operation


def request_rollback(*, actor: Actor, change_id: UUID, idempotency_key: str | None = None) -> Operation:
    """Give a workload back what it requested before a change. Raises Forbidden, NotFound, Conflict, InvalidState."""
    actor.require(OPERATE, "change what workloads request")
    change = SizeChange.objects.visible_to(actor).select_related("workload__cluster").filter(id=change_id).first()
    if change is None:
        raise NotFound("There is no such change.")
    if change.outcome not in (Outcome.KEPT, Outcome.UNPROVEN):
        raise InvalidState("This change is under way, was never made, or was taken back already.")
    later = change.workload.changes.for_org(change.organization_id).filter(at__gt=change.at)
    if later.exclude(outcome=Outcome.NOT_MADE).exists():
        raise Conflict("It was changed again since. Take the newest change back first.")
    cluster = change.workload.cluster
    refused = why_not(cluster)
    if refused:
        raise InvalidState(refused, code="paused")
    operation: Operation = operations.request_operation(
        actor=actor,
        kind=ROLLBACK,
        resource_kind=RESOURCE,
        resource_id=change.workload_id,
        resource_label=f"{change.workload.key} of {cluster.name}",
        payload={"cluster": str(cluster.id), "change": str(change.id)},
        organization_id=change.organization_id,
        idempotency_key=idempotency_key,
        reason="by hand",
        deadline_seconds=ROLLBACK_SECONDS,
    )
    return operation


# the sweep


def apply_due() -> int:
    """Order what is due on every cluster whose policy applies sizes. Returns how many orders were given."""
    links = PolicyAssignment.objects.all_orgs().filter(mode=str(Mode.ENFORCE)).select_related("cluster")
    return sum(_apply_cluster(link.cluster) for link in links)


def _apply_cluster(cluster: Cluster) -> int:
    now, org_id = clock.now(), cluster.organization_id
    ruling = reporting.ruling_of(cluster)
    if ruling.mode is not Rightsizing.APPLY or why_not(cluster):
        return 0
    report = SizeReport.objects.for_org(org_id).filter(cluster=cluster, changes__gt=0).first()
    if report is None or now - report.at > FRESH:
        return 0
    zone = Organization.objects.values_list("timezone", flat=True).get(id=org_id)
    local = now.astimezone(ZoneInfo(zone or "UTC"))
    night = due.in_hours(local, ruling.rules.down_from, ruling.rules.down_until)
    past = history(cluster)
    active = sum(one.active for one in past.values())
    chosen, _ = due.orders(report.rows, past, now, night=night, under_way=active)
    count = 0
    for one in chosen:
        try:
            order(
                actor=Actor.system(reporting.ACTOR, org_id),
                cluster=cluster,
                row=one.row,
                wanted=one.wanted,
                in_place=one.up and ruling.rules.in_place,
                reason=f"policy {ruling.policy}"[:300],
            )
        except (InvalidState, Conflict):
            continue
        count += 1
    return count


def history(cluster: Cluster) -> dict[str, due.Past]:
    """What was done to each workload of a cluster before."""
    org_id = cluster.organization_id
    rows = {row.id: row for row in SizedWorkload.objects.for_org(org_id).filter(cluster=cluster)}
    recent = SizeChange.objects.for_org(org_id).filter(
        workload__cluster=cluster, at__gte=clock.now() - timedelta(days=8)
    )
    changes: dict[UUID, list[SizeChange]] = {}
    for change in recent.exclude(outcome=Outcome.NOT_MADE).order_by("-at"):
        changes.setdefault(change.workload_id, []).append(change)
    running = Operation.objects.for_org(org_id).filter(resource_kind=RESOURCE, resource_id__in=list(rows))
    active = set(running.filter(status__in=[s.value for s in ACTIVE]).values_list("resource_id", flat=True))
    return {
        row.key: due.Past(
            tuple(c.at for c in changes.get(row.id, [])),
            next((c.at for c in changes.get(row.id, []) if c.method == ROLLOUT), None),
            row.held_until,
            row.held_why,
            row.id in active,
        )
        for row in rows.values()
    }


# what executors write down


def change_of(operation: Operation) -> SizeChange | None:
    """The change that an operation made or makes."""
    rows = SizeChange.objects.for_org(operation.organization_id).select_related("workload")
    found: SizeChange | None = rows.filter(operation_id=operation.id).first()
    return found


def begin_change(
    *,
    operation: Operation,
    change_id: UUID,
    method: str,
    before: Snapshot,
    after: Snapshot,
    baseline: Mapping[str, Any],
) -> SizeChange:
    """Write down what a workload goes back to, before anything is changed. A repeat returns the row that is there."""
    with transaction.atomic():
        known = change_of(operation)
        if known is not None:
            return known
        made = SizeChange(
            id=change_id,
            organization_id=operation.organization_id,
            workload_id=operation.resource_id,
            operation_id=operation.id,
            method=method,
            before=before,
            after=after,
            baseline=dict(baseline),
            saves=operation.payload.get("saves"),
            ordered_by=operation.actor_label,
            at=clock.now(),
        )
        made.save(force_insert=True)
        audit.record(
            actor=Actor.system(reporting.ACTOR, operation.organization_id, operation.request_id),
            verb="workload.resized",
            target_kind=RESOURCE,
            target_id=str(operation.resource_id),
            target_label=operation.resource_label,
            changes={name: [before[name], after[name]] for name in after},
            operation_id=operation.id,
            organization_id=operation.organization_id,
        )
    return made


def set_method(change: SizeChange, method: str) -> None:
    SizeChange.objects.for_org(change.organization_id).filter(id=change.id).update(method=method)
    change.method = method


def end_change(*, change: SizeChange, outcome: Outcome, why: str = "", operation: Operation) -> None:
    """What became of a change. Rolled back: nothing is changed by itself for a week."""
    now = clock.now()
    with transaction.atomic():
        mine = SizeChange.objects.for_org(change.organization_id).filter(id=change.id)
        if not mine.exclude(outcome=outcome).update(outcome=outcome, why=why[:500], ended_at=now):
            return
        if outcome is Outcome.ROLLED_BACK:
            hold(
                change.workload_id,
                change.organization_id,
                now + HELD_AFTER_HARM,
                f"its last change was taken back: {why}",
            )
            audit.record(
                actor=Actor.system(reporting.ACTOR, change.organization_id, operation.request_id),
                verb="workload.size_rolled_back",
                target_kind=RESOURCE,
                target_id=str(change.workload_id),
                target_label=operation.resource_label,
                detail=why[:300],
                operation_id=operation.id,
                organization_id=change.organization_id,
            )
        publish(change.organization_id, TOPIC, [UUID(str(operation.payload["cluster"]))])


def hold(workload_id: UUID, organization_id: UUID, until: datetime, why: str) -> None:
    """Change nothing of a workload by itself before a moment."""
    rows = SizedWorkload.objects.for_org(organization_id).filter(id=workload_id)
    rows.update(held_until=until, held_why=why[:300])


def ended(operation: Operation) -> None:
    """In the transaction that ends an operation which did not come to an end of its own."""
    change = change_of(operation)
    if change is not None and change.outcome == Outcome.UNDER_WAY and operation.status != Status.SUCCEEDED:
        why = operation.error or "The operation did not end."
        end_change(change=change, outcome=Outcome.UNPROVEN, why=why, operation=operation)
        hold(change.workload_id, change.organization_id, clock.now() + HELD_AFTER_REFUSAL, why)
        if operation.status == Status.CANCELLED and "applied" in operation.state:
            _take_back(operation, change)


def _take_back(operation: Operation, change: SizeChange) -> None:
    """A cancelled change that was made already is undone."""
    operations.request_operation(
        actor=Actor.system(reporting.ACTOR, change.organization_id, operation.request_id),
        kind=ROLLBACK,
        resource_kind=RESOURCE,
        resource_id=change.workload_id,
        resource_label=operation.resource_label,
        payload={"cluster": operation.payload["cluster"], "change": str(change.id)},
        organization_id=change.organization_id,
        reason="The change was cancelled",
        deadline_seconds=ROLLBACK_SECONDS,
    )
