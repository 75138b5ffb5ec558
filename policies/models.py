"""Node templates, policies with their versions, and which cluster follows which policy."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower
from django.urls import reverse

from clusters.analysis.facts import Taint
from core.models import UuidModel
from core.tenancy import OrgOwned
from policies import enums
from policies.blueprint import Blueprint
from policies.document import Document


def _choices(words: Any) -> list[tuple[str, str]]:
    return [(str(word), str(word)) for word in words]


class NodeTemplate(UuidModel, OrgOwned):
    """What may be launched for a cluster. Lists are plain words; `account` is where its security groups are."""

    name = models.CharField(max_length=63)
    description = models.CharField(max_length=500, blank=True)
    architectures = models.JSONField(default=list)
    families = models.JSONField(default=list)
    excluded_sizes = models.JSONField(default=list)
    purchasing = models.CharField(max_length=12, choices=_choices(enums.Purchasing), default="spot")
    strategy = models.CharField(max_length=20, choices=_choices(enums.Strategy), default="capacity_optimized")
    on_demand_base = models.PositiveIntegerField(default=0)
    on_demand_percent = models.PositiveSmallIntegerField(default=0)
    disk_type = models.CharField(max_length=12, choices=_choices(enums.DiskType), default="gp3")
    disk_gib = models.PositiveIntegerField(default=100)
    account = models.ForeignKey("accounts.CloudAccount", on_delete=models.SET_NULL, null=True, related_name="+")
    region = models.CharField(max_length=60, blank=True)
    security_groups = models.JSONField(default=list)
    subnets = models.JSONField(default=list)
    zones = models.JSONField(default=list)
    labels = models.JSONField(default=dict)
    taints = models.JSONField(default=list)
    node_role = models.CharField(max_length=200, blank=True)
    image = models.CharField(max_length=80, default="al2023@latest")
    limit_cpu = models.PositiveIntegerField(null=True)
    limit_memory_gib = models.PositiveIntegerField(null=True)
    weight = models.PositiveSmallIntegerField(default=10)
    is_default = models.BooleanField(default=False)
    created_by = models.CharField(max_length=200, blank=True)
    updated_by = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta(OrgOwned.Meta):
        constraints = [
            models.UniqueConstraint(F("organization"), Lower("name"), name="policies_template_name_once"),
            models.UniqueConstraint(
                fields=["organization"], condition=Q(is_default=True), name="policies_template_default_once"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("policies:template", args=[self.id])

    def blueprint(self) -> Blueprint:
        """The template as plain data."""
        return Blueprint(
            id=str(self.id),
            name=self.name,
            architectures=frozenset(enums.Architecture(word) for word in self.architectures),
            families=frozenset(self.families),
            excluded_sizes=frozenset(self.excluded_sizes),
            purchasing=enums.Purchasing(self.purchasing),
            strategy=enums.Strategy(self.strategy),
            on_demand_base=self.on_demand_base,
            on_demand_percent=self.on_demand_percent,
            disk_type=enums.DiskType(self.disk_type),
            disk_gib=self.disk_gib,
            security_groups=tuple(self.security_groups),
            subnets=tuple(self.subnets),
            zones=tuple(self.zones),
            labels=tuple(sorted(self.labels.items())),
            taints=tuple(Taint(t["key"], t.get("value", ""), t.get("effect", "NoSchedule")) for t in self.taints),
            node_role=self.node_role,
            image=self.image,
            limit_cpu=self.limit_cpu,
            limit_memory_gib=self.limit_memory_gib,
            weight=self.weight,
        )


class ClusterTemplate(OrgOwned):
    """The node template that was applied to a cluster itself; it goes before the one that its policy names."""

    cluster = models.OneToOneField("clusters.Cluster", on_delete=models.CASCADE, related_name="+")
    template = models.ForeignKey(NodeTemplate, on_delete=models.CASCADE, related_name="applied")
    since = models.DateTimeField()
    applied_by = models.CharField(max_length=200, blank=True)

    def __str__(self) -> str:
        return f"{self.template_id} on {self.cluster_id}"


class Policy(UuidModel, OrgOwned):
    """A named policy. `document` is that of its newest version, `number`; older ones are `PolicyVersion` rows."""

    name = models.CharField(max_length=120)
    number = models.PositiveIntegerField(default=1)
    document = models.JSONField()
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    updated_by = models.CharField(max_length=200, blank=True)

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(F("organization"), Lower("name"), name="policies_policy_name_once")]
        verbose_name_plural = "policies"

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("policies:policy", args=[self.id])

    def parsed(self) -> Document:
        """The newest document. Raises InvalidDocument for a row that was damaged."""
        return Document.from_json(self.document)


class PolicyVersion(OrgOwned):
    """One saved document of a policy, never changed again. `restored_from` is the number it was taken from."""

    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    document = models.JSONField()
    author = models.CharField(max_length=200)
    note = models.CharField(max_length=200, blank=True)
    restored_from = models.PositiveIntegerField(null=True)
    created_at = models.DateTimeField()

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["policy", "number"], name="policies_version_once")]

    def __str__(self) -> str:
        return f"version {self.number} of {self.policy_id}"


class PolicyAssignment(UuidModel, OrgOwned):
    """The policy that a cluster follows, and what it may do there."""

    cluster = models.OneToOneField("clusters.Cluster", on_delete=models.CASCADE, related_name="+")
    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="assignments")
    mode = models.CharField(max_length=12, choices=_choices(enums.Mode), default="recommend")
    since = models.DateTimeField()
    changed_by = models.CharField(max_length=200, blank=True)

    class Meta(OrgOwned.Meta):
        indexes = [models.Index(fields=["organization", "mode"], name="policies_assignment_by_mode")]

    def __str__(self) -> str:
        return f"{self.policy_id} on {self.cluster_id} ({self.mode})"


from policies.enforcing.models import Enforcement, NodeAction, WrittenObject  # noqa: E402, F401  Django looks here
from policies.placement.models import PlacedWorkload, PlacementState  # noqa: E402, F401  Django looks here
from policies.rightsizing.models import SizeChange, SizedWorkload, SizeReport  # noqa: E402, F401  Django looks here
