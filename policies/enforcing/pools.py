"""The operation that brings a Karpenter cluster's pools in line with its policy, or gives them back as they were.

What was there is committed before the first write; a kill anywhere is mended by running it again. A change that somebody
else made since is named and, if it was a person's, left alone; anything else is written again at most three times an hour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from audit import services as audit
from clusters.models import Cluster
from clusters.providers.kube import Contested, KubeApi, Resource
from clusters.sleeping import contest
from clusters.sleeping.contest import Answer, Fight
from clusters.sleeping.kinds import Object, labels_of
from clusters.sleeping.objects import guarded, look, owner_of, path_of
from clusters.sleeping.observe import resource_of
from clusters.sleeping.world import NODE_POOL_LABEL, uid_of
from core import clock
from core.errors import Conflict
from core.live import publish
from operations import services as operations
from operations.models import Operation
from operations.registry import BaseExecutor, OperationFailed, RunAgain, RunContext
from policies.enforcing import gateway, karpenter
from policies.enforcing.enums import APPLY, MANAGER
from policies.enforcing.karpenter import CLASS, POOL, Wanted
from policies.enforcing.models import WrittenObject
from policies.enforcing.rules import actor, policy_of, why_held
from policies.enums import Mode
from policies.selectors import Applied

RESOURCE = "policy_pools"
RESOURCES = {POOL: resource_of("NodePool"), CLASS: Resource("karpenter.k8s.aws", "v1", "ec2nodeclasses", False)}
HOUR = timedelta(hours=1)
LOOK_EVERY = timedelta(minutes=5)
WAIT_SECONDS = 30.0


def writer_of(cluster: Cluster, name: str) -> str:
    """For the page of the cluster: who writes what a pool may launch, "" when this policy does not."""
    row = next((row for row in _open(cluster) if (row.kind, row.name) == (POOL, name)), None)
    return "its optimization policy" if row is not None and "template" in (row.wanted.get("spec") or {}) else ""


def request(cluster: Cluster, reason: str) -> Operation | None:
    """Order a look at the pools; None when one is under way."""
    try:
        return operations.request_operation(
            actor=actor(cluster.organization_id),
            kind=APPLY,
            resource_kind=RESOURCE,
            resource_id=cluster.id,
            resource_label=f"{cluster.name}: node pools",
            organization_id=cluster.organization_id,
            reason=reason,
        )
    except Conflict:
        return None


def to_give_back(cluster: Cluster, policy: Applied | None) -> str:
    """Why pools must be given back, "" when none must. Those that wait for their last node are looked at now and then."""
    if policy is not None and policy.mode is Mode.ENFORCE:
        return ""
    rows = WrittenObject.objects.for_org(cluster.organization_id).filter(cluster=cluster, restored_at=None)
    if not rows.exists():
        return ""
    recent = Operation.objects.for_org(cluster.organization_id).filter(
        kind=APPLY, resource_id=cluster.id, created_at__gt=clock.now() - LOOK_EVERY
    )
    if rows.exclude(leaving_since=None).exists() and recent.exists():
        return ""
    return (
        "The policy only recommends now" if policy and policy.mode is Mode.RECOMMEND else "The policy was switched off"
    )


def differs(cluster: Cluster, policy: Applied, kube: KubeApi) -> str:
    """Why the pools must be written, "" when all is as the policy wants it."""
    asked, _ = plan(cluster, policy, kube)
    rows = {f"{row.kind}/{row.name}": row for row in _open(cluster)}
    for one in asked:
        row = rows.pop(one.title, None)
        if row is None or row.applied_at is None or row.wanted != dict(one.obj):
            return f"{one.title} is to be written"
        if row.contested and row.contested_at is not None and clock.now() - row.contested_at < HOUR:
            continue
        obj = kube.get(RESOURCES[one.kind], "", one.name)
        if obj is None or any(look(obj, path) != value for path, value in karpenter.fields(one.obj)):
            return f"{one.title} is not as it was written"
    return f"{next(iter(rows))} is no longer wanted" if rows else ""


class ApplyPools(BaseExecutor):
    """See the module."""

    kind = APPLY
    label = "Write node pools"
    permission = "policies.manage"
    lease_seconds = 30
    max_attempts = 10

    def run(self, context: RunContext) -> Mapping[str, Any]:
        """Result: `written`, `given_back` and `contested`, as titles."""
        rows = Cluster.objects.for_org(context.operation.organization_id).select_related("account", "organization")
        cluster = rows.filter(id=context.operation.resource_id).first()
        if cluster is None:
            raise OperationFailed("The cluster was disconnected.", code="gone", next_step="Nothing to do.")
        if why := why_held(cluster):
            return {"held": why}
        policy = policy_of(cluster)
        with gateway.open_kube(cluster) as kube:
            if policy is not None and policy.mode is Mode.ENFORCE:
                return self._write(context, cluster, policy, kube)
            return self._give_back(context, cluster, kube, _open(cluster))

    # writing

    def _write(self, context: RunContext, cluster: Cluster, policy: Applied, kube: KubeApi) -> Mapping[str, Any]:
        asked, notes = plan(cluster, policy, kube)
        titles = {one.title for one in asked}
        dropped = [row for row in _open(cluster) if f"{row.kind}/{row.name}" not in titles]
        back = self._give_back(context, cluster, kube, dropped) if dropped else {}
        written, contested = [], []
        for one in asked:
            context.check_cancel()
            row = _take(cluster, one, kube)
            outcome = self._apply(context, cluster, kube, one, row)
            written += [one.title] if outcome == "written" else []
            contested += [row.contested] if outcome == "contested" else []
        return {"written": written, "contested": contested, "notes": notes, **back}

    def _apply(self, context: RunContext, cluster: Cluster, kube: KubeApi, one: Wanted, row: WrittenObject) -> str:
        now = clock.now()
        resource = RESOURCES[one.kind]
        force = row.applied_at is None or dict(one.obj) != row.wanted
        try:
            new = kube.apply(resource, "", one.name, one.obj, manager=MANAGER, force=force, dry_run=True)
        except Contested as fought:
            fight = _fight(one, kube.get(resource, "", one.name), fought)
            again = [datetime.fromisoformat(at) for at in row.reapplied]
            answer = contest.answer_to(fight, again, now)
            if answer is not Answer.REAPPLIED:
                _contested(cluster, row, fight, answer, now)
                return "contested"
            row.reapplied = [at.isoformat() for at in again if now - at < HOUR] + [now.isoformat()]
            new = kube.apply(resource, "", one.name, one.obj, manager=MANAGER, force=True, dry_run=True)
        old = kube.get(resource, "", one.name)
        changes = karpenter.diff(old, new, one.obj)
        row.wanted = dict(one.obj)
        if not changes and row.applied_at is not None:
            row.contested, row.contested_at = "", None
            row.save()
            return "same"
        row.changes = [change.values() for change in changes] or row.changes
        row.save()
        context.renew()
        kube.apply(resource, "", one.name, one.obj, manager=MANAGER, force=True)
        with transaction.atomic():
            row.applied_at, row.contested, row.contested_at, row.leaving_since = now, "", None, None
            row.save()
            audit.record(
                actor=actor(cluster.organization_id),
                verb="policy.written",
                target=cluster,
                changes={f"{one.title}{c.path}": [c.before, c.after] for c in changes[:50]},
                detail=one.title,
                operation_id=context.operation.id,
            )
            publish(cluster.organization_id, "policies", [cluster.id])
        return "written"

    # giving back

    def _give_back(
        self, context: RunContext, cluster: Cluster, kube: KubeApi, rows: Sequence[WrittenObject]
    ) -> dict[str, Any]:
        back, leaving = [], []
        for row in sorted(rows, key=lambda r: r.kind != POOL):  # pools before the classes that they name
            context.check_cancel()
            if self._back(context, kube, row):
                _closed(cluster, row, context)
                back.append(f"{row.kind}/{row.name}")
            else:
                leaving.append(f"{row.kind}/{row.name}")
        if leaving and not back and context.operation.attempt == 0 and "waited" not in context.state:
            context.checkpoint(waited=True)
            raise RunAgain(WAIT_SECONDS)
        return {"given_back": back, "leaving": leaving}

    def _back(self, context: RunContext, kube: KubeApi, row: WrittenObject) -> bool:
        """Whether one object is as it was. A pool that the policy made goes when its last node has gone."""
        resource = RESOURCES[row.kind]
        obj = kube.get(resource, "", row.name)
        if obj is None or row.applied_at is None:
            return True
        if row.existed:
            new, _ = karpenter.given_back(obj, row.wanted, row.before)
            patch = guarded(obj, new)
            if patch:
                context.renew()
                kube.patch(resource, "", row.name, patch)
            return True
        if row.kind == POOL and _claims(kube, row.name):
            closed = {**obj, "spec": {**obj["spec"], "limits": {**(obj["spec"].get("limits") or {}), "cpu": "0"}}}
            patch = guarded(obj, closed)
            if patch:
                context.renew()
                kube.patch(resource, "", row.name, patch)
            if row.leaving_since is None:
                row.leaving_since = clock.now()
                row.save(update_fields=["leaving_since"])
            return False
        if row.kind == CLASS and any(_names(p, row.name) for p in kube.list(RESOURCES[POOL])):
            return False
        context.renew()
        kube.delete(resource, "", row.name, uid=uid_of(obj))
        return True


def plan(cluster: Cluster, policy: Applied, kube: KubeApi) -> tuple[list[Wanted], list[str]]:
    """What the policy writes into this cluster now."""
    made = [row.name for row in _open(cluster) if row.kind == POOL and not row.existed]
    return karpenter.wanted(
        policy.document,
        policy.template,
        kube.list(RESOURCES[POOL]),
        cluster=cluster.name,
        zone=cluster.organization.timezone,
        now=clock.now(),
        made=made,
    )


def preview(cluster: Cluster, policy: Applied, kube: KubeApi) -> list[dict[str, Any]]:
    """The diff of everything that would be written, asked of the API server without changing anything."""
    asked, notes = plan(cluster, policy, kube)
    shown: list[dict[str, Any]] = []
    for one in asked:
        resource = RESOURCES[one.kind]
        new = kube.apply(resource, "", one.name, one.obj, manager=MANAGER, force=True, dry_run=True)
        old = kube.get(resource, "", one.name)
        changes = [change.values() for change in karpenter.diff(old, new, one.obj)]
        shown.append({"object": one.title, "made": old is None, "changes": changes, "note": ""})
    return [*shown, *({"object": "", "made": False, "changes": [], "note": note} for note in notes)]


def _open(cluster: Cluster) -> list[WrittenObject]:
    return list(WrittenObject.objects.for_org(cluster.organization_id).filter(cluster=cluster, restored_at=None))


def _take(cluster: Cluster, one: Wanted, kube: KubeApi) -> WrittenObject:
    """The row of an object; what it was like before is written down with it, once."""
    rows = WrittenObject.objects.for_org(cluster.organization_id)
    known: WrittenObject | None = rows.filter(cluster=cluster, kind=one.kind, name=one.name, restored_at=None).first()
    old = kube.get(RESOURCES[one.kind], "", one.name)
    if known is not None:
        fresh = karpenter.remember(old, one.obj) if known.existed else {}
        asked_before = {path for path, _ in karpenter.fields(known.wanted)}
        new_fields = {k: v for k, v in fresh.items() if path_of(k) not in asked_before and k not in known.before}
        if new_fields:
            known.before = {**known.before, **new_fields}
            known.save(update_fields=["before"])
        return known
    return rows.create(
        organization_id=cluster.organization_id,
        cluster=cluster,
        kind=one.kind,
        name=one.name,
        existed=old is not None and not one.ours,
        before=karpenter.remember(old, one.obj),
        wanted=dict(one.obj),
        taken_at=clock.now(),
    )


def _closed(cluster: Cluster, row: WrittenObject, context: RunContext) -> None:
    with transaction.atomic():
        row.restored_at = clock.now()
        row.save(update_fields=["restored_at"])
        if row.applied_at is not None:
            audit.record(
                actor=actor(cluster.organization_id),
                verb="policy.given_back",
                target=cluster,
                detail=f"{row.kind}/{row.name}",
                operation_id=context.operation.id,
            )
        publish(cluster.organization_id, "policies", [cluster.id])


def _contested(cluster: Cluster, row: WrittenObject, fight: Fight, answer: Answer, now: datetime) -> None:
    words = f"{fight.words}. " + (
        "A person did that, so it stays."
        if answer is Answer.RESPECTED
        else "Written again three times this hour; left alone now."
    )
    first = row.contested != words
    row.contested, row.contested_at = words[:500], row.contested_at or now
    with transaction.atomic():
        row.save()
        if first:
            audit.record(
                actor=actor(cluster.organization_id),
                verb="policy.contested",
                target=cluster,
                outcome="failed",
                detail=words[:500],
            )
        publish(cluster.organization_id, "policies", [cluster.id])


def _fight(one: Wanted, obj: Object | None, fought: Contested) -> Fight:
    """Who changed what: the manager that the API server names, and what the object says of it."""
    manager, path = next(iter(fought.owners), ("somebody", ""))
    owner = owner_of(obj, karpenter.DISRUPTION) if obj is not None else None
    verb = owner.verb if owner is not None and owner.manager == manager else "Update"
    return Fight(f"{one.title}{path}", manager, verb, "another value")


def _claims(kube: KubeApi, pool: str) -> int:
    return sum(1 for claim in kube.list(resource_of("NodeClaim")) if labels_of(claim).get(NODE_POOL_LABEL) == pool)


def _names(pool: Object, name: str) -> bool:
    spec = ((pool.get("spec") or {}).get("template") or {}).get("spec") or {}
    return bool((spec.get("nodeClassRef") or {}).get("name") == name)
