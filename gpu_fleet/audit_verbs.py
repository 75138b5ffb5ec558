"""Audit verbs of the GPU fleet."""

from audit import verbs

verbs.register(
    gpu__machine_created="Created {target}",
    gpu__machine_changed="Changed {target}",
    gpu__wake_requested="Asked to wake {target}",
    gpu__sleep_requested="Asked to hibernate {target}",
    gpu__destroy_requested="Asked to destroy {target}",
    gpu__snapshot_requested="Asked for a snapshot of {target}",
    gpu__restore_requested="Asked to restore {target}",
    gpu__migrate_requested="Asked to move {target} to another host",
    gpu__pause_requested="Asked to pause {target}",
    gpu__resume_requested="Asked to resume {target}",
    gpu__woke="{target} woke",
    gpu__fell_asleep="{target} fell asleep",
    gpu__destroyed="{target} was destroyed",
    gpu__wake_failed="{target} could not be woken",
    gpu__sleep_failed="{target} could not be put to sleep",
    gpu__kept_awake="{target} is kept awake",
    gpu__lost="{target} is lost",
    gpu__interrupted="{target} was taken by its provider",
    gpu__snapshot_verified="A snapshot of {target} was verified",
    gpu__snapshot_failed="A snapshot of {target} failed",
    gpu__snapshot_deleted="Deleted a snapshot of {target}",
    gpu__settings_changed="Changed the settings of the GPU fleet",
    gpu__failed_over="{target} was failed over",
    gpu__orphan_destroyed="Destroyed {target}, which nobody tracked",
)
