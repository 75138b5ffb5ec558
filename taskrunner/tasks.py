"""Sweeps of tasks; each may run anywhere at any time, twice or late."""

from __future__ import annotations

from celery import shared_task

from taskrunner import services


@shared_task(name="taskrunner.sweep")
def task_sweep() -> None:
    """Take back what silent workers held, settle what waits, submit what is due."""
    services.sweep_leases()
    services.sweep_waiting()
    services.run_due_schedules()


@shared_task(name="taskrunner.keep_workers")
def task_keep_workers() -> None:
    """Wake the workers that tasks wait for, put idle ones to sleep."""
    services.wake_and_rest()


@shared_task(name="taskrunner.move_logs")
def task_move_logs() -> None:
    """Move ended logs into the bucket, where one is set up, and delete there what nobody keeps."""
    services.move_logs()
    services.drop_objects()


@shared_task(name="taskrunner.forget_old")
def task_forget_old() -> None:
    """Remove figures and logs that organizations no longer keep."""
    services.forget_old()
