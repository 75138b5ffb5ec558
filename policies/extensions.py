"""What the app above adds to policies without being imported: the schedules of the hibernation card.

It registers in its `AppConfig.ready()`. Nothing registered: the card says so and offers no choice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from core.actor import Actor


@dataclass(frozen=True, slots=True)
class ScheduleChoice:
    """A schedule that clusters may follow. `words` says when it sleeps."""

    id: str
    name: str
    url: str
    words: str = ""


class Schedules(Protocol):
    """The app that keeps schedules."""

    permission: str

    def choices(self, actor: Actor) -> Sequence[ScheduleChoice]:
        """Every schedule that the actor may see, by name."""

    def followed(self, actor: Actor, cluster_ids: Collection[UUID]) -> Mapping[UUID, str]:
        """The name of the schedule that each of these clusters follows; those without one are left out."""

    def follow(self, actor: Actor, cluster_ids: Collection[UUID], schedule_id: str) -> None:
        """Let clusters follow a schedule. Raises CurfewError when it refuses."""


_schedules: list[Schedules] = []


def register_schedules(source: Schedules) -> None:
    _schedules[:] = [source]


def schedules() -> Schedules | None:
    """Where schedules are kept; None when that app is not installed."""
    return _schedules[0] if _schedules else None
