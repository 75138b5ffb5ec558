"""One sentence for a person: what it does now, why, and what happens next, on the schedule's wall clock."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from hibernation.schedule.state import CauseKind, Power, Transition
from hibernation.schedule.zones import load_zone, when_words

if TYPE_CHECKING:
    from hibernation.schedule.engine import Schedule


def explain(schedule: Schedule, t: datetime) -> str:
    """Such as "Asleep because Sat is painted grey; wakes Mon 08:30 for 09:00." """
    state = schedule.desired_at(t)
    if state.cause.kind is CauseKind.OFF:
        return f"Not managed because {state.cause.text}."
    why = state.cause.text
    if state.cause.kind is CauseKind.PREWARM and state.cause.until:
        ready = when_words(
            state.cause.until.astimezone(load_zone(schedule.zone)), t.astimezone(load_zone(schedule.zone))
        )
        return f"Warming up for {ready}, because then {schedule.desired_at(state.cause.until).cause.text}."
    ahead = schedule.next_transitions(t, 3)
    if state.power is Power.ASLEEP:
        return f"Asleep because {why}; {_wake_words(schedule, t, ahead)}."
    return f"Awake because {why}; {_sleep_words(schedule, t)}."


def _wake_words(schedule: Schedule, t: datetime, ahead: list[Transition]) -> str:
    if not ahead:
        return "nothing on the schedule wakes it"
    local = load_zone(schedule.zone)
    begins = ahead[0].at.astimezone(local)
    words = f"wakes {when_words(begins, t.astimezone(local))}"
    if ahead[0].power is Power.WARMING and len(ahead) > 1 and ahead[1].power is Power.AWAKE:
        words += f" for {when_words(ahead[1].at.astimezone(local), begins)}"
    return words


def _sleep_words(schedule: Schedule, t: datetime) -> str:
    """The next sleep: a gap that the pre-warm fills entirely is none."""
    position, local = t, load_zone(schedule.zone)
    for _ in range(_MOST_GAPS):
        ahead = schedule.next_transitions(position, 8)
        sleep = next((change for change in ahead if change.power is Power.ASLEEP), None)
        if sleep:
            return f"sleeps {when_words(sleep.at.astimezone(local), t.astimezone(local))}"
        if len(ahead) < 8:
            break
        position = ahead[-1].at
    return "nothing on the schedule puts it to sleep"


_MOST_GAPS = 50
