"""Whether the machine that serves is lost: from its lease, the provider's word and a login. Pure.

A machine is given up only when it serves no longer anyway: its lease is over, or the provider shows that it is gone.
So a wrong judgement costs a change of sides, never two that serve.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

# Two renewals missed: time to ask the provider and to try a login.
LATE = timedelta(seconds=4.5)
# The machine lets us log in, its agent is silent: it may only be starting again.
AGENT_GRACE = timedelta(seconds=20)
ENDED = frozenset({"gone"})
NOT_RUNNING = frozenset({"dead", "stopped", "offline"})


class Word(StrEnum):
    FINE = "fine"
    LATE = "late"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Probe:
    """What was found when it was late. `provider` is a RentalState or "" when the provider did not answer; `login` is
    True or False, None when it was not tried."""

    provider: str = ""
    login: bool | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    word: Word
    why: str = ""


def judge(now: datetime, renewed_at: datetime, lease_until: datetime, probe: Probe | None) -> Verdict:
    """The verdict for a holder that last renewed at `renewed_at`."""
    if now - renewed_at < LATE:
        return Verdict(Word.FINE)
    silent = f"its agent is silent for {(now - renewed_at).total_seconds():.0f} s"
    if probe is None:
        return Verdict(Word.LATE, silent)
    if probe.provider in ENDED:
        return Verdict(Word.LOST, "its provider no longer has it")
    if now < lease_until:
        return Verdict(Word.LATE, silent)
    if probe.provider in NOT_RUNNING:
        return Verdict(Word.LOST, f"its provider says {probe.provider} and {silent}")
    if probe.login and now < lease_until + AGENT_GRACE:
        return Verdict(Word.LATE, f"{silent}, but it lets Curfew log in")
    reason = (
        "" if probe.login is None else (" although it lets Curfew log in" if probe.login else " and no login works")
    )
    return Verdict(Word.LOST, f"{silent}{reason}")
