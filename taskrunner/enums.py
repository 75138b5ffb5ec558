"""Fixed words of tasks and workers."""

from __future__ import annotations

from django.db import models


class Status(models.TextChoices):
    """Where a task stands. WAITING is for the tasks that it needs, QUEUED for a worker, CLAIMED until it runs."""

    WAITING = "waiting", "Waiting"
    QUEUED = "queued", "Queued"
    CLAIMED = "claimed", "Starting"
    RUNNING = "running", "Running"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


HELD = (Status.CLAIMED, Status.RUNNING)
PENDING = (Status.WAITING, Status.QUEUED)
FINAL = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)


class ExitClass(models.TextChoices):
    """Why an attempt ended; retries are chosen by it."""

    OK = "ok", "Ended well"
    ERROR = "error", "The command ended with an error"
    OOM = "oom", "It ran out of memory"
    TIMEOUT = "timeout", "It ran longer than its time limit"
    IMAGE = "image", "The image could not be had"
    START = "start", "The container could not be started"
    LOST = "lost", "The worker was lost"
    CANCELLED = "cancelled", "Somebody cancelled it"
    DEPENDENCY = "dependency", "A task that it needs did not succeed"


RETRYABLE = (
    ExitClass.ERROR,
    ExitClass.OOM,
    ExitClass.TIMEOUT,
    ExitClass.IMAGE,
    ExitClass.START,
    ExitClass.LOST,
)


class Stream(models.IntegerChoices):
    """The numbers that Docker's own framing uses."""

    STDOUT = 1, "stdout"
    STDERR = 2, "stderr"


class WorkerState(models.TextChoices):
    """What the owner wants of a worker. A draining one finishes what it has; a cordoned one only takes nothing new."""

    OPEN = "open", "Takes tasks"
    CORDONED = "cordoned", "Takes no new tasks"
    DRAINING = "draining", "Finishes its tasks, then stops"


LEASE_SECONDS = 45
FIRST_LEASE_SECONDS = 15  # until the agent says that it heard of its claim
MOST_UNHEARD = 10
RENEW_SECONDS = 10
LOST_AFTER_SECONDS = 45
PERMISSION_VIEW = "tasks.view"
PERMISSION_OPERATE = "tasks.operate"
PERMISSION_MANAGE = "tasks.manage"
WORKERS_VIEW = "workers.view"
WORKERS_OPERATE = "workers.operate"
WORKERS_MANAGE = "workers.manage"
