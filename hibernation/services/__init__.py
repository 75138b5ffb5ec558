"""Everything that changes schedules, and the tick that makes resources follow them."""

from hibernation.services.orders import set_override, snooze
from hibernation.services.schedules import (
    assign,
    delete_schedule,
    import_holidays,
    save_schedule,
    set_calendar,
    set_days,
    unassign,
    unassign_all,
)
from hibernation.services.ticking import Ticked, tick

__all__ = [
    "Ticked",
    "assign",
    "delete_schedule",
    "import_holidays",
    "save_schedule",
    "set_calendar",
    "set_days",
    "set_override",
    "snooze",
    "tick",
    "unassign",
    "unassign_all",
]
