"""What was recommended for a cluster, and each change that was made, with the way back."""

from __future__ import annotations

from django.db import models
from django.urls import reverse

from core.models import UuidModel
from core.tenancy import OrgOwned
from policies.rightsizing.enums import Outcome

STALE_HOURS = 24


class SizeReport(OrgOwned):
    """The newest recommendations for a cluster. `rows` are plain (see `reporting`); money is dollars a month."""

    cluster = models.OneToOneField("clusters.Cluster", on_delete=models.CASCADE, related_name="+")
    at = models.DateTimeField()
    profile = models.CharField(max_length=12)
    headroom = models.PositiveSmallIntegerField(default=20)
    rows = models.JSONField(default=list)
    workloads = models.PositiveIntegerField(default=0)
    changes = models.PositiveIntegerField(default=0)
    saves = models.FloatField(null=True)
    potential = models.FloatField(null=True)
    prices = models.CharField(max_length=300, blank=True)

    def __str__(self) -> str:
        return f"{self.changes} of {self.workloads} workloads of {self.cluster_id}"


class SizedWorkload(UuidModel, OrgOwned):
    """A workload that was ever ordered to change or lost a container for lack of memory.

    Its id follows from cluster and key, so that a recommendation has it before there is a row. `killed`: by container,
    when it was killed last and what memory it had. `held_until`: nothing is changed by itself before, with `held_why`.
    """

    cluster = models.ForeignKey("clusters.Cluster", on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=400)
    killed = models.JSONField(default=dict)
    held_until = models.DateTimeField(null=True)
    held_why = models.CharField(max_length=300, blank=True)

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["cluster", "key"], name="policies_sized_once")]

    def __str__(self) -> str:
        return self.key


class SizeChange(UuidModel, OrgOwned):
    """One change of a workload's requests and limits. `before` is the snapshot that it goes back to: by container the
    values exactly as they were; what was unset is not in it."""

    workload = models.ForeignKey(SizedWorkload, on_delete=models.CASCADE, related_name="changes")
    operation_id = models.UUIDField()
    method = models.CharField(max_length=10)
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    baseline = models.JSONField(default=dict)
    saves = models.FloatField(null=True)
    outcome = models.CharField(max_length=12, choices=[(str(o), str(o)) for o in Outcome], default=Outcome.UNDER_WAY)
    why = models.CharField(max_length=500, blank=True)
    ordered_by = models.CharField(max_length=200, blank=True)
    at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta(OrgOwned.Meta):
        indexes = [models.Index(fields=["workload", "-at"], name="policies_size_recent")]

    def __str__(self) -> str:
        return f"{self.method} of {self.workload_id}: {self.outcome}"

    def get_absolute_url(self) -> str:
        return reverse("operations:detail", args=[self.operation_id])
