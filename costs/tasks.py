"""Celery's side of money."""

from __future__ import annotations

from celery import shared_task

from costs import budgets, rollups


@shared_task(name="costs.check_budgets")
def check_budgets() -> int:
    """Every minute: warn and act where a budget says so. Returns how many steps were taken."""
    return budgets.check_all()


@shared_task(name="costs.roll_up")
def roll_up() -> int:
    """Every ten minutes: sum up the days that are over, and today so far. Returns how many stretches were summed."""
    return rollups.build_due()
