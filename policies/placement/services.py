"""Bringing each cluster's placement in line with its policy: level-triggered, once a minute."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction

from audit import services as audit
from clusters import services as cluster_services
from clusters.enums import State
from clusters.figures import top_owner
from clusters.inventory.placement import HARD, Rules, read
from clusters.models import Cluster
from clusters.selectors import automation
from clusters.services import steering
from clusters.services.reports import load
from clusters.sleeping import gateway
from core import clock
from core.actor import Actor
from core.errors import InvalidInput
from core.live import publish
from operations import services as operations
from policies import selectors as policies
from policies.enums import PERMISSION_MANAGE, Mode
from policies.models import PolicyAssignment
from policies.placement.compose import Composed, compose
from policies.placement.models import PlacedWorkload, PlacementState, Standing, Way

log = logging.getLogger(__name__)
SYNC = "placement.sync"
RESOURCE = "cluster_placement"
ACTOR = "placement"
AGAIN = timedelta(minutes=10)
SOFT_LIFE = timedelta(hours=1)
WEBHOOK, PATCH = "webhook", "patch"
LONGEST_FALLBACK = 24 * 60


@dataclass(frozen=True, slots=True)
class Plan:
    """What a cluster's placement should be now. `used`: webhook, patch or "" (nothing is done)."""

    used: str
    composed: Composed
    why: str = ""

    @property
    def rules(self) -> Rules:
        return self.composed.rules


def choose(*, actor: Actor, cluster_id: UUID, way: str, fallback_minutes: int) -> PlacementState:
    """Choose how rules reach a cluster's pods, and after how many minutes of waiting a hard rule becomes a wish."""
    actor.require(PERMISSION_MANAGE, "change how placement is carried out")
    errors = {}
    if way not in Way.values:
        errors["way"] = [f"One of {', '.join(Way.values)}."]
    if not 1 <= fallback_minutes <= LONGEST_FALLBACK:
        errors["fallback_minutes"] = ["Give 1 to 1,440 minutes."]
    if errors:
        raise InvalidInput(errors=errors)
    with transaction.atomic():
        row = steering.locked(actor, cluster_id)
        state = state_of(row)
        changes = {
            name: [getattr(state, name), value]
            for name, value in (("way", way), ("fallback_minutes", fallback_minutes))
            if getattr(state, name) != value
        }
        if changes:
            for name, (_, value) in changes.items():
                setattr(state, name, value)
            state.save(update_fields=list(changes))
            audit.record(actor=actor, verb="placement.way_chosen", target=row, changes=changes)
            publish(row.organization_id, "clusters", [row.id])
    return state


def state_of(cluster: Cluster) -> PlacementState:
    """The cluster's row, made when there is none."""
    state, _ = PlacementState.objects.for_org(cluster.organization_id).get_or_create(
        cluster_id=cluster.id, defaults={"organization_id": cluster.organization_id}
    )
    return state


def plan(cluster: Cluster, state: PlacementState, applied: policies.Applied | None) -> Plan:
    """What should be, from policy, inventory and the ways that there are."""
    nothing = Composed(Rules())
    if state.way == Way.OFF:
        return Plan("", nothing, "Placement is switched off for this cluster.")
    if applied is None or applied.mode is not Mode.ENFORCE:
        return Plan("", nothing, "Its policy may only recommend." if applied else "No policy is applied.")
    if not applied.document.placement.active:
        return Plan("", nothing, "Its policy asks for nothing.")
    composed = composed_for(cluster, applied, state)
    used = way_of(cluster, state)
    return Plan(used, composed, "" if used else no_way(cluster, state))


def composed_for(cluster: Cluster, applied: policies.Applied, state: PlacementState) -> Composed:
    """The rules that the policy means for this cluster, whatever its mode."""
    tables = load(cluster, ("nodes", "node_pools"))
    return compose(
        applied.document.placement,
        applied.document.exemptions,
        (tables.get("nodes") or {}).values(),
        (tables.get("node_pools") or {}).values(),
        cloud=cluster.cloud,
        fallback_minutes=state.fallback_minutes,
        known=read(dict(state.rules)) if state.rules else None,
    )


