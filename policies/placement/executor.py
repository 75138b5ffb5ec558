"""The operation `placement.sync`: every workload's template as the rules want it, or given back.

It may be killed at any instruction: what a template had is in the database before the change and on the workload with it,
and each workload is looked at anew. One that cannot be changed does not stop the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from clusters.enums import State
from clusters.inventory.placement import Rules
from clusters.models import Cluster
from clusters.providers.kube import KubeApi
from clusters.selectors import automation
from clusters.sleeping import gateway
from clusters.sleeping.observe import resource_of
from core import clock
from core.actor import Actor
from core.providers import Conflict, NotFound, ProviderError
from operations.registry import BaseExecutor, OperationFailed, RunContext
from policies import selectors as policies
from policies.placement import services
from policies.placement.models import PlacedWorkload, Standing
from policies.placement.templates import MANAGER, Memory, Wanted, judge

KINDS = ("Deployment", "StatefulSet")
TRIES = 3
MOST_REVERTED = 3
AN_HOUR = timedelta(hours=1)
Key = tuple[str, str, str]


class PlacementSync(BaseExecutor):
    """Level-triggered: what should be is worked out when it runs, not when it was ordered."""

    kind = services.SYNC
    label = "Bring placement in line"
    queue = "cloud"
    permission = "policies.manage"
    max_attempts = 5

    def run(self, context: RunContext) -> Mapping[str, Any]:
        operation = context.operation
        cluster = (
            Cluster.objects.for_org(operation.organization_id)
            .select_related("account")
            .filter(id=operation.resource_id)
            .first()
        )
        if cluster is None:
            raise OperationFailed("The cluster was disconnected.", code="gone")
        if cluster.state == State.ASLEEP or automation.why_paused(cluster):
            return {"left_alone": automation.why_paused(cluster) or "asleep"}
        actor = Actor.system(services.ACTOR, cluster.organization_id)
        wanted = services.plan(
            cluster, services.state_of(cluster), policies.applied_to(actor=actor, cluster_id=cluster.id)
        )
        with gateway.open_kube(cluster) as kube:
            return _Sync(context, cluster, kube, wanted).run()


class _Sync:
    """One pass over one cluster."""

    def __init__(self, context: RunContext, cluster: Cluster, kube: KubeApi, wanted: services.Plan) -> None:
        self.context, self.cluster, self.kube, self.wanted = context, cluster, kube, wanted
        self.rules = wanted.rules if wanted.used == services.PATCH else Rules()
        rows = PlacedWorkload.objects.for_org(cluster.organization_id).filter(cluster_id=cluster.id)
        self.known: dict[Key, PlacedWorkload] = {(r.kind, r.namespace, r.name): r for r in rows}
        self.placed = self.given_back = 0
        self.failed: dict[str, str] = {}

    def run(self) -> dict[str, Any]:
        seen: set[Key] = set()
        for kind in KINDS:
            for number, obj in enumerate(self.kube.list(resource_of(kind))):
                metadata = obj.get("metadata") or {}
                key = (kind, str(metadata.get("namespace") or ""), str(metadata.get("name") or ""))
                seen.add(key)
                if number % 25 == 0:
                    self.context.check_cancel()
                    self.context.progress(step=f"{kind}s: {number} looked at, {self.placed} changed")
                try:
                    self.one(key, obj)
                except ProviderError as failure:
                    self.fail(key, failure)
        for key in set(self.known) - seen:
            services.forget(self.known[key])
        services.synced(
            self.cluster, self.wanted, placed=self.placed, given_back=self.given_back, failed=len(self.failed)
        )
        return {"placed": self.placed, "given_back": self.given_back, "failed": dict(list(self.failed.items())[:20])}

    def fail(self, key: Key, failure: ProviderError) -> None:
        words = f"{failure}"[:300]
        self.failed["/".join(key)] = words
        row = self.known.get(key)
        if row is not None:
            services.note(row, standing=Standing.FAILED, words=words)

    def one(self, key: Key, obj: dict[str, Any]) -> None:
        """One workload; read anew when it was changed at the same moment."""
        for attempt in range(TRIES):
            try:
                self.step(key, obj)
            except Conflict:
                if attempt == TRIES - 1:
                    raise
                fresh = self.kube.get(resource_of(key[0]), key[1], key[2])
                if fresh is None:
                    return
                obj = fresh
            else:
                return

    def step(self, key: Key, obj: dict[str, Any]) -> None:
        row = self.known.get(key)
        now = clock.now()
        known = Memory.read(row.memory) if row is not None else None
        soft = row is not None and row.softened_until is not None and row.softened_until > now
        wanted = judge(self.rules, obj, key[0], known=known, soft=soft)
        if row is not None and wanted.reverted and not wanted.restoring and self.fought(row, now):
            return
        if wanted.restoring:
            self.give_back(key, row, wanted)
        elif wanted.body:
            self.place(key, wanted)
        elif row is None or row.standing != Standing.PLACED or row.done != list(wanted.placed.done):
            self.remember(key, wanted)

    def fought(self, row: PlacedWorkload, now: datetime) -> bool:
        """Somebody undid our change. Three times an hour we make it again, then it is contested until the hour is over."""
        times = [t for t in row.reverted if datetime.fromisoformat(t) > now - AN_HOUR]
        if len(times) >= MOST_REVERTED:
            words = (
                "Something takes our change back each time: let it keep the template's placement, or exempt it here."
            )
            services.note(row, standing=Standing.CONTESTED, words=words)
            return True
        services.note(row, reverted=[*times, now.isoformat()])
        return False

    def remember(self, key: Key, wanted: Wanted) -> None:
        assert wanted.memory is not None
        kept = f"Changed by somebody else meanwhile: {', '.join(wanted.kept)}." if wanted.kept else ""
        services.remember(
            self.cluster,
            *key,
            memory=wanted.memory.values(),
            done=list(wanted.placed.done),
            standing=Standing.PLACED,
            words=kept,
        )

    def place(self, key: Key, wanted: Wanted) -> None:
        self.remember(key, wanted)
        self.context.renew()
        resource = resource_of(key[0])
        if wanted.merged:
            self.placed += self.kube.patch(resource, key[1], key[2], wanted.body) is not None
            return
        try:
            self.kube.apply(resource, key[1], key[2], wanted.body, manager=MANAGER, force=True)
        except NotFound:
            return
        self.placed += 1

    def give_back(self, key: Key, row: PlacedWorkload | None, wanted: Wanted) -> None:
        if wanted.body:
            self.context.renew()
            if self.kube.patch(resource_of(key[0]), key[1], key[2], wanted.body) is not None:
                self.given_back += 1
        if row is not None:
            services.forget(row)
