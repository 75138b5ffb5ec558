"""Every write of the GPU fleet."""

from gpu_fleet.services.copying import forget_copies
from gpu_fleet.services.guarding import guard_standbys
from gpu_fleet.services.hearing import keep_manifest, read_manifest, record_beat
from gpu_fleet.services.idling import check_idle, forget_beats
from gpu_fleet.services.leases import renew as renew_lease
from gpu_fleet.services.leases import standby_of
from gpu_fleet.services.machines import (
    change_machine,
    create_machine,
    disconnect_effects,
    find_machine,
    keep_awake,
    refuse_disconnect,
    request_destroy,
    request_doze,
    request_hibernate,
    request_migrate,
    request_pause,
    request_restore,
    request_resume,
    request_snapshot,
    request_wake,
)
from gpu_fleet.services.market import forget_samples, keep_samples, sample_all
from gpu_fleet.services.reaching import admit
from gpu_fleet.services.reaping import (
    destroy_orphan,
    list_orphans,
    mark_silent,
    reap,
    sweep_account,
    sweep_late,
    watch,
)
from gpu_fleet.services.settings import change_settings, settings_of
from gpu_fleet.services.snapshots import apply_retention, delete_snapshot, find_snapshot, verify_again
from gpu_fleet.services.standby import (
    change_standby,
    create_standby,
    find_standby,
    remove_standby,
    request_failback,
    request_failover,
    request_recover,
)

__all__ = [
    "admit",
    "apply_retention",
    "change_machine",
    "change_settings",
    "change_standby",
    "check_idle",
    "create_machine",
    "create_standby",
    "delete_snapshot",
    "destroy_orphan",
    "disconnect_effects",
    "find_machine",
    "find_snapshot",
    "find_standby",
    "forget_beats",
    "forget_copies",
    "forget_samples",
    "guard_standbys",
    "keep_awake",
    "keep_manifest",
    "keep_samples",
    "list_orphans",
    "mark_silent",
    "read_manifest",
    "reap",
    "record_beat",
    "refuse_disconnect",
    "remove_standby",
    "renew_lease",
    "request_destroy",
    "request_doze",
    "request_failback",
    "request_failover",
    "request_hibernate",
    "request_migrate",
    "request_pause",
    "request_recover",
    "request_restore",
    "request_resume",
    "request_snapshot",
    "request_wake",
    "sample_all",
    "settings_of",
    "standby_of",
    "sweep_account",
    "sweep_late",
    "verify_again",
    "watch",
]
