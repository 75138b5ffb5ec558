"""Fixed words of rightsizing."""

from __future__ import annotations

from enum import StrEnum

RESOURCE = "workload_size"
RESIZE, ROLLBACK = "workload.resize", "workload.size_rollback"
MANAGER = "curfew-rightsizing"
IN_PLACE, ROLLOUT = "in_place", "rollout"


class Outcome(StrEnum):
    """What became of a change."""

    UNDER_WAY = "under_way"
    KEPT = "kept"
    ROLLED_BACK = "rolled_back"
    NOT_MADE = "not_made"
    UNPROVEN = "unproven"  # made, but not watched to the end
