"""Node types, the nodes themselves, and how each account's poll is doing."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.urls import reverse

from cloudnodes.enums import Desired, ErrorOn, Power, Scales, State, subject_of
from core.models import UuidModel
from core.tenancy import OrgOwned


class NodeType(UuidModel, OrgOwned):
    """What runs on a node ("FLUX Dev"): a row of the grid. Spelt differently in each cloud, told apart by its slug."""

    name = models.CharField(max_length=120)
    slug = models.CharField(max_length=120)
    description = models.CharField(max_length=200, blank=True)
    port = models.PositiveIntegerField(null=True, blank=True)
    health_path = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField()

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["organization", "slug"], name="node_type_slug_once")]

    def __str__(self) -> str:
        return self.name


class CloudNode(UuidModel, OrgOwned):
    """One machine, container or service of a connected account that sleeps and wakes.

    `desired_state` is what was asked for, `observed_state` the word that is shown, `provider_state` what the provider
    said at `observed_at`. `phase` and `phase_seq` are the ledger's place: the n-th change of phase has the event key
    `<n>:<phase>`, so that a replay adds nothing. `missing_since` is set while the provider does not know the node,
    `gone_at` once that is certain; `unread_since` while the account cannot be read.
    """

    account = models.ForeignKey("accounts.CloudAccount", on_delete=models.CASCADE, related_name="+")
    node_type = models.ForeignKey(NodeType, on_delete=models.RESTRICT, related_name="nodes")
    gpu_tier = models.CharField(max_length=40)
    provider = models.CharField(max_length=10)
    provider_id = models.CharField(max_length=400)
    instance_name = models.CharField(max_length=200)
    region = models.CharField(max_length=60, blank=True)
    zone = models.CharField(max_length=120, blank=True)
    instance_type = models.CharField(max_length=200, blank=True)
    lifecycle = models.CharField(max_length=12, default="on_demand")
    endpoint = models.CharField(max_length=500, blank=True)
    health_endpoint = models.CharField(max_length=500, blank=True)
    scaling = models.CharField(max_length=10, choices=Scales.choices, default=Scales.MANUAL)
    managed = models.BooleanField(default=True)
    tags = models.JSONField(default=dict)
    owner = models.CharField(max_length=80, blank=True)
    team = models.CharField(max_length=80, blank=True)

    desired_state = models.CharField(max_length=10, choices=Desired.choices, default=Desired.ASLEEP)
    observed_state = models.CharField(max_length=12, choices=State.choices, default=State.LOST)
    provider_state = models.CharField(max_length=20, choices=Power.choices, default=Power.UNKNOWN)
    still_billing = models.BooleanField(default=False)
    observed_at = models.DateTimeField(null=True)
    state_since = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    ready_at = models.DateTimeField(null=True)
    unread_since = models.DateTimeField(null=True)
    missing_since = models.DateTimeField(null=True)
    gone_at = models.DateTimeField(null=True)
    cause = models.CharField(max_length=20, blank=True)
    cause_label = models.CharField(max_length=300, blank=True)
    cause_at = models.DateTimeField(null=True)
    reversals = models.PositiveIntegerField(default=0)
    reversed_at = models.DateTimeField(null=True)

    error_on = models.CharField(max_length=6, choices=ErrorOn.choices, default=ErrorOn.NONE, blank=True)
    error_code = models.CharField(max_length=60, blank=True)
    error = models.CharField(max_length=1000, blank=True)
    next_step = models.CharField(max_length=300, blank=True)

    phase = models.CharField(max_length=10, blank=True)
    phase_at = models.DateTimeField(null=True)
    phase_seq = models.PositiveIntegerField(default=0)
    label_cost = models.DecimalField(max_digits=18, decimal_places=8, null=True)
    hourly_cost = models.DecimalField(max_digits=18, decimal_places=8, null=True)
    hourly_cost_source = models.CharField(max_length=200, blank=True)
    hourly_cost_at = models.DateTimeField(null=True)
    declared = models.JSONField(default=dict)  # node_type, gpu_tier, hourly_cost: said by a person, not by a tag
    created_at = models.DateTimeField()

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["account", "provider_id"], name="cloud_node_once_per_account")]
        indexes = [
            models.Index(fields=["organization", "gpu_tier"], condition=models.Q(gone_at=None), name="cloud_node_grid"),
            models.Index(fields=["organization", "provider", "instance_name"], name="cloud_node_by_name"),
            models.Index(fields=["account"], condition=models.Q(gone_at=None), name="cloud_node_alive"),
        ]

    def __str__(self) -> str:
        return self.instance_name

    def get_absolute_url(self) -> str:
        return reverse("cloudnodes:detail", args=[self.id])

    @property
    def is_on(self) -> bool:
        """Up, or on the way up."""
        return self.provider_state in (Power.RUNNING, Power.STARTING)

    @property
    def can_switch(self) -> bool:
        """Whether Curfew may start and stop it."""
        return self.managed and self.scaling == Scales.MANUAL and self.gone_at is None

    @property
    def subject(self) -> str:
        """What learned durations are kept for: `aws/g5.xlarge`."""
        return subject_of(self.provider, self.instance_type)


class AccountPoll(OrgOwned):
    """When an account's nodes were last read, by whom that is being done now, and how it failed.

    `polled_at` moves by a conditional UPDATE: whoever moves it does the poll, however many look.
    """

    account = models.OneToOneField("accounts.CloudAccount", on_delete=models.CASCADE, related_name="+")
    polled_at = models.DateTimeField(null=True)
    held_until = models.DateTimeField(null=True)
    ok_at = models.DateTimeField(null=True)
    retry_at = models.DateTimeField(null=True)
    failures = models.PositiveIntegerField(default=0)
    error_code = models.CharField(max_length=60, blank=True)
    error = models.CharField(max_length=1000, blank=True)
    next_step = models.CharField(max_length=300, blank=True)

    def __str__(self) -> str:
        return f"poll of {self.account_id}"

    def problem(self) -> dict[str, Any] | None:
        """The last failure, None when the last look went well."""
        return {"code": self.error_code, "message": self.error, "next_step": self.next_step} if self.failures else None


from cloudnodes.automatic_models import Favourite, NodeActivity, NodeRule, WorkflowRun  # noqa: E402, F401
