"""Who woke what sleeps, and what to do about it. Pure.

A person's change is respected. Anything else is put back to sleep, at most three times an hour; then it is contested and
left alone until the hour is over.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from clusters.sleeping.kinds import UNSET, Object
from clusters.sleeping.objects import awake, fields_of, look, memory_of, owner_of, still_asleep
from clusters.sleeping.snapshot import Entry
from clusters.sleeping.world import uid_of

MOST_AN_HOUR = 3
HOUR = timedelta(hours=1)
# Field managers that are a person's tools. A scheduler or an operator has a name of its own.
PEOPLE = ("kubectl", "k9s", "lens", "openlens", "freelens", "headlamp", "mozilla", "dashboard", "rancher", "oc")


class Answer(StrEnum):
    """What Curfew does."""

    REAPPLIED = "reapplied"
    RESPECTED = "respected"
    CONTESTED = "contested"


@dataclass(frozen=True, slots=True)
class Fight:
    """Something that was awake while it should sleep: by whom (field manager), how, when (None: not told)."""

    target: str
    manager: str
    verb: str
    value: str
    changed_at: datetime | None = None

    @property
    def words(self) -> str:
        when = f" at {self.changed_at:%H:%M:%S} UTC" if self.changed_at else ""
        return f"{self.manager} ({self.verb}) brought {self.target} to {self.value}{when}"


def is_person(manager: str) -> bool:
    """Whether a field manager is a tool in somebody's hand."""
    low = manager.lower()
    return any(low == name or low.startswith((f"{name}-", f"{name}.", f"{name} ")) for name in PEOPLE)


def fight_over(entry: Entry, obj: Object) -> Fight | None:
    """Who woke an object of the snapshot; None while it sleeps, or when it is another object by the same name."""
    memory = memory_of(obj) or (entry.memory if uid_of(obj) == entry.uid else None)
    if memory is None or still_asleep(obj, memory, entry.kind):
        return None
    wanted = fields_of(entry.kind, awake(obj, memory))
    path = next((p for p, value in wanted.items() if look(obj, p) != value), None)
    if path is None:
        return None
    owner = owner_of(obj, path)
    value = look(obj, path)
    verb = owner.verb if owner else "Update"
    return Fight(
        target=entry.title,
        manager=owner.manager if owner else "somebody",
        verb=f"{verb} {owner.subresource}".strip() if owner else verb,
        value="set" if value is UNSET or isinstance(value, dict) else str(value)[:60],
        changed_at=_moment(owner.at) if owner else None,
    )


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def answer_to(fight: Fight, reapplied: Collection[datetime], now: datetime) -> Answer:
    """`reapplied`: when Curfew put this target back to sleep before."""
    if is_person(fight.manager):
        return Answer.RESPECTED
    recent = sum(1 for at in reapplied if now - at < HOUR)
    return Answer.REAPPLIED if recent < MOST_AN_HOUR else Answer.CONTESTED


def summary(contested: Sequence[Fight]) -> str:
    """The first fight in words, and how many more there are."""
    if not contested:
        return ""
    more = f" {len(contested) - 1} more are contested." if len(contested) > 1 else ""
    return f"{contested[0].words}. Put back to sleep {MOST_AN_HOUR} times this hour; left alone now.{more}"[:500]


__all__ = ["Answer", "Fight", "answer_to", "fight_over", "is_person", "summary"]