def way_of(cluster: Cluster, state: PlacementState) -> str:
    """How rules would reach the pods of this cluster; "" when there is no way."""
    webhook = (cluster.agent_can or {}).get("webhook") or {}
    if state.way in (Way.AUTO, Way.WEBHOOK) and webhook.get("replicas"):
        return WEBHOOK
    return PATCH if state.way in (Way.AUTO, Way.PATCH) and gateway.has_way(cluster) else ""


def no_way(cluster: Cluster, state: PlacementState) -> str:
    if state.way == Way.WEBHOOK:
        return f"No webhook of {cluster.name} has been heard. Install it with the agent (webhook=1)."
    return f"{cluster.name} has no webhook, and Curfew cannot reach its API server."


# the sweep


def sweep() -> int:
    """Every minute: clusters whose placement is not what it should be are brought in line. Returns how many changed."""
    rows = PolicyAssignment.objects.all_orgs().values_list("cluster_id", flat=True)
    known = PlacementState.objects.all_orgs().values_list("cluster_id", flat=True)
    done = 0
    for cluster_id in sorted({*rows, *known}):
        try:
            done += keep(cluster_id=cluster_id)
        except Exception:  # one cluster must not stop the others
            log.exception("placement_failed", extra={"cluster_id": str(cluster_id)})
    return done


def keep(*, cluster_id: UUID) -> bool:
    """Bring one cluster in line; True when something had to be ordered. Maintenance and sleep win: nothing is changed."""
    cluster = Cluster.objects.all_orgs().select_related("account").filter(id=cluster_id).first()
    if cluster is None or cluster.state == State.ASLEEP or automation.why_paused(cluster):
        return False
    actor = Actor.system(ACTOR, cluster.organization_id)
    applied = policies.applied_to(actor=actor, cluster_id=cluster.id)
    state = state_of(cluster)
    now = clock.now()
    wanted = plan(cluster, state, applied)
    changed = _note(cluster, state, wanted, now)
    if wanted.used == WEBHOOK or cluster.rules_version:
        rules = wanted.rules if wanted.used == WEBHOOK else Rules()
        version = cluster_services.set_rules(
            organization_id=cluster.organization_id, cluster_id=cluster.id, rules=rules
        )
        changed |= version != cluster.rules_version
    mine = PlacedWorkload.objects.for_org(cluster.organization_id).filter(cluster_id=cluster.id)
    due = wanted.used == PATCH and soften_waiting(cluster, wanted.rules, now)
    if gateway.has_way(cluster) and (wanted.used == PATCH or mine.exists()):
        mark = fingerprint(wanted)
        if due or mark != state.synced or state.synced_at is None or state.synced_at < now - AGAIN:
            changed |= _order(cluster, actor)
    return changed


