"""Every read of the GPU fleet."""

from gpu_fleet.selectors.machines import (
    active_operations,
    get_settings,
    last_race,
    learned_seconds,
    list_machines,
    list_snapshots,
    move_facts,
    serving_rental,
)

__all__ = [
    "active_operations",
    "get_settings",
    "last_race",
    "learned_seconds",
    "list_machines",
    "list_snapshots",
    "move_facts",
    "serving_rental",
]
