"""What pages and the API read of the enforcers: scoped and evaluated."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from clusters import selectors as clusters
from clusters.enums import RESOURCE
from clusters.models import Cluster
from core.actor import Actor
from core.providers import ProviderError
from costs.models import Interval
from policies import selectors
from policies.enforcing import gateway
from policies.enforcing.enums import Engine, Kind, Outcome
from policies.enforcing.models import Enforcement, NodeAction, WrittenObject
from policies.enums import Mode
from policies.selectors import Applied

MOST_ACTIONS = 50


@dataclass(frozen=True, slots=True)
class ActionRow:
    """An action, with the cluster's price in the ledger when it began and after it ended (None: not known yet)."""

    action: NodeAction
    hourly_before: Decimal | None
    hourly_after: Decimal | None

    @property
    def title(self) -> str:
        from policies.enforcing.services import title_of

        return title_of(self.action)


@dataclass(slots=True)
class NodesView:
    """How a cluster's nodes are doing under its policy. `potential_monthly` is a forecast; nothing here is a saving made."""

    cluster: Cluster
    policy: Applied | None
    state: Enforcement
    actions: list[ActionRow] = field(default_factory=list)
    written: list[WrittenObject] = field(default_factory=list)

    @property
    def plan(self) -> list[dict[str, Any]]:
        return list(self.state.plan)

    @property
    def staying(self) -> list[dict[str, str]]:
        return list(self.state.staying)

    @property
    def potential_monthly(self) -> Decimal:
        return sum((Decimal(one["monthly"]) for one in self.plan), Decimal(0))

    @property
    def unmanaged(self) -> dict[str, Any]:
        return dict(self.state.unmanaged)

    @property
    def preview_rows(self) -> list[dict[str, Any]]:
        """What would be written, with values as text."""
        return [{**one, "changes": _as_text(one["changes"])} for one in self.state.preview]

    @property
    def written_rows(self) -> list[dict[str, Any]]:
        """What was written, with values as text."""
        return [{"object": f"{row.kind}/{row.name}", "changes": _as_text(row.changes)} for row in self.written]

    @property
    def contested(self) -> list[str]:
        return [row.contested for row in self.written if row.contested]


def _as_text(changes: list[dict[str, Any]]) -> list[dict[str, str]]:
    def text(value: Any) -> str:
        return "absent" if value is None else value if isinstance(value, str) else json.dumps(value)

    return [{"path": c["path"], "before": text(c["before"]), "after": text(c["after"])} for c in changes]


def nodes_view(*, actor: Actor, cluster_id: UUID) -> NodesView:
    """The view; NotFound for another organization's cluster."""
    cluster = clusters.get_cluster(actor=actor, cluster_id=cluster_id)
    state = Enforcement.objects.visible_to(actor).filter(cluster_id=cluster.id).first()
    rows = NodeAction.objects.visible_to(actor).filter(cluster_id=cluster.id).order_by("-started_at")
    actions = list(rows[:MOST_ACTIONS])
    written = WrittenObject.objects.visible_to(actor).filter(cluster_id=cluster.id, restored_at=None)
    return NodesView(
        cluster=cluster,
        policy=selectors.applied_to(actor=actor, cluster_id=cluster.id),
        state=state or Enforcement(organization_id=cluster.organization_id, cluster=cluster),
        actions=_with_ledger(actor, cluster, actions),
        written=list(written.order_by("kind", "name")),
    )


