"""Which policy binds a cluster now: what the engine, the enforcers, rightsizing and the webhook ask first."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from core.actor import Actor
from policies.blueprint import Blueprint
from policies.document import Document
from policies.enums import Mode
from policies.models import NodeTemplate, PolicyAssignment


@dataclass(frozen=True, slots=True)
class Applied:
    """A cluster's policy: its document of version `number`, what it may do, and the node template that binds it.

    `template` is None when the policy names none and the organization has no default; `template_missing` says that it
    names one that is gone: nothing may be launched then. Maintenance and sleep are not looked at: ask
    `clusters.selectors.automation` before acting.
    """

    cluster_id: UUID
    organization_id: UUID
    policy_id: UUID
    policy_name: str
    number: int
    mode: Mode
    document: Document
    template: Blueprint | None
    template_missing: bool = False


def applied(
    *, actor: Actor, cluster_ids: Collection[UUID] | None = None, modes: Collection[Mode] = tuple(Mode)
) -> list[Applied]:
    """Policies in one of these modes, of `cluster_ids` or of every cluster the actor may see. Two queries."""
    rows = PolicyAssignment.objects.visible_to(actor).filter(mode__in=[str(m) for m in modes])
    if cluster_ids is not None:
        rows = rows.filter(cluster_id__in=list(cluster_ids))
    found = list(rows.select_related("policy").order_by("cluster_id"))
    templates = {t.id: t for t in NodeTemplate.objects.visible_to(actor)} if found else {}
    defaults = {t.organization_id: t for t in templates.values() if t.is_default}
    return [_applied(row, templates, defaults) for row in found]


def applied_to(*, actor: Actor, cluster_id: UUID) -> Applied | None:
    """The policy of one cluster, whatever its mode; None when it has none."""
    return next(iter(applied(actor=actor, cluster_ids=[cluster_id])), None)


def _applied(row: PolicyAssignment, templates: dict[UUID, NodeTemplate], defaults: dict[UUID, NodeTemplate]) -> Applied:
    document = row.policy.parsed()
    chosen = document.autoscaling.template
    template = templates.get(UUID(chosen)) if chosen else defaults.get(row.organization_id)
    if template is not None and template.organization_id != row.organization_id:
        template = None
    return Applied(
        cluster_id=row.cluster_id,
        organization_id=row.organization_id,
        policy_id=row.policy_id,
        policy_name=row.policy.name,
        number=row.policy.number,
        mode=Mode(row.mode),
        document=document,
        template=template.blueprint() if template else None,
        template_missing=bool(chosen) and template is None,
    )
