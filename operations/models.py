"""Durable rows for anything slower than a second. The row is the truth; the Celery message is a hint."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.urls import reverse

from core import clock
from core.models import UuidModel
from core.tenancy import OrgOwned
from operations.enums import ACTIVE, FINAL, Status


class Operation(UuidModel, OrgOwned):
    """One piece of slow work on one resource. At most one is active per resource.

    `state` is the executor's checkpoint: what a successor needs to go on after a kill. `fence` rises with every
    claim; a write under an older fence changes nothing.
    """

    kind = models.CharField(max_length=40)
    queue = models.CharField(max_length=10, default="cloud")
    resource_kind = models.CharField(max_length=40)
    resource_id = models.UUIDField()
    resource_label = models.CharField(max_length=300)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    payload = models.JSONField(default=dict)
    state = models.JSONField(default=dict)
    result = models.JSONField(default=dict)
    step = models.CharField(max_length=200, blank=True)
    steps_done = models.PositiveIntegerField(default=0)
    steps_total = models.PositiveIntegerField(default=0)
    progress = models.PositiveSmallIntegerField(default=0)
    attempt = models.PositiveIntegerField(default=0)
    max_attempts = models.PositiveIntegerField(default=4)
    not_before = models.DateTimeField()
    deadline = models.DateTimeField(null=True)
    lease_owner = models.CharField(max_length=120, blank=True)
    lease_expires_at = models.DateTimeField(null=True)
    fence = models.PositiveIntegerField(default=0)
    lost_leases = models.PositiveSmallIntegerField(default=0)
    cancel_requested_at = models.DateTimeField(null=True)
    idempotency_key = models.CharField(max_length=120, null=True)
    error_code = models.CharField(max_length=60, blank=True)
    error = models.CharField(max_length=1000, blank=True)
    next_step = models.CharField(max_length=300, blank=True)
    expected_seconds = models.FloatField(null=True)
    actor_kind = models.CharField(max_length=16)
    actor_id = models.CharField(max_length=80)
    actor_label = models.CharField(max_length=200)
    reason = models.CharField(max_length=300, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    retry_of = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta(OrgOwned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["resource_kind", "resource_id"],
                condition=models.Q(status__in=[s.value for s in ACTIVE]),
                name="operation_one_active_per_resource",
            ),
            models.UniqueConstraint(fields=["organization", "idempotency_key"], name="operation_idempotency_key_once"),
        ]
        indexes = [
            models.Index(fields=["not_before"], condition=models.Q(status="queued"), name="operation_due"),
            models.Index(fields=["lease_expires_at"], condition=models.Q(status="running"), name="operation_leased"),
            models.Index(fields=["organization", "-created_at"], name="operation_recent"),
            models.Index(fields=["resource_kind", "resource_id", "-created_at"], name="operation_of_resource"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.resource_label}"

    def get_absolute_url(self) -> str:
        return reverse("operations:detail", args=[self.id])

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @property
    def can_cancel(self) -> bool:
        return not self.is_final and self.cancel_requested_at is None

    @property
    def can_retry(self) -> bool:
        return self.status in (Status.FAILED, Status.CANCELLED)

    @property
    def elapsed(self) -> timedelta:
        return (self.finished_at or clock.now()) - (self.started_at or self.created_at)

    @property
    def seconds_left(self) -> int | None:
        """Learned remaining time, never below zero; None when nothing is known or it has ended."""
        if self.is_final or self.expected_seconds is None:
            return None
        since: datetime = self.started_at or self.created_at
        return max(0, round(self.expected_seconds - (clock.now() - since).total_seconds()))


class Duration(models.Model):
    """How long successful operations of a kind on a subject took; the newest fifty are kept for the learned median."""

    kind = models.CharField(max_length=40)
    subject = models.CharField(max_length=120)
    seconds = models.FloatField()
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["kind", "subject", "-at"], name="duration_recent")]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject} {self.seconds:.1f} s"
