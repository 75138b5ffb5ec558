"""What the enforcers register when the app is ready."""

from __future__ import annotations

from clusters import extensions
from core import periodic
from operations import registry
from policies.enforcing import executors, pools, tasks  # noqa: F401  registers the tasks


def register() -> None:
    """Orders and sweeps."""
    for executor in executors.EXECUTORS:
        registry.register(executor())
    registry.register(pools.ApplyPools())
    extensions.register_pool_owner(pools.writer_of)
    periodic.register("policies.keep_watch", 10)
    periodic.register("policies.look_for_waiting", 30)
    periodic.register("policies.plan", 30)
    periodic.register("policies.release_forgotten", 60)
