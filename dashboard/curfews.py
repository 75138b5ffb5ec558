"""What falls asleep next, for the foot of the menu."""

from __future__ import annotations

from core.actor import Actor
from dashboard.frame import NextCurfew
from hibernation import selectors as hibernation


def next_curfew(actor: Actor) -> NextCurfew | None:
    """The next sleep of any schedule, in one question; None when none is ahead."""
    found = hibernation.next_curfew(actor)
    return NextCurfew(at=found[0], label=found[1], saves_per_hour=None) if found else None
