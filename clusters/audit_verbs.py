"""Audit verbs of clusters. Reports and heartbeats of agents are not audited; what they change about a state is."""

from audit import verbs

verbs.register(
    cluster__connected="Connected the cluster {target}",
    cluster__changed="Changed the cluster {target}",
    cluster__disconnected="Disconnected the cluster {target}",
    cluster__live="{target} reports",
    cluster__lost="{target} was lost",
    cluster__error="{target} cannot be read",
    cluster__sync_requested="Asked {target} to report now",
    cluster__maintenance_begun="Maintenance of {target} began",
    cluster__maintenance_ended="Maintenance of {target} ended",
    cluster__asleep="{target} fell asleep",
    cluster__awake="{target} is awake",
    cluster__manifest_fetched="Fetched the agent's manifest of {target}",
)
