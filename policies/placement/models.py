"""How a cluster's placement rules are carried out, and what was patched where there is no webhook."""

from __future__ import annotations

from django.db import models

from core.models import UuidModel
from core.tenancy import OrgOwned


class Way(models.TextChoices):
    """How rules reach pods. Automatic: by the webhook where it answers, else by patching."""

    AUTO = "auto", "Automatic"
    WEBHOOK = "webhook", "Webhook only"
    PATCH = "patch", "Patch templates"
    OFF = "off", "Not at all"


class Standing(models.TextChoices):
    """What became of one workload's template."""

    PLACED = "placed", "Placed"
    KEPT = "kept", "Changed by somebody else: left as it is"
    CONTESTED = "contested", "Contested"
    FAILED = "failed", "Failed"


class PlacementState(OrgOwned):
    """One cluster's placement: what was chosen, what is in force, and why not more."""

    cluster = models.OneToOneField("clusters.Cluster", on_delete=models.CASCADE, related_name="+")
    way = models.CharField(max_length=10, choices=Way.choices, default=Way.AUTO)
    fallback_minutes = models.PositiveIntegerField(default=10)
    used = models.CharField(max_length=10, blank=True)
    rules = models.JSONField(default=dict)
    notes = models.JSONField(default=list)
    since = models.DateTimeField(null=True)
    synced = models.CharField(max_length=64, blank=True)
    synced_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"placement of {self.cluster_id}"


class PlacedWorkload(UuidModel, OrgOwned):
    """A workload whose template was patched; the row goes when the template has been given back.

    `memory` is what the template must get back, written before the change. `reverted` are the times at which somebody
    undid our change.
    """

    cluster = models.ForeignKey("clusters.Cluster", on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=20)
    namespace = models.CharField(max_length=63)
    name = models.CharField(max_length=253)
    memory = models.JSONField()
    done = models.JSONField(default=list)
    standing = models.CharField(max_length=10, choices=Standing.choices, default=Standing.PLACED)
    words = models.CharField(max_length=300, blank=True)
    placed_at = models.DateTimeField()
    softened_until = models.DateTimeField(null=True)
    reverted = models.JSONField(default=list)

    class Meta(OrgOwned.Meta):
        constraints = [
            models.UniqueConstraint(fields=["cluster", "kind", "namespace", "name"], name="policies_placed_once")
        ]

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"
