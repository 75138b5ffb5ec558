"""May a policy act on a cluster now? Maintenance and sleep always win; what cannot be judged forbids."""

from __future__ import annotations

from uuid import UUID

from clusters.enums import RESOURCE, State
from clusters.models import Cluster
from clusters.selectors import automation
from clusters.sleeping import services as sleeping
from core.actor import Actor
from operations import services as operations
from policies import selectors
from policies.enforcing import gateway
from policies.enforcing.enums import Kind
from policies.enums import Mode
from policies.selectors import Applied

ACTOR = "optimizer"


def actor(organization_id: UUID) -> Actor:
    """The component that acts for policies."""
    return Actor.system(ACTOR, organization_id)


def policy_of(cluster: Cluster) -> Applied | None:
    """The policy that binds the cluster now."""
    return selectors.applied_to(actor=actor(cluster.organization_id), cluster_id=cluster.id)


def why_held(cluster: Cluster) -> str:
    """Why nothing may be changed on the cluster now, whatever its policy says; "" when it may."""
    if paused := automation.why_paused(cluster):
        return paused
    if cluster.state == State.ASLEEP or sleeping.open_snapshot(cluster) is not None:
        return f"{cluster.name} is asleep, or on its way."
    order = operations.active_operation(RESOURCE, cluster.id)
    if order is not None and order.kind in (sleeping.SLEEP, sleeping.WAKE):
        return f"{cluster.name} is being put to sleep or woken."
    if cluster.state != State.LIVE:
        return f"{cluster.name} is {State(cluster.state).label.lower()}: what cannot be seen is not changed."
    if not gateway.reaches(cluster):
        return sleeping.no_way(cluster)
    return ""


def why_not(cluster: Cluster, policy: Applied | None, kind: Kind | None = None) -> str:
    """Why the policy may not do such a thing to the cluster now; "" when it may."""
    if policy is None:
        return "No policy is applied to it any more."
    if policy.mode is not Mode.ENFORCE:
        return f"The policy {policy.policy_name} " + ("is off." if policy.mode is Mode.OFF else "only recommends.")
    if kind is Kind.REMOVE and not policy.document.consolidation.enabled:
        return "Consolidation is switched off."
    if kind is Kind.LAUNCH and not (policy.document.autoscaling.enabled or policy.document.consolidation.enabled):
        return "Autoscaling is switched off."
    if policy.template_missing and kind is Kind.LAUNCH:
        return "The policy's node template is gone, so nothing may be launched."
    return why_held(cluster)
