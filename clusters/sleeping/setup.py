"""What sleep registers when the app is ready."""

from __future__ import annotations

from clusters.sleeping import executors, look, sleepable
from core import periodic
from core import sleepable as sleepables
from operations import registry


def register() -> None:
    """Orders and the kind of sleepable."""
    registry.register(executors.ClusterSleep())
    registry.register(executors.ClusterWake())
    registry.register(look.ClusterLook())
    sleepables.register(sleepable.ClusterKind())
    periodic.register("clusters.watch_sleep", 20)
