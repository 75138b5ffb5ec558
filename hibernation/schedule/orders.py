"""What people (and rules) order beside the schedule: overrides, snoozes, and how early a wake begins.

Precedence at an instant, among the orders in force: a person's order beats a rule's; then the newest wins (by the
time it was made, then by place in the list). So a person's wake holds to its expiry against every rule, and gives
way only to a later order of a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from hibernation.schedule.errors import InvalidSchedule

DEFAULT_PREWARM_SECONDS = 1800
LONGEST_PREWARM_SECONDS = 4 * 3600


class Action(StrEnum):
    WAKE = "wake"
    SLEEP = "sleep"


@dataclass(frozen=True, slots=True)
class Override:
    """Awake (or asleep) from `start` until `expires`, whatever the grid says.

    `made_at` is when it was ordered (None: at `start`). Times are kept in UTC."""

    action: Action
    start: datetime
    expires: datetime
    actor: str = ""
    reason: str = ""
    by_person: bool = True
    made_at: datetime | None = None
    id: str = ""

    def __post_init__(self) -> None:
        start, expires, made_at = _in_utc(self.start, self.expires, self.made_at)
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "expires", expires)
        object.__setattr__(self, "made_at", made_at)

    @property
    def ordered_at(self) -> datetime:
        return self.made_at or self.start

    @classmethod
    def from_json(cls, value: object) -> Override:
        """From what `to_json` writes. Raises InvalidSchedule."""
        fields = _mapping(value)
        if fields.get("action") not in set(Action):
            raise InvalidSchedule("An override's action is wake or sleep.", field="overrides")
        made_at = fields.get("made_at")
        return cls(
            Action(str(fields["action"])),
            parse_moment(fields.get("start")),
            parse_moment(fields.get("expires")),
            str(fields.get("actor", "")),
            str(fields.get("reason", "")),
            bool(fields.get("by_person", True)),
            parse_moment(made_at) if made_at else None,
            str(fields.get("id", "")),
        )

    def to_json(self) -> dict[str, object]:
        return {
            "action": str(self.action),
            "start": self.start.isoformat(),
            "expires": self.expires.isoformat(),
            "actor": self.actor,
            "reason": self.reason,
            "by_person": self.by_person,
            "made_at": self.made_at.isoformat() if self.made_at else None,
            "id": self.id,
        }


@dataclass(frozen=True, slots=True)
class Snooze:
    """A person put off the sleep that was due at `sleep_at` until `until`; it wakes nothing before `sleep_at`."""

    sleep_at: datetime
    until: datetime
    actor: str = ""
    made_at: datetime | None = None
    id: str = ""

    def __post_init__(self) -> None:
        sleep_at, until, made_at = _in_utc(self.sleep_at, self.until, self.made_at)
        object.__setattr__(self, "sleep_at", sleep_at)
        object.__setattr__(self, "until", until)
        object.__setattr__(self, "made_at", made_at)

    @property
    def ordered_at(self) -> datetime:
        return self.made_at or self.sleep_at

    @classmethod
    def from_json(cls, value: object) -> Snooze:
        """From what `to_json` writes. Raises InvalidSchedule."""
        fields = _mapping(value)
        made_at = fields.get("made_at")
        return cls(
            parse_moment(fields.get("sleep_at")),
            parse_moment(fields.get("until")),
            str(fields.get("actor", "")),
            parse_moment(made_at) if made_at else None,
            str(fields.get("id", "")),
        )

    def to_json(self) -> dict[str, object]:
        return {
            "sleep_at": self.sleep_at.isoformat(),
            "until": self.until.isoformat(),
            "actor": self.actor,
            "made_at": self.made_at.isoformat() if self.made_at else None,
            "id": self.id,
        }


@dataclass(frozen=True, slots=True)
class Prewarm:
    """How long before a painted hour the wake begins: what was learned of this resource, else 30 minutes."""

    enabled: bool = True
    learned_seconds: int | None = None

    def __post_init__(self) -> None:
        if self.learned_seconds is not None and not 0 <= self.learned_seconds <= LONGEST_PREWARM_SECONDS:
            raise InvalidSchedule("A pre-warm lasts from 0 seconds to 4 hours.", field="prewarm")

    @property
    def seconds(self) -> int:
        if not self.enabled:
            return 0
        return DEFAULT_PREWARM_SECONDS if self.learned_seconds is None else self.learned_seconds

    @classmethod
    def from_json(cls, value: object) -> Prewarm:
        """From what `to_json` writes. Raises InvalidSchedule."""
        fields = _mapping(value)
        learned = fields.get("learned_seconds")
        if learned is not None and (isinstance(learned, bool) or not isinstance(learned, int)):
            raise InvalidSchedule("The learned pre-warm is a whole number of seconds.", field="prewarm")
        return cls(bool(fields.get("enabled", True)), learned)

    def to_json(self) -> dict[str, object]:
        return {"enabled": self.enabled, "learned_seconds": self.learned_seconds}


def parse_moment(value: object) -> datetime:
    """An ISO 8601 time with a zone or offset, as UTC. Raises InvalidSchedule."""
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise InvalidSchedule(
            f"{value!r} is not a time such as 2025-01-31T18:00:00+01:00.", field="overrides"
        ) from None
    if moment.tzinfo is None:
        raise InvalidSchedule(f"{value!r} needs an offset, such as +01:00 or Z.", field="overrides")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidSchedule(f"{value!r} is out of range.", field="overrides") from None


def _in_utc(start: datetime, end: datetime, made_at: datetime | None) -> tuple[datetime, datetime, datetime | None]:
    """The moments in UTC: two of one local zone would be compared by their wall clocks, wrong in a repeated hour."""
    if any(moment is not None and moment.tzinfo is None for moment in (start, end, made_at)):
        raise InvalidSchedule("Times of overrides need a time zone.", field="overrides")
    first, last = start.astimezone(UTC), end.astimezone(UTC)
    if last <= first:
        raise InvalidSchedule("An override must end after it starts.", field="overrides")
    return first, last, made_at.astimezone(UTC) if made_at else None


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise InvalidSchedule("An override is an object with named fields.", field="overrides")
    return value