def fingerprint(wanted: Plan) -> str:
    """What a sync would carry out."""
    text = json.dumps([wanted.used == PATCH, wanted.rules.wire() if wanted.used == PATCH else {}], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _note(cluster: Cluster, state: PlacementState, wanted: Plan, now: datetime) -> bool:
    """Write down what is in force from now on, with its audit line, when it differs."""
    notes = [*wanted.composed.notes, *([wanted.why] if wanted.why else [])]
    fields: dict[str, Any] = {"used": wanted.used, "rules": wanted.rules.wire() if wanted.used else {}, "notes": notes}
    before = {name: getattr(state, name) for name in fields}
    if before == fields:
        return False
    with transaction.atomic():
        PlacementState.objects.for_org(cluster.organization_id).filter(id=state.id).update(**fields, since=now)
        if (before["used"], before["rules"]) != (fields["used"], fields["rules"]):
            audit.record(
                actor=Actor.system(ACTOR, cluster.organization_id),
                verb="placement.rules_changed",
                target=cluster,
                changes={"rules": [_words(before["rules"]), _words(fields["rules"])]},
                detail=wanted.used or wanted.why,
            )
        publish(cluster.organization_id, "clusters", [cluster.id])
    for name, value in fields.items():
        setattr(state, name, value)
    return True


def _words(rules: Mapping[str, Any]) -> str:
    if not rules:
        return "none"
    found = read(dict(rules))
    parts = [f"{found.strategy} spot"] if found.strategy != "off" else []
    parts += ["no burstable"] if found.block_burstable else []
    parts += ["spread zones"] if found.spread else []
    return ", ".join(parts) or "none"


def _order(cluster: Cluster, actor: Actor) -> bool:
    with transaction.atomic():
        if operations.active_operation(RESOURCE, cluster.id) is not None:
            return False
        operations.request_operation(
            actor=actor,
            kind=SYNC,
            resource_kind=RESOURCE,
            resource_id=cluster.id,
            resource_label=cluster.name,
            organization_id=cluster.organization_id,
            reason="Its policy's placement rules",
            deadline_seconds=1800,
        )
    return True


def soften_waiting(cluster: Cluster, rules: Rules, now: datetime) -> bool:
    """Workloads of which a pod waits longer than the policy allows under a hard rule: their rules are wishes for an hour.

    True when there are any, or when the hour of others is over: a sync is due then.
    """
    rows = list(
        PlacedWorkload.objects.for_org(cluster.organization_id).filter(cluster_id=cluster.id, softened_until=None)
    )
    hard = {(row.kind, row.namespace, row.name): row for row in rows if HARD & set(row.done)}
    expired = PlacedWorkload.objects.for_org(cluster.organization_id).filter(
        cluster_id=cluster.id, softened_until__lt=now
    )
    again = expired.update(softened_until=None)
    found = 0
    if hard:
        tables = load(cluster, ("pods", "workloads"))
        workloads = tables.get("workloads") or {}
        late = now - timedelta(minutes=rules.fallback_minutes)
        for pod in (tables.get("pods") or {}).values():
            if pod.get("phase") != "Pending" or pod.get("node") or not _older(pod, late):
                continue
            kind, name = top_owner(pod, workloads)
            row = hard.pop((kind, str(pod.get("namespace", "")), name), None)
            if row is not None:
                found += 1
                mine = PlacedWorkload.objects.for_org(cluster.organization_id).filter(id=row.id)
                mine.update(
                    softened_until=now + SOFT_LIFE, words="A pod waited too long: its rules are wishes for an hour."
                )
    return bool(found or again)


def _older(pod: Mapping[str, Any], late: datetime) -> bool:
    try:
        return datetime.fromisoformat(str(pod["created_at"])) <= late
    except (KeyError, ValueError):
        return False


# what the operation writes


def remember(cluster: Cluster, kind: str, namespace: str, name: str, **fields: Any) -> None:
    """Write down what a workload must get back, before it is changed."""
    PlacedWorkload.objects.for_org(cluster.organization_id).update_or_create(
        cluster_id=cluster.id,
        kind=kind,
        namespace=namespace,
        name=name,
        defaults={"organization_id": cluster.organization_id, "placed_at": clock.now(), **fields},
    )


def note(row: PlacedWorkload, **fields: Any) -> None:
    PlacedWorkload.objects.for_org(row.organization_id).filter(id=row.id).update(**fields)


def forget(row: PlacedWorkload) -> None:
    """The template has been given back, or the workload is gone."""
    PlacedWorkload.objects.for_org(row.organization_id).filter(id=row.id).delete()


def synced(cluster: Cluster, wanted: Plan, *, placed: int, given_back: int, failed: int) -> None:
    """A sync went through: what it carried out is in force now. One that changed something has its audit line."""
    with transaction.atomic():
        PlacementState.objects.for_org(cluster.organization_id).filter(cluster_id=cluster.id).update(
            synced="" if failed else fingerprint(wanted), synced_at=clock.now()
        )
        if placed or given_back:
            audit.record(
                actor=Actor.system(ACTOR, cluster.organization_id),
                verb="placement.synced",
                target=cluster,
                detail=f"{placed} templates changed, {given_back} given back, {failed} failed",
            )
        publish(cluster.organization_id, "clusters", [cluster.id])


__all__ = ["RESOURCE", "SYNC", "Plan", "Standing", "choose", "keep", "plan", "soften_waiting", "state_of", "sweep"]
