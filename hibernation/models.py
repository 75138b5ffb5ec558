"""Schedules, what follows them, what people ordered beside them, and every decision that was made."""

from __future__ import annotations

from dataclasses import replace

from django.db import models
from django.db.models import F, Q
from django.urls import reverse

from core.models import UuidModel
from core.tenancy import OrgOwned
from hibernation import schedule as engine
from hibernation.enums import Order, Outcome, Wanted


class Schedule(UuidModel, OrgOwned):
    """A weekly grid in a zone with a calendar. `grid` is seven strings, `calendar` maps dates to rules; both as the
    engine writes them. People are told `warn_minutes` before a sleep (0: not at all); with `warn_required` nothing sleeps
    unless that reached somebody."""

    name = models.CharField(max_length=120)
    zone = models.CharField(max_length=64)
    grid = models.JSONField()
    calendar = models.JSONField(default=dict)
    prewarm = models.BooleanField(default=True)
    night_belongs_to_start_day = models.BooleanField(default=True)
    enabled = models.BooleanField(default=True)
    warn_minutes = models.PositiveIntegerField(default=30)
    warn_required = models.BooleanField(default=False)
    saved_by = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["organization", "name"], name="hibernation_schedule_name_once")]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("hibernation:detail", args=[self.id])

    def plan(self) -> engine.Schedule:
        """The engine's schedule without anybody's orders. Raises InvalidSchedule for a row that was damaged."""
        return engine.Schedule.from_json(
            {
                "grid": self.grid,
                "zone": self.zone,
                "calendar": self.calendar,
                "prewarm": {"enabled": self.prewarm},
                "night_belongs_to_start_day": self.night_belongs_to_start_day,
                "enabled": self.enabled,
            }
        )


class Assignment(UuidModel, OrgOwned):
    """One resource follows one schedule, and how far the schedule has got with it.

    A period is a stretch in which the schedule wants one thing: `wanted` since `period_at`, until `changes_at` (None
    while that must be worked out, or when nothing changes any more). `settled` once the resource was seen to be as
    wanted in this period, or somebody's change of it was accepted: from then on it is left alone until the next period.
    `period` numbers the periods and `attempt` the orders of one, so that two ticks at once give the same order; `tries`
    and `first_try_at` are those of the current hour. `revision` is raised by whoever changes the schedule or its orders,
    `seen_revision` is written by the tick alone, so that neither overwrites the other. `warned_for` is the sleep that
    was warned of.
    """

    schedule = models.ForeignKey(Schedule, on_delete=models.CASCADE, related_name="assignments")
    resource_kind = models.CharField(max_length=40)
    resource_id = models.UUIDField()
    created_at = models.DateTimeField()

    wanted = models.CharField(max_length=6, choices=Wanted.choices, default=Wanted.NOTHING, blank=True)
    period = models.PositiveIntegerField(default=0)
    period_at = models.DateTimeField(null=True)
    changes_at = models.DateTimeField(null=True)
    settled = models.BooleanField(default=False)
    yielded = models.BooleanField(default=False)
    attempt = models.PositiveIntegerField(default=0)
    tries = models.PositiveIntegerField(default=0)
    first_try_at = models.DateTimeField(null=True)
    retry_at = models.DateTimeField(null=True)
    operation_id = models.UUIDField(null=True)
    trouble = models.CharField(max_length=500, blank=True)
    warned_for = models.DateTimeField(null=True)
    revision = models.PositiveIntegerField(default=0)
    seen_revision = models.PositiveIntegerField(default=0)

    class Meta(OrgOwned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "resource_kind", "resource_id"], name="hibernation_one_schedule"
            )
        ]
        indexes = [models.Index(fields=["organization", "wanted", "changes_at"], name="hibernation_next_curfew")]

    def __str__(self) -> str:
        return f"{self.resource_kind} {self.resource_id}"


class Override(UuidModel, OrgOwned):
    """Somebody's order for one resource, from `starts_at` until `expires_at`, whatever the grid says."""

    resource_kind = models.CharField(max_length=40)
    resource_id = models.UUIDField()
    order = models.CharField(max_length=6, choices=Order.choices)
    starts_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    made_at = models.DateTimeField()
    reason = models.CharField(max_length=300, blank=True)
    actor_label = models.CharField(max_length=200, blank=True)
    by_person = models.BooleanField(default=True)

    class Meta(OrgOwned.Meta):
        constraints = [
            models.CheckConstraint(condition=Q(expires_at__gt=F("starts_at")), name="hibernation_override_ends_later")
        ]
        indexes = [
            models.Index(fields=["resource_kind", "resource_id", "expires_at"], name="hibernation_override_live"),
            models.Index(fields=["expires_at"], name="hibernation_override_expiry"),
        ]

    def __str__(self) -> str:
        return f"{self.order} until {self.expires_at}"


class Decision(UuidModel, OrgOwned):
    """One sleep or wake that was decided, with its cause; what became of it is told by `operation_id`."""

    schedule = models.ForeignKey(Schedule, on_delete=models.SET_NULL, null=True, related_name="+")
    resource_kind = models.CharField(max_length=40)
    resource_id = models.UUIDField()
    resource_label = models.CharField(max_length=300, blank=True)
    at = models.DateTimeField()
    desired = models.CharField(max_length=6, choices=Wanted.choices)
    cause = models.CharField(max_length=20)
    cause_text = models.CharField(max_length=300, blank=True)
    actor_label = models.CharField(max_length=200, blank=True)
    operation_id = models.UUIDField(null=True)
    outcome = models.CharField(max_length=10, choices=Outcome.choices)
    detail = models.CharField(max_length=500, blank=True)

    class Meta(OrgOwned.Meta):
        indexes = [
            models.Index(fields=["resource_kind", "resource_id", "-at"], name="hibernation_decisions"),
            models.Index(fields=["schedule", "-at"], name="hibernation_by_schedule"),
            models.Index(fields=["organization", "-at"], name="hibernation_recent"),
        ]

    def __str__(self) -> str:
        return f"{self.resource_label} {self.desired} at {self.at}"


def with_orders(base: engine.Schedule, overrides: list[Override], wake_seconds: float | None = None) -> engine.Schedule:
    """The schedule of one resource: with its orders, and with the start-up time learned of it as pre-warm."""
    ordered = [o for o in overrides if o.order != Order.SNOOZE]
    snoozed = [o for o in overrides if o.order == Order.SNOOZE]
    prewarm = base.prewarm
    if wake_seconds is not None and prewarm.enabled:
        prewarm = engine.Prewarm(True, min(max(round(wake_seconds), 0), 4 * 3600))
    return replace(
        base,
        overrides=tuple(_override(o) for o in ordered),
        snoozes=tuple(
            engine.Snooze(o.starts_at, o.expires_at, o.actor_label, made_at=o.made_at, id=str(o.id)) for o in snoozed
        ),
        prewarm=prewarm,
    )


def _override(row: Override) -> engine.Override:
    return engine.Override(
        engine.Action(row.order),
        row.starts_at,
        row.expires_at,
        row.actor_label,
        row.reason,
        by_person=row.by_person,
        made_at=row.made_at,
        id=str(row.id),
    )
