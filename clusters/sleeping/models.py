"""What a sleeping cluster must get back, how it may sleep, and who fights its sleep."""

from __future__ import annotations

from django.db import models

from core.models import UuidModel
from core.tenancy import OrgOwned


def _money() -> models.DecimalField:
    return models.DecimalField(max_digits=18, decimal_places=8, null=True)


class SleepRules(OrgOwned):
    """How a cluster may sleep. `groups`: keys of the groups that sleep, when the scope is selective; `keep`: pairs of
    tag or label and value ("" is any) that keep things awake. `to_zero` lets system pods go with their nodes."""

    cluster = models.OneToOneField("clusters.Cluster", on_delete=models.CASCADE, related_name="+")
    selective = models.BooleanField(default=False)
    groups = models.JSONField(default=list)
    critical = models.JSONField(default=list)
    keep = models.JSONField(default=list)
    to_zero = models.BooleanField(default=False)
    on_demand = models.BooleanField(default=False)
    changed_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"rules of {self.cluster_id}"


class SleepSnapshot(UuidModel, OrgOwned):
    """What a cluster was like before it slept. Written once, before the first change; open until it is awake again.

    `entries`: objects in the order of falling asleep (see `clusters.sleeping.snapshot.Entry`); `groups`: sizes and what
    was done to the groups' machines; `decision`: which nodes leave, written before the first of them does; `kept`: what
    stayed and why. `awake_hourly` is the price of the whole cluster then.
    `handed_over_at`: somebody took the restore file instead of a wake.
    """

    cluster = models.ForeignKey("clusters.Cluster", on_delete=models.SET_NULL, null=True, related_name="+")
    cluster_name = models.CharField(max_length=120)
    cluster_uid = models.CharField(max_length=80, blank=True)
    operation_id = models.UUIDField(null=True)
    taken_at = models.DateTimeField()
    asleep_at = models.DateTimeField(null=True)
    restored_at = models.DateTimeField(null=True)
    handed_over_at = models.DateTimeField(null=True)
    entries = models.JSONField(default=list)
    groups = models.JSONField(default=list)
    decision = models.JSONField(null=True)
    kept = models.JSONField(default=list)
    notes = models.JSONField(default=list)
    awake_hourly = _money()
    awake_source = models.CharField(max_length=200, blank=True)
    contested_at = models.DateTimeField(null=True)
    contested = models.CharField(max_length=500, blank=True)
    trouble = models.CharField(max_length=1000, blank=True)
    watched_at = models.DateTimeField(null=True)

    class Meta(OrgOwned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["cluster"],
                condition=models.Q(restored_at=None, handed_over_at=None),
                name="sleep_snapshot_open_once",
            )
        ]
        indexes = [models.Index(fields=["organization", "-taken_at"], name="sleep_snapshot_recent")]

    def __str__(self) -> str:
        return f"{self.cluster_name} at {self.taken_at:%Y-%m-%d %H:%M}"


class SleepFight(OrgOwned):
    """One time that something woke what sleeps: what, who (field manager), how (verb), when, and what Curfew did."""

    snapshot = models.ForeignKey(SleepSnapshot, on_delete=models.CASCADE, related_name="+")
    target = models.CharField(max_length=400)
    manager = models.CharField(max_length=200)
    verb = models.CharField(max_length=60)
    value = models.CharField(max_length=60)
    changed_at = models.DateTimeField(null=True)
    seen_at = models.DateTimeField()
    outcome = models.CharField(max_length=12)

    class Meta(OrgOwned.Meta):
        indexes = [models.Index(fields=["snapshot", "-seen_at"], name="sleep_fight_recent")]

    def __str__(self) -> str:
        return f"{self.manager} {self.verb} {self.target}"
