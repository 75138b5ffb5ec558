"""Versions of policies, what differs between two of them, and who follows what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from clusters.models import Cluster
from core.actor import Actor
from core.errors import NotFound
from policies.models import Policy, PolicyAssignment, PolicyVersion

MOST_VERSIONS = 100
MOST_CLUSTERS = 500


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """A policy of the list with how many clusters follow it in each mode."""

    policy: Policy
    clusters: int
    enforced: int
    recommended: int


def changes_between(before: Any, after: Any, path: str = "") -> dict[str, list[Any]]:
    """What differs between two documents, "card.field" to [before, after]. Lists are compared whole."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        found: dict[str, list[Any]] = {}
        for key in [*before, *(key for key in after if key not in before)]:
            found |= changes_between(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
        return found
    return {} if before == after else {path: [before, after]}


def get_version(*, actor: Actor, policy_id: UUID, number: int) -> PolicyVersion:
    """One version. NotFound also for another organization's."""
    rows = PolicyVersion.objects.visible_to(actor).filter(policy_id=policy_id, number=number)
    found: PolicyVersion | None = rows.first()
    if found is None:
        raise NotFound("There is no such version.")
    return found


def list_versions(*, actor: Actor, policy_id: UUID) -> list[PolicyVersion]:
    """The newest hundred versions, the newest first."""
    rows = PolicyVersion.objects.visible_to(actor).filter(policy_id=policy_id)
    return list(rows.order_by("-number")[:MOST_VERSIONS])


def list_policy_rows(*, actor: Actor, search: str = "") -> list[PolicyRow]:
    """Policies by name with their followers. Two queries."""
    policies = Policy.objects.visible_to(actor)
    if search:
        policies = policies.filter(name__icontains=search)
    modes: dict[UUID, list[str]] = {}
    for policy_id, mode in PolicyAssignment.objects.visible_to(actor).values_list("policy_id", "mode"):
        modes.setdefault(policy_id, []).append(mode)
    return [
        PolicyRow(
            row,
            len(modes.get(row.id, ())),
            modes.get(row.id, []).count("enforce"),
            modes.get(row.id, []).count("recommend"),
        )
        for row in policies.order_by("name")
    ]


def assignment_of(*, actor: Actor, cluster_id: UUID) -> PolicyAssignment | None:
    """The assignment of one cluster with its policy; None when it follows none."""
    rows = PolicyAssignment.objects.visible_to(actor).filter(cluster_id=cluster_id).select_related("policy")
    found: PolicyAssignment | None = rows.first()
    return found


def followers(*, actor: Actor, policy_id: UUID) -> list[PolicyAssignment]:
    """The clusters of a policy by name."""
    rows = PolicyAssignment.objects.visible_to(actor).filter(policy_id=policy_id).select_related("cluster")
    return list(rows.order_by("cluster__name"))


def others(*, actor: Actor, policy_id: UUID) -> list[tuple[Cluster, str]]:
    """Clusters that do not follow this policy, with the name of the one that they do follow. Two queries."""
    links = PolicyAssignment.objects.visible_to(actor).values_list("cluster_id", "policy_id", "policy__name")
    held = {cluster: (policy, name) for cluster, policy, name in links}
    rows = Cluster.objects.visible_to(actor).order_by("name").only("id", "name", "environment")[:MOST_CLUSTERS]
    return [(row, held.get(row.id, (None, ""))[1]) for row in rows if held.get(row.id, (None, ""))[0] != policy_id]
