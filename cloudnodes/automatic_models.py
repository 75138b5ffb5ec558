"""Rows of automatic on and off: rules, what is known of a node's work, workflow runs, favourites."""

from __future__ import annotations

from django.db import models

from core.models import UuidModel
from core.tenancy import OrgOwned


class NodeRule(UuidModel, OrgOwned):
    """When something may be switched automatically. Of three the nearest holds: the node's own, its type's, the default.

    `target` is "default", "type:<id>" or "node:<id>". `idle_minutes` None: never put to sleep for being idle.
    """

    target = models.CharField(max_length=60)
    node = models.ForeignKey("cloudnodes.CloudNode", on_delete=models.CASCADE, null=True, related_name="+")
    node_type = models.ForeignKey("cloudnodes.NodeType", on_delete=models.CASCADE, null=True, related_name="+")
    idle_minutes = models.PositiveIntegerField(null=True)
    warn_minutes = models.PositiveIntegerField(default=5)
    auto_start = models.BooleanField(default=True)
    saved_by = models.CharField(max_length=200, blank=True)
    updated_at = models.DateTimeField()

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["organization", "target"], name="node_rule_once")]

    def __str__(self) -> str:
        return f"rule of {self.target}"


class NodeActivity(OrgOwned):
    """What is known of a node's work. `verdict` busy, idle or unknown; `idle_since` only while idle; `reading` what its
    counters said at `sampled_at`; `next_at` moves by a conditional UPDATE, so that one worker looks at a time.
    """

    node = models.OneToOneField("cloudnodes.CloudNode", on_delete=models.CASCADE, related_name="activity")
    next_at = models.DateTimeField()
    sampled_at = models.DateTimeField(null=True)
    verdict = models.CharField(max_length=8, default="unknown")
    why = models.CharField(max_length=200, blank=True)
    idle_since = models.DateTimeField(null=True)
    reading = models.JSONField(default=dict)
    touched_at = models.DateTimeField(null=True)
    keep_until = models.DateTimeField(null=True)
    kept_by = models.CharField(max_length=200, blank=True)
    warned_at = models.DateTimeField(null=True)
    stops_at = models.DateTimeField(null=True)

    class Meta(OrgOwned.Meta):
        indexes = [models.Index(fields=["next_at"], name="node_activity_due")]

    def __str__(self) -> str:
        return f"{self.verdict} since {self.idle_since}"


class WorkflowRun(UuidModel, OrgOwned):
    """One run of somebody's workflow on a node. `ended_at` None: it runs. `outcome` done, or abandoned when nobody said so.

    `cost` is kept when it ended: its share of the node's intervals (None: no price). `usage` holds what the node's own
    counters said at the looks next to start and end.
    """

    workflow_id = models.CharField(max_length=200)
    node = models.ForeignKey("cloudnodes.CloudNode", on_delete=models.SET_NULL, null=True, related_name="+")
    resource_id = models.UUIDField()
    node_label = models.CharField(max_length=300)
    type_slug = models.CharField(max_length=120)
    provider = models.CharField(max_length=10)
    gpu_tier = models.CharField(max_length=40, blank=True)
    team = models.CharField(max_length=80, blank=True)
    person = models.CharField(max_length=200)
    params = models.JSONField(default=dict)
    operation_id = models.UUIDField(null=True)
    asked_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=10, blank=True)
    cost = models.DecimalField(max_digits=18, decimal_places=8, null=True)
    usage = models.JSONField(default=dict)

    class Meta(OrgOwned.Meta):
        constraints = [
            models.UniqueConstraint(fields=["organization", "workflow_id", "resource_id"], name="workflow_run_once")
        ]
        indexes = [
            models.Index(fields=["organization", "-asked_at"], name="workflow_run_newest"),
            models.Index(fields=["resource_id", "ended_at"], name="workflow_run_of_node"),
            models.Index(fields=["organization", "type_slug", "provider", "-ended_at"], name="workflow_run_estimate"),
        ]

    def __str__(self) -> str:
        return self.workflow_id


class Favourite(OrgOwned):
    """A node that a person marked, to find and wake it quickly."""

    user_id = models.CharField(max_length=60)
    node = models.ForeignKey("cloudnodes.CloudNode", on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField()

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["user_id", "node"], name="node_favourite_once")]

    def __str__(self) -> str:
        return f"{self.user_id} {self.node_id}"
