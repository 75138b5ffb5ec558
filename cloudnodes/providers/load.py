"""How busy a whole machine is by its cloud's own metrics, and who switched it outside. Pure shapes; no Django, no SDK."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol, runtime_checkable

PERIOD = timedelta(minutes=5)
# Clouds publish a period some minutes late; what is older than this says nothing about now.
OLDEST = timedelta(minutes=20)
# How many whole periods are looked at: the busiest of them counts.
PERIODS = 2
_AZURE_SIZE = re.compile(r"(?:Standard|Basic)_[A-Z]+(\d+)(?:-(\d+))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Load:
    """The busiest of the last whole periods, up to `upto`: processor use in per cent of ONE processor (a machine with
    eight can show 800), and network traffic in both directions in bytes a second."""

    cpu_percent: float
    network: float
    upto: datetime


@dataclass(frozen=True, slots=True)
class Switched:
    """Who switched a machine, as the cloud's own log says: `by` a user, role or service, `event` what was called."""

    by: str
    event: str
    at: datetime


@runtime_checkable
class TellsLoad(Protocol):
    def load(self, provider_id: str, *, instance_type: str, now: datetime) -> Load | None:
        """The machine's load, None when its cloud has no fresh figure of all of it. Raises ProviderError."""


@runtime_checkable
class TellsWho(Protocol):
    def lacks_to_tell(self) -> list[str]:
        """The rights that `who_switched` needs and that are not granted, by name. Raises ProviderError, PermissionDenied
        when that may not be asked."""

    def who_switched(self, provider_id: str, *, how: str, since: datetime, until: datetime) -> Switched | None:
        """The last event that was accepted and did this (`start`, `stop` or `delete`); None when the log has none (yet).
        Raises ProviderError."""


def whole_periods(now: datetime) -> tuple[datetime, datetime]:
    """The stretch to ask for: whole periods only, since one under way would read too low."""
    seconds = int(PERIOD.total_seconds())
    end = datetime.fromtimestamp(int(now.timestamp()) // seconds * seconds, UTC)
    return end - OLDEST, end


def put_together(
    cpu: Mapping[datetime, float], received: Mapping[datetime, float], sent: Mapping[datetime, float], processors: int
) -> Load | None:
    """From figures by the beginning of their period: per cent of the whole machine, and bytes in a period. None unless
    the newest periods have all three."""
    known = sorted(set(cpu) & set(received) & set(sent))[-PERIODS:]
    newest = max([*cpu, *received, *sent], default=None)
    if processors < 1 or not known or known[-1] != newest:
        return None
    traffic = max(received[at] + sent[at] for at in known) / PERIOD.total_seconds()
    return Load(max(cpu[at] for at in known) * processors, traffic, known[-1] + PERIOD)


def azure_processors(size: str) -> int:
    """Processors by the name of a size (`Standard_NC24ads_A100_v4` has 24, `Standard_M64-32ms` 32); 0 when it does not say."""
    found = _AZURE_SIZE.match(size)
    return int(found[2] or found[1]) if found else 0
