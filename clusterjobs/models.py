"""A cluster that offers itself as a worker, and the Jobs that were made in it."""

from __future__ import annotations

from django.db import models

from core.models import UuidModel
from core.tenancy import OrgOwned


class JobPool(UuidModel, OrgOwned):
    """A cluster's offer. `held_until` is the lease of the one process that looks at it now."""

    cluster = models.OneToOneField("clusters.Cluster", on_delete=models.SET_NULL, null=True, related_name="job_pool")
    worker = models.OneToOneField("taskrunner.Worker", on_delete=models.CASCADE, related_name="job_pool")
    namespace = models.CharField(max_length=63, default="curfew-tasks")
    read_only_root = models.BooleanField(default=False)
    pull_secret = models.CharField(max_length=253, blank=True)
    prepared_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=500, blank=True)
    failures = models.PositiveIntegerField(default=0)
    next_at = models.DateTimeField()
    held_until = models.DateTimeField(null=True)
    beat_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()

    class Meta(OrgOwned.Meta):
        indexes = [models.Index(fields=["next_at"], name="job_pool_due")]

    def __str__(self) -> str:
        return self.worker.name


class JobRun(OrgOwned):
    """One claim of a task as a Job. Written before the Job is made; `cursor` is how far its log was read.

    `ending` holds the end that was decided while a pod may still be there.
    """

    pool = models.ForeignKey(JobPool, on_delete=models.CASCADE, related_name="runs")
    task = models.ForeignKey("taskrunner.Task", on_delete=models.CASCADE, related_name="+")
    fence = models.PositiveIntegerField()
    name = models.CharField(max_length=63)
    claimed_at = models.DateTimeField()
    made_at = models.DateTimeField(null=True)
    pod = models.CharField(max_length=253, blank=True)
    cursor = models.JSONField(default=dict)
    reads = models.PositiveIntegerField(default=0)
    stop_asked_at = models.DateTimeField(null=True)
    ending = models.JSONField(default=dict)
    ended_at = models.DateTimeField(null=True)
    cleaned_at = models.DateTimeField(null=True)

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["task", "fence"], name="job_run_once")]
        indexes = [models.Index(fields=["pool"], condition=models.Q(cleaned_at=None), name="job_run_open")]

    def __str__(self) -> str:
        return self.name
