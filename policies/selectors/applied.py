"""Which policy and template bind a cluster now: what engine, enforcers, rightsizing and the webhook ask first."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from core.actor import Actor
from policies.blueprint import Blueprint
from policies.document import Document
from policies.enums import Mode
from policies.models import ClusterTemplate, NodeTemplate, PolicyAssignment


@dataclass(frozen=True, slots=True)
class Applied:
    """A cluster's policy: its document of version `number`, what it may do, and the node template that binds it.

    `template` is the one applied to the cluster itself, else the one that the policy names, else the organization's
    default; None without any. `template_missing` says that the policy names one that is gone: launch nothing then. Maintenance and sleep are not looked at: ask
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
    """Policies in one of these modes, of `cluster_ids` or of every cluster the actor may see. Three queries."""
    rows = PolicyAssignment.objects.visible_to(actor).filter(mode__in=[str(m) for m in modes])
    if cluster_ids is not None:
        rows = rows.filter(cluster_id__in=list(cluster_ids))
    found = list(rows.select_related("policy").order_by("cluster_id"))
    books = _books(actor, [row.cluster_id for row in found])
    return [_applied(row, books) for row in found]


def applied_to(*, actor: Actor, cluster_id: UUID) -> Applied | None:
    """The policy of one cluster, whatever its mode; None when it has none."""
    return next(iter(applied(actor=actor, cluster_ids=[cluster_id])), None)


def template_of(*, actor: Actor, cluster_id: UUID) -> NodeTemplate | None:
    """The node template that binds one cluster; without a policy only one that was applied to the cluster itself."""
    books = _books(actor, [cluster_id])
    own = books.own.get(cluster_id)
    row = PolicyAssignment.objects.visible_to(actor).filter(cluster_id=cluster_id).select_related("policy").first()
    return own if own is not None or row is None else books.choose(row)[0]


@dataclass(frozen=True, slots=True)
class _Books:
    """Templates by id, the default one of each organization, and those applied to clusters themselves."""

    templates: dict[UUID, NodeTemplate]
    defaults: dict[UUID, NodeTemplate]
    own: dict[UUID, NodeTemplate]

    def choose(self, row: PolicyAssignment) -> tuple[NodeTemplate | None, bool]:
        """The template that binds the cluster, and whether the policy names one that is gone."""
        if row.cluster_id in self.own:
            return self.own[row.cluster_id], False
        named = row.policy.parsed().autoscaling.template
        if not named:
            return self.defaults.get(row.organization_id), False
        found = self.templates.get(UUID(named))
        mine = found is not None and found.organization_id == row.organization_id
        return (found, False) if mine else (None, True)


def _books(actor: Actor, cluster_ids: Collection[UUID]) -> _Books:
    if not cluster_ids:
        return _Books({}, {}, {})
    templates = {t.id: t for t in NodeTemplate.objects.visible_to(actor)}
    defaults = {t.organization_id: t for t in templates.values() if t.is_default}
    links = ClusterTemplate.objects.visible_to(actor).filter(cluster_id__in=list(cluster_ids))
    return _Books(templates, defaults, {r.cluster_id: templates[r.template_id] for r in links})


def _applied(row: PolicyAssignment, books: _Books) -> Applied:
    template, missing = books.choose(row)
    return Applied(
        cluster_id=row.cluster_id,
        organization_id=row.organization_id,
        policy_id=row.policy_id,
        policy_name=row.policy.name,
        number=row.policy.number,
        mode=Mode(row.mode),
        document=row.policy.parsed(),
        template=template.blueprint() if template else None,
        template_missing=missing,
    )
