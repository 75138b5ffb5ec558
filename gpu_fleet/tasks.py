"""Celery's side: one service call each."""

from __future__ import annotations

from celery import shared_task
from django.core.cache import cache

from core.errors import CurfewError
from core.providers import ProviderError
from gpu_fleet import services
from gpu_fleet.models import Machine
from operations import runner

TENDING = "gpu_fleet.tending"
GUARDING = "gpu_fleet.guarding"
TENDING_SECONDS = 120
# A worker that is killed in the middle leaves its mark for so long, and meanwhile nobody looks.
GUARDING_SECONDS = 10


@shared_task(name="gpu_fleet.tend")
def tend() -> int:
    """Every five seconds: silent machines, idle machines, losers to be proven gone, what the providers say."""
    if not cache.add(TENDING, 1, TENDING_SECONDS):
        return 0  # the last one waits for a provider
    try:
        services.mark_silent()
        services.check_idle()
        return services.reap() + services.watch()
    finally:
        cache.delete(TENDING)


@shared_task(name="gpu_fleet.guard")
def guard() -> int:
    """Every two seconds: standbys, and whether the machine that serves is still there.

    Leases of killed workers are ended here too: a change of sides must not wait for the next sweep.
    """
    if not cache.add(GUARDING, 1, GUARDING_SECONDS):
        return 0
    try:
        runner.reap_expired()
        return services.guard_standbys()
    finally:
        cache.delete(GUARDING)


@shared_task(name="gpu_fleet.sweep")
def sweep() -> int:
    """Every five minutes: orders that took effect late."""
    return services.sweep_late()


@shared_task(name="gpu_fleet.sample_market")
def sample_market() -> int:
    """Every ten minutes: one look at each market."""
    return services.sample_all()


@shared_task(name="gpu_fleet.tidy")
def tidy() -> int:
    """Every hour: retention of snapshots, beats and samples."""
    count = services.forget_beats() + services.forget_samples() + services.forget_copies()
    for machine in Machine.objects.all_orgs().filter(gone_at=None, is_spare=False).select_related("account"):
        try:
            count += services.apply_retention(machine=machine)
        except (CurfewError, ProviderError):
            continue  # the next hour tries again; nothing is lost by keeping a snapshot
    return count
