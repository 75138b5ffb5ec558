"""What the enforcers remember: the state of each cluster, every action, and what was there before they wrote."""

from __future__ import annotations

from django.db import models

from core.models import UuidModel
from core.tenancy import OrgOwned
from policies.enforcing.enums import Engine, Kind, Outcome


def _choices(words: type[Engine] | type[Kind] | type[Outcome]) -> list[tuple[str, str]]:
    return [(str(word), str(word)) for word in words]


class Enforcement(OrgOwned):
    """How a cluster is doing under its policy.

    `holds` is why nothing is done now, `problem` what went wrong at the last look. `memory` is the engine's; `refused`
    are pools of machines ("type|zone|lifecycle") that had no capacity, with the time until which they are not asked for
    again. `plan` is what the last look would do, `staying` why other nodes stay, `preview` what would be written for
    Karpenter, `unmanaged` what the policy must not touch. `watch_owner` holds the watch over waiting pods until
    `watch_until`.
    """

    cluster = models.OneToOneField("clusters.Cluster", on_delete=models.CASCADE, related_name="+")
    engine = models.CharField(max_length=12, choices=_choices(Engine), default="")
    looked_at = models.DateTimeField(null=True)
    planned_at = models.DateTimeField(null=True)
    holds = models.CharField(max_length=300, blank=True)
    problem = models.CharField(max_length=500, blank=True)
    memory = models.JSONField(default=dict)
    refused = models.JSONField(default=dict)
    plan = models.JSONField(default=list)
    staying = models.JSONField(default=list)
    preview = models.JSONField(default=list)
    unmanaged = models.JSONField(default=dict)
    budget = models.CharField(max_length=300, blank=True)
    watch_owner = models.CharField(max_length=120, blank=True)
    watch_until = models.DateTimeField(null=True)

    class Meta(OrgOwned.Meta):
        indexes = [models.Index(fields=["looked_at"], name="policies_enforcement_by_look")]

    def __str__(self) -> str:
        return f"enforcement on {self.cluster_id}"


class NodeAction(UuidModel, OrgOwned):
    """One thing done to a cluster's nodes: add one, or take some away. It is the resource of its operation.

    `nodes` are taken away, `machines` their instance ids; `cordoned` are those of them that this action has closed and
    not yet opened or ended: written before the node is, so that none is forgotten. `launch` holds what is bought.
    `expected_hourly` is a forecast; what was saved is in the cluster's ledger. `hourly_before` is its price at the start.
    """

    cluster = models.ForeignKey("clusters.Cluster", on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=12, choices=_choices(Kind))
    outcome = models.CharField(max_length=12, choices=_choices(Outcome), default="running")
    policy_name = models.CharField(max_length=120)
    policy_number = models.PositiveIntegerField(default=0)
    reason = models.CharField(max_length=300, blank=True)
    nodes = models.JSONField(default=list)
    machines = models.JSONField(default=dict)
    cordoned = models.JSONField(default=list)
    ended_nodes = models.JSONField(default=list)
    moves = models.JSONField(default=list)
    pods = models.JSONField(default=list)
    launch = models.JSONField(default=dict)
    parent = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, related_name="+")
    expected_hourly = models.DecimalField(max_digits=18, decimal_places=8, null=True)
    hourly_before = models.DecimalField(max_digits=18, decimal_places=8, null=True)
    words = models.CharField(max_length=500, blank=True)
    operation_id = models.UUIDField(null=True)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta(OrgOwned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["cluster"],
                condition=models.Q(kind="remove", ended_at=None),
                name="policies_action_one_removal",
            )
        ]
        indexes = [
            models.Index(fields=["cluster", "-started_at"], name="policies_action_recent"),
            models.Index(fields=["cluster"], condition=models.Q(ended_at=None), name="policies_action_open"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} on {self.cluster_id}"


class WrittenObject(UuidModel, OrgOwned):
    """An object of a cluster that a policy writes, and what it was like before the first time.

    `before` holds, by JSON pointer, the former values of the fields that are written (absent: it had none); `existed` is
    False for an object that the policy made. `wanted` is what was applied last. Closed once all is as it was.
    """

    cluster = models.ForeignKey("clusters.Cluster", on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=20)
    name = models.CharField(max_length=253)
    existed = models.BooleanField()
    before = models.JSONField(default=dict)
    wanted = models.JSONField(default=dict)
    changes = models.JSONField(default=list)
    taken_at = models.DateTimeField()
    applied_at = models.DateTimeField(null=True)
    contested_at = models.DateTimeField(null=True)
    contested = models.CharField(max_length=500, blank=True)
    reapplied = models.JSONField(default=list)
    leaving_since = models.DateTimeField(null=True)
    restored_at = models.DateTimeField(null=True)

    class Meta(OrgOwned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["cluster", "kind", "name"],
                condition=models.Q(restored_at=None),
                name="policies_written_open_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"
