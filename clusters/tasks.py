"""Celery's side of clusters: ids in, one service call."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task

from clusters import group_executor, services
from clusters.sleeping import watch
from core.actor import Actor


@shared_task(name="clusters.mark_lost")
def mark_lost() -> int:
    """Every five seconds: clusters that were silent for too long become lost."""
    return services.mark_lost()


@shared_task(name="clusters.refigure")
def refigure() -> int:
    """Every fifteen seconds: what a lost hint left undone."""
    return sum(services.refigure(cluster_id=cluster_id) for cluster_id in services.refigure_dirty())


@shared_task(name="clusters.refigure_one")
def refigure_one(cluster_id: str) -> bool:
    """After a report: figures of one cluster."""
    return services.refigure(cluster_id=UUID(cluster_id))


@shared_task(name="clusters.reprice")
def reprice() -> int:
    """Every hour: list prices that changed count from now on."""
    return services.reprice_all(actor=Actor.system("price_book"))


@shared_task(name="clusters.roll_up")
def roll_up() -> int:
    """Every five minutes: quiet clusters get their look, old history goes."""
    return services.add_quiet_looks() + services.forget_old()


@shared_task(name="clusters.pack")
def pack() -> int:
    """Every five minutes: a few clusters' perfect re-packing."""
    return sum(services.plan(cluster_id=cluster_id) for cluster_id in services.packing_due())


@shared_task(name="clusters.beat_sandbox")
def beat_sandbox() -> int:
    """Every fifteen seconds: the simulated agents of the sandbox cloud, where it is connected."""
    return services.beat_sandbox()


@shared_task(name="clusters.read_groups")
def read_groups() -> int:
    """Every minute: hand clusters whose node groups were not read for long to workers."""
    return services.groups_due()


@shared_task(name="clusters.read_groups_one")
def read_groups_one(cluster_id: str) -> bool:
    """Read one cluster's node groups from its cloud account."""
    return group_executor.read_groups(cluster_id=UUID(cluster_id))


@shared_task(name="clusters.poll")
def poll() -> int:
    """Every fifteen seconds: hand clusters that are read without an agent to workers."""
    return services.poll_due()


@shared_task(name="clusters.poll_one")
def poll_one(cluster_id: str) -> bool:
    """Read one cluster through its API server."""
    return services.poll_cluster(cluster_id=UUID(cluster_id))


@shared_task(name="clusters.watch_sleep")
def watch_sleep() -> int:
    """Every twenty seconds: hand sleeping clusters that were not looked at for a minute to workers."""
    return watch.watch_due()


@shared_task(name="clusters.watch_one")
def watch_one(cluster_id: str) -> int:
    """Look who wakes what sleeps in one cluster."""
    return len(watch.watch_cluster(cluster_id=UUID(cluster_id)))
