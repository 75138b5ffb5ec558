"""The signing key of a cluster, the rules that its agent keeps, and the orders that wait for it."""

from __future__ import annotations

from django.db import models

from core.models import UuidModel
from core.tenancy import OrgOwned


class AgentKey(OrgOwned):
    """The Ed25519 key that signs for one cluster; its public half is part of the agent's installation."""

    cluster = models.OneToOneField("clusters.Cluster", on_delete=models.CASCADE, related_name="+")
    public = models.CharField(max_length=60)
    sealed = models.TextField()
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"key of {self.cluster_id}"

    @property
    def seal_name(self) -> str:
        """What the sealed half is bound to."""
        return f"agent_key:{self.cluster_id}"


class AgentRules(OrgOwned):
    """The placement rules that a cluster's agent should keep, in the form in which they travel."""

    cluster = models.OneToOneField("clusters.Cluster", on_delete=models.CASCADE, related_name="+")
    version = models.PositiveIntegerField()
    rules = models.JSONField()
    set_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"rules {self.version} of {self.cluster_id}"


class AgentOrder(UuidModel, OrgOwned):
    """One batch of calls that an agent makes for us. It waits until it is answered or its time is over."""

    cluster = models.ForeignKey("clusters.Cluster", on_delete=models.CASCADE, related_name="+")
    calls = models.BinaryField()
    issued_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    answered_at = models.DateTimeField(null=True)
    status = models.CharField(max_length=10, blank=True)
    detail = models.CharField(max_length=300, blank=True)
    answer = models.BinaryField(null=True)

    class Meta(OrgOwned.Meta):
        indexes = [
            models.Index(fields=["cluster"], condition=models.Q(answered_at=None), name="clusters_order_waiting"),
            models.Index(fields=["expires_at"], name="clusters_order_by_end"),
        ]

    def __str__(self) -> str:
        return f"order {self.id} for {self.cluster_id}"
