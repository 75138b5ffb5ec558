"""What a cluster's placement looks like now, and what is exempt there: scoped and evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from clusters import selectors as clusters
from clusters.enums import HOURS_PER_MONTH
from clusters.inventory.placement import OPT_OUT, Rules, why_exempt
from clusters.models import Cluster
from clusters.services.reports import load
from core.actor import Actor
from policies import selectors as policies
from policies.document import Exemptions
from policies.placement import services
from policies.placement.models import PlacedWorkload, PlacementState, Way

MOST = 500
WORDS = {
    "force-spot": "spot only",
    "prefer-spot": "spot where there is any",
    "no-burstable": "no burstable machines",
    "avoid-burstable": "burstable machines last",
    "spread-zones": "one zone each",
    "prefer-zones": "zones apart where possible",
}


@dataclass(frozen=True, slots=True)
class Patched:
    """A workload whose template was changed."""

    kind: str
    namespace: str
    name: str
    done: tuple[str, ...]
    standing: str
    standing_label: str
    words: str
    softened: bool


@dataclass(frozen=True, slots=True)
class PlacementView:
    """One cluster's placement. `asked` are the rules that its policy means for it, `used` how they are carried out."""

    cluster: Cluster
    way: str
    way_label: str
    fallback_minutes: int
    policy: str
    mode: str
    asked: tuple[str, ...]
    used: str
    notes: tuple[str, ...]
    webhook: Mapping[str, Any]
    pending: bool
    patched: tuple[Patched, ...]
    since: Any = None


@dataclass(frozen=True, slots=True)
class Unmanaged:
    """Something that policies leave alone. Its cost counts in the total; its savings are 0, always."""

    namespace: str
    kind: str
    name: str
    reason: str
    monthly: Decimal | None
    savings: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class UnmanagedList:
    """What is exempt in a cluster: the dearest first, and the sum of those whose cost is known."""

    rows: tuple[Unmanaged, ...]
    count: int
    monthly: Decimal
    unknown: int


def placement_of(*, actor: Actor, cluster_id: UUID) -> PlacementView:
    """Raises NotFound. What is asked for is composed from the cluster's last report."""
    cluster = clusters.get_cluster(actor=actor, cluster_id=cluster_id)
    state = PlacementState.objects.visible_to(actor).filter(cluster_id=cluster.id).first() or PlacementState(
        cluster_id=cluster.id, organization_id=cluster.organization_id
    )
    applied = policies.applied_to(actor=actor, cluster_id=cluster.id)
    asked, notes = Rules(), tuple(state.notes)
    if applied is not None and applied.document.placement.active:
        composed = services.composed_for(cluster, applied, state)
        asked = composed.rules
        notes = tuple(dict.fromkeys([*composed.notes, *state.notes]))
    webhook = (cluster.agent_can or {}).get("webhook") or {}
    rows = PlacedWorkload.objects.visible_to(actor).filter(cluster_id=cluster.id).order_by("namespace", "kind", "name")
    return PlacementView(
        cluster=cluster,
        way=state.way,
        way_label=str(Way(state.way).label),
        fallback_minutes=state.fallback_minutes,
        policy=applied.policy_name if applied else "",
        mode=str(applied.mode) if applied else "",
        asked=words_of(asked),
        used=state.used,
        notes=notes,
        webhook=webhook,
        pending=bool(cluster.rules_version and webhook and webhook.get("version") != cluster.rules_version),
        patched=tuple(_patched(row) for row in rows[:MOST]),
        since=state.since,
    )


def _patched(row: PlacedWorkload) -> Patched:
    return Patched(
        row.kind,
        row.namespace,
        row.name,
        tuple(WORDS.get(word, word) for word in row.done),
        row.standing,
        row.get_standing_display(),
        row.words,
        row.softened_until is not None,
    )


def words_of(rules: Rules) -> tuple[str, ...]:
    """Rules as a person reads them."""
    found = []
    if rules.strategy != "off" and rules.spot:
        found.append("Spot only" if rules.strategy == "force" else "Spot where there is any")
    if rules.block_burstable:
        found.append("No burstable machines")
    if rules.spread:
        found.append("Replicas in different zones")
    return tuple(found)


def unmanaged(*, actor: Actor, cluster_id: UUID) -> UnmanagedList:
    """Workloads that no card of the cluster's policy touches, and why. Raises NotFound."""
    cluster = clusters.get_cluster(actor=actor, cluster_id=cluster_id)
    applied = policies.applied_to(actor=actor, cluster_id=cluster.id)
    exemptions = applied.document.exemptions if applied is not None else Exemptions()
    rules = Rules(exempt_namespaces=frozenset(exemptions.namespaces), exempt_labels=tuple(exemptions.labels))
    tables = load(cluster, ("workloads", "specs"))
    specs = tables.get("specs") or {}
    summary = clusters.summary_of(actor=actor, cluster=cluster)
    costs = {(r["kind"], r["namespace"], r["name"]): r["hourly"] for r in (summary.workloads if summary else ())}
    found = []
    for record in (tables.get("workloads") or {}).values():
        if record.get("owner"):
            continue
        kind, space, name = (str(record.get(field, "")) for field in ("kind", "namespace", "name"))
        template = specs.get(str(record.get("template", ""))) or {}
        labels = {**(record.get("labels") or {}), **(template.get("labels") or {})}
        reason = why_exempt(rules, space, labels) or exemptions.reason(space, labels, name)
        if reason:
            hourly = costs.get((kind, space, name))
            monthly = Decimal(hourly) * HOURS_PER_MONTH if hourly is not None else None
            found.append(Unmanaged(space, kind, name, reason, monthly))
    found.sort(key=lambda one: (-(one.monthly or Decimal(0)), one.namespace, one.name))
    known = [one.monthly for one in found if one.monthly is not None]
    return UnmanagedList(tuple(found[:MOST]), len(found), sum(known, Decimal(0)), len(found) - len(known))


__all__ = ["OPT_OUT", "PlacementView", "Unmanaged", "UnmanagedList", "placement_of", "unmanaged"]