def _with_ledger(actor: Actor, cluster: Cluster, actions: list[NodeAction]) -> list[ActionRow]:
    """What the ledger says the cluster cost an hour at the beginning of each action, and from its first change after."""
    if not actions:
        return []
    first = min(a.started_at for a in actions)
    known = list(
        Interval.objects.visible_to(actor)
        .filter(resource_kind=RESOURCE, resource_id=cluster.id)
        .exclude(ended_at__lt=first)
        .order_by("started_at")
        .values_list("started_at", "ended_at", "price")
    )
    rows = []
    for action in actions:
        before = [
            p
            for began, ended, p in known
            if began <= action.started_at and (ended is None or ended > action.started_at)
        ]
        done = action.ended_at is not None and action.outcome == Outcome.DONE
        after = [p for began, _, p in known if done and began > action.started_at and _settled(action, began)]
        rows.append(ActionRow(action, before[-1] if before else None, after[0] if after else None))
    return rows


def _settled(action: NodeAction, began: Any) -> bool:
    """The first price that was noted once the action had ended."""
    return bool(action.ended_at is not None and began >= action.ended_at)


@dataclass(frozen=True, slots=True)
class RightsView:
    """What the AWS account of a cluster does not let Curfew do. `unknown`: why that could not be asked."""

    cluster: Cluster
    missing: tuple[str, ...] = ()
    unknown: str = ""


def rights_view(*, actor: Actor, cluster_id: UUID) -> RightsView:
    """Whether an enforced policy may make nodes there, asked of AWS now. Nothing is asked where Curfew does not make them:
    with Karpenter, without an AWS account, or while the policy does not enforce. Raises NotFound."""
    cluster = clusters.get_cluster(actor=actor, cluster_id=cluster_id)
    policy = selectors.applied_to(actor=actor, cluster_id=cluster.id)
    engine = (
        Enforcement.objects.visible_to(actor).filter(cluster_id=cluster.id).values_list("engine", flat=True).first()
    )
    if policy is None or policy.mode is not Mode.ENFORCE or engine == Engine.KARPENTER or not gateway.reaches(cluster):
        return RightsView(cluster)
    if not (policy.document.autoscaling.enabled or policy.document.consolidation.enabled):
        return RightsView(cluster)
    try:
        return RightsView(cluster, tuple(gateway.missing_rights(cluster)))
    except ProviderError as failure:
        return RightsView(cluster, unknown=f"{failure.message} {failure.detail}".strip()[:300])


def nodes_shape(view: NodesView) -> dict[str, Any]:
    """The view as the API gives it."""
    return {
        "cluster": str(view.cluster.id),
        "policy": view.policy.policy_name if view.policy else None,
        "version": view.policy.number if view.policy else None,
        "mode": str(view.policy.mode) if view.policy else "off",
        "engine": view.state.engine or "none",
        "holds": view.state.holds,
        "problem": view.state.problem,
        "budget": view.state.budget,
        "planned_at": view.state.planned_at,
        "currency": "USD",
        "potential_monthly": f"{view.potential_monthly:.2f}",
        "recommendations": view.plan,
        "staying": view.staying,
        "preview": view.state.preview,
        "unmanaged": view.unmanaged,
        "actions": [_action_shape(row) for row in view.actions],
        "written": [
            {
                "object": f"{row.kind}/{row.name}",
                "made": not row.existed,
                "changes": row.changes,
                "applied_at": row.applied_at,
                "contested": row.contested,
            }
            for row in view.written
        ],
    }


def _action_shape(row: ActionRow) -> dict[str, Any]:
    action = row.action
    return {
        "id": str(action.id),
        "kind": action.kind,
        "title": row.title,
        "outcome": action.outcome,
        "reason": action.reason,
        "words": action.words,
        "nodes": action.nodes if action.kind == Kind.REMOVE else [],
        "machine": action.launch.get("machine") if action.kind == Kind.LAUNCH else None,
        "operation": str(action.operation_id) if action.operation_id else None,
        "started_at": action.started_at,
        "ended_at": action.ended_at,
        "expected_hourly": None if action.expected_hourly is None else str(action.expected_hourly),
        "ledger_hourly_before": None if row.hourly_before is None else str(row.hourly_before),
        "ledger_hourly_after": None if row.hourly_after is None else str(row.hourly_after),
    }
