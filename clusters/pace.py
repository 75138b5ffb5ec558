"""How often agents report, from one setting, and after how much silence one is taken for lost."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings

# Two missed heartbeats and a little patience; a sweep every five seconds finds them.
PATIENCE = 2.6


def intervals() -> dict[str, int]:
    """What the agent is told: seconds between heartbeats, looks at what changed, and samples of usage."""
    beat: int = settings.CURFEW_AGENT_HEARTBEAT_SECONDS
    return {"heartbeat": beat, "snapshot": min(10, beat), "usage": 4 * beat}


def lost_after() -> timedelta:
    """Silence of that long means lost, and lets a standby agent take over."""
    return timedelta(seconds=PATIENCE * settings.CURFEW_AGENT_HEARTBEAT_SECONDS)
