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
    cluster__agent_reissued="Made a new token for the agent of {target}",
    cluster__group_change_requested="Asked to change a node group of {target}",
    cluster__asleep="{target} fell asleep",
    cluster__awake="{target} is awake",
    cluster__sleep_requested="Asked {target} to sleep",
    cluster__wake_requested="Asked {target} to wake",
    cluster__snapshot_taken="Wrote down what {target} must be given back",
    cluster__sleep_rules_changed="Changed how {target} sleeps",
    cluster__restore_file_taken="Took the restore file of {target} instead of a wake",
    cluster__contested="Something wakes what sleeps in {target}",
    cluster__restored_from_file="Restored {target} from a file",
    cluster__spot_bands_imported="Imported the Spot Advisor's bands",
    cluster__manifest_fetched="Fetched the agent's manifest of {target}",
)
