"""Celery's side of the enforcers: ids in, one call."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from celery import shared_task
from django.core.cache import cache

from core.tasks import send_on_commit
from policies.enforcing import looking, services, watching

PLAN_EVERY, RECOMMEND_EVERY = timedelta(seconds=25), timedelta(minutes=5)
LONGEST_LOOK_SECONDS = 300


@shared_task(name="policies.keep_watch")
def keep_watch() -> None:
    """Every ten seconds: this process holds watches over clusters that nobody watches."""
    watching.keeper.ensure()


@shared_task(name="policies.look_for_waiting")
def look_for_waiting() -> int:
    """Every thirty seconds: pods that a watch missed, or whose node did not come."""
    found = watching.wanted()
    for cluster_id in found:
        send_on_commit("policies.react_one", cluster_id=str(cluster_id))
    return len(found)


@shared_task(name="policies.react_one")
def react_one(cluster_id: str) -> int:
    """Order the nodes that a cluster's waiting pods need."""
    return len(looking.react(cluster_id=UUID(cluster_id)))


@shared_task(name="policies.plan")
def plan() -> int:
    """Every thirty seconds: hand clusters under a policy to workers."""
    found = looking.due_for_plan(PLAN_EVERY, RECOMMEND_EVERY)
    for cluster_id in found:
        send_on_commit("policies.plan_one", cluster_id=str(cluster_id))
    return len(found)


@shared_task(name="policies.plan_one")
def plan_one(cluster_id: str) -> str:
    """Look at one cluster and begin what may begin; a look that takes long is not begun twice."""
    if not cache.add(f"policy-plan:{cluster_id}", 1, LONGEST_LOOK_SECONDS):
        return "under way"
    try:
        return looking.plan_cluster(cluster_id=UUID(cluster_id))
    finally:
        cache.delete(f"policy-plan:{cluster_id}")


@shared_task(name="policies.release_forgotten")
def release_forgotten() -> int:
    """Every minute: nodes that are still closed and machines that belong to no group, of actions that have ended."""
    return services.release_forgotten()
