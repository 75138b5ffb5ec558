"""What people (and the hibernation) ask of a cluster: report now, maintenance, asleep, awake."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db import transaction

from audit import services as audit
from clusters.enums import Method, State
from clusters.extensions import BulkAction
from clusters.models import Cluster
from clusters.services.money import note_phase
from core import clock
from core.actor import Actor
from core.errors import CurfewError, InvalidInput, InvalidState, NotFound
from core.live import publish
from core.tasks import send_on_commit
from costs.enums import Phase

MANAGE, OPERATE = "clusters.manage", "clusters.operate"


def locked(actor: Actor, cluster_id: UUID) -> Cluster:
    """The cluster's row, locked; NotFound for another organization's. Must be called in a transaction."""
    rows = Cluster.objects.visible_to(actor).select_for_update(of=("self",))
    row: Cluster | None = rows.filter(id=cluster_id).first()
    if row is None:
        raise NotFound("There is no such cluster.")
    return row


def sync_now(*, actor: Actor, cluster_id: UUID) -> Cluster:
    """Ask for a report at once: the agent learns it with its next heartbeat, a polled cluster is read by a worker.

    Raises InvalidState for a cluster that cannot answer (asleep, lost, never connected).
    """
    actor.require(OPERATE, "ask clusters to report")
    with transaction.atomic():
        row = locked(actor, cluster_id)
        if row.method == Method.AGENT and row.state not in (State.LIVE, State.ERROR):
            raise InvalidState(f"{row.name} is {row.state} and cannot report now.")
        row.sync_wanted_at = clock.now()
        row.save(update_fields=["sync_wanted_at"])
        audit.record(actor=actor, verb="cluster.sync_requested", target=row)
        publish(row.organization_id, "clusters", [row.id])
        if row.method != Method.AGENT:
            send_on_commit("clusters.poll_one", cluster_id=str(row.id))
    return row


def begin_maintenance(*, actor: Actor, cluster_id: UUID, reason: str = "") -> Cluster:
    """Pause every automated action on the cluster until maintenance ends. Repeating it changes nothing."""
    actor.require(OPERATE, "begin maintenance of clusters")
    with transaction.atomic():
        row = locked(actor, cluster_id)
        if row.maintenance_since is None:
            row.maintenance_since, row.maintenance_reason = clock.now(), reason.strip()[:300]
            row.save(update_fields=["maintenance_since", "maintenance_reason"])
            audit.record(actor=actor, verb="cluster.maintenance_begun", target=row, detail=row.maintenance_reason)
            publish(row.organization_id, "clusters", [row.id])
    return row


def end_maintenance(*, actor: Actor, cluster_id: UUID) -> Cluster:
    """Let automated actions go on."""
    actor.require(OPERATE, "end maintenance of clusters")
    with transaction.atomic():
        row = locked(actor, cluster_id)
        if row.maintenance_since is not None:
            row.maintenance_since, row.maintenance_reason = None, ""
            row.save(update_fields=["maintenance_since", "maintenance_reason"])
            audit.record(actor=actor, verb="cluster.maintenance_ended", target=row)
            publish(row.organization_id, "clusters", [row.id])
    return row


def mark_asleep(*, actor: Actor, cluster_id: UUID, cause: str = "hand") -> Cluster:
    """The cluster's nodes were put to sleep on purpose: from now on silence is not a loss."""
    actor.require(OPERATE, "put clusters to sleep")
    with transaction.atomic():
        row = locked(actor, cluster_id)
        if row.state != State.ASLEEP:
            _turn(actor, row, State.ASLEEP, Phase.ASLEEP, cause)
    return row


def mark_awake(*, actor: Actor, cluster_id: UUID, cause: str = "hand") -> Cluster:
    """The cluster was woken: it is connecting until its agent is heard."""
    actor.require(OPERATE, "wake clusters")
    with transaction.atomic():
        row = locked(actor, cluster_id)
        if row.state == State.ASLEEP:
            _turn(actor, row, State.CONNECTING, Phase.AWAKE, cause)
    return row


def _turn(actor: Actor, row: Cluster, to: str, phase: Phase, cause: str) -> None:
    now, before = clock.now(), row.state
    row.state, row.state_since, row.cause = to, now, ""
    if row.price_seq:
        note_phase(actor=actor, cluster=row, phase=phase, at=now, seq=row.price_seq, cause=cause)
    row.price_seq += 1
    row.save(update_fields=["state", "state_since", "cause", "price_seq"])
    verb = "cluster.asleep" if to == State.ASLEEP else "cluster.awake"
    audit.record(actor=actor, verb=verb, target=row, changes={"state": [before, to]}, detail=cause)
    publish(row.organization_id, "clusters", [row.id])


def apply_to_many(
    *, actor: Actor, ids: Sequence[UUID], action: BulkAction, choice: str
) -> tuple[list[Cluster], list[tuple[UUID, CurfewError]]]:
    """One choice of an action that an app above registered, applied to several clusters: (done, skipped with why)."""
    actor.require(action.permission, action.label.lower())
    if choice not in {one.id for one in action.choices(actor)}:
        raise InvalidInput("Choose what to apply.")
    done: list[Cluster] = []
    skipped: list[tuple[UUID, CurfewError]] = []
    for cluster_id in dict.fromkeys(ids):
        row = Cluster.objects.visible_to(actor).filter(id=cluster_id).first()
        try:
            if row is None:
                raise NotFound("There is no such cluster.")
            action.apply(actor, row, choice)
            done.append(row)
        except CurfewError as refused:
            skipped.append((cluster_id, refused))
    return done, skipped


def act_on_many(
    *, actor: Actor, ids: Sequence[UUID], action: str, reason: str = ""
) -> tuple[list[Cluster], list[tuple[UUID, CurfewError]]]:
    """Sync or maintenance of several clusters, each on its own: (done, skipped with the reason)."""
    actor.require(OPERATE, "act on clusters")
    done: list[Cluster] = []
    skipped: list[tuple[UUID, CurfewError]] = []
    for cluster_id in dict.fromkeys(ids):
        try:
            if action == "sync":
                done.append(sync_now(actor=actor, cluster_id=cluster_id))
            elif action == "maintenance_on":
                done.append(begin_maintenance(actor=actor, cluster_id=cluster_id, reason=reason))
            else:
                done.append(end_maintenance(actor=actor, cluster_id=cluster_id))
        except (NotFound, InvalidState) as refused:
            skipped.append((cluster_id, refused))
    return done, skipped
