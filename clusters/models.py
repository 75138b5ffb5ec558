"""Clusters, what their last report said, their nodes, their history and their alerts."""

from __future__ import annotations

from decimal import Decimal

from django.db import models
from django.urls import reverse

from clusters.enums import HOURS_PER_MONTH, Distribution, Environment, Method, Severity, Span, State
from core.models import UuidModel
from core.tenancy import OrgOwned


def money_field() -> models.DecimalField:
    """Dollars an hour; None when nobody knows."""
    return models.DecimalField(max_digits=18, decimal_places=8, null=True)


class Cluster(UuidModel, OrgOwned):
    """One Kubernetes cluster, with everything that the registry lists, so that a page of it is one query.

    `heard_at` is the last sign of life of the reporting agent (or the last successful poll). The fields of the report
    (`session` to `report_heard_at`) are those of `clusters.inventory.ingest.Held`. `dirty` says that a report is newer
    than the figures. `credentials` is sealed text for clusters that are polled without an agent.
    `agent_can` is what the agent says of orders and of the placement webhook; `rules_version` what it should keep;
    `orders_wanted_at` is set while somebody waits for it to carry out orders.
    """

    name = models.CharField(max_length=120)
    account = models.ForeignKey("accounts.CloudAccount", on_delete=models.SET_NULL, null=True, related_name="+")
    external_id = models.CharField(max_length=300, blank=True)
    uid = models.CharField(max_length=80, blank=True)
    method = models.CharField(max_length=12, choices=Method.choices, default=Method.AGENT)
    distribution = models.CharField(
        max_length=10, choices=Distribution.choices, default=Distribution.UNKNOWN, blank=True
    )
    cloud = models.CharField(max_length=10, blank=True)
    region = models.CharField(max_length=60, blank=True)
    zones = models.JSONField(default=list)
    environment = models.CharField(max_length=10, choices=Environment.choices, default=Environment.UNKNOWN, blank=True)
    version = models.CharField(max_length=60, blank=True)
    team = models.CharField(max_length=80, blank=True)
    owner = models.CharField(max_length=120, blank=True)
    tags = models.JSONField(default=dict)
    tag_text = models.CharField(max_length=1000, blank=True)
    created_at = models.DateTimeField()

    state = models.CharField(max_length=12, choices=State.choices, default=State.CONNECTING)
    state_since = models.DateTimeField(null=True)
    cause = models.CharField(max_length=500, blank=True)
    monthly_budget = models.DecimalField(max_digits=12, decimal_places=2, null=True)
    maintenance_since = models.DateTimeField(null=True)
    maintenance_reason = models.CharField(max_length=300, blank=True)
    heard_at = models.DateTimeField(null=True)
    api_ms = models.PositiveIntegerField(null=True)
    agent_version = models.CharField(max_length=40, blank=True)
    enrolment_id = models.UUIDField(null=True)
    credentials = models.TextField(blank=True)
    server = models.CharField(max_length=300, blank=True)
    sync_wanted_at = models.DateTimeField(null=True)
    agent_can = models.JSONField(default=dict)
    rules_version = models.PositiveIntegerField(default=0)
    orders_wanted_at = models.DateTimeField(null=True)
    polled_at = models.DateTimeField(null=True)
    poll_failures = models.PositiveIntegerField(default=0)

    session = models.CharField(max_length=200, blank=True)
    sequence = models.BigIntegerField(default=0)
    digest = models.CharField(max_length=64, blank=True)
    digest_total = models.CharField(max_length=40, default="0")
    last_sample = models.BigIntegerField(default=0)
    former_sessions = models.JSONField(default=list)
    report_heard_at = models.DateTimeField(null=True)
    reported_at = models.DateTimeField(null=True)
    sources = models.JSONField(default=dict)
    dirty = models.BooleanField(default=False)
    figured_at = models.DateTimeField(null=True)

    node_count = models.PositiveIntegerField(default=0)
    pod_count = models.PositiveIntegerField(default=0)
    namespace_count = models.PositiveIntegerField(default=0)
    cpu_milli = models.BigIntegerField(default=0)
    memory_bytes = models.BigIntegerField(default=0)
    gpus = models.PositiveIntegerField(default=0)
    requested_cpu_milli = models.BigIntegerField(default=0)
    requested_memory_bytes = models.BigIntegerField(default=0)
    used_cpu_milli = models.BigIntegerField(null=True)
    used_memory_bytes = models.BigIntegerField(null=True)
    hourly_cost = money_field()
    unpriced_nodes = models.PositiveIntegerField(default=0)
    price_source = models.CharField(max_length=200, blank=True)
    price_seq = models.PositiveIntegerField(default=0)
    cost_change = models.FloatField(null=True)
    saved_percent = models.FloatField(null=True)
    grade = models.CharField(max_length=1, blank=True)
    efficiency = models.FloatField(null=True)
    health = models.PositiveSmallIntegerField(null=True)
    violations = models.PositiveIntegerField(null=True)
    spark = models.JSONField(default=list)

    class Meta(OrgOwned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "external_id"],
                condition=~models.Q(external_id=""),
                name="cluster_external_once",
            ),
            models.UniqueConstraint(
                fields=["organization", "uid"], condition=~models.Q(uid=""), name="cluster_uid_once"
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "name"], name="cluster_by_name"),
            models.Index(fields=["organization", "state"], name="cluster_by_state"),
            models.Index(fields=["organization", "-hourly_cost"], name="cluster_by_cost"),
            models.Index(fields=["state", "heard_at"], name="cluster_by_silence"),
            models.Index(fields=["dirty"], condition=models.Q(dirty=True), name="cluster_dirty"),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("clusters:detail", args=[self.id])

    @property
    def seal_name(self) -> str:
        """What the credentials are bound to."""
        return f"cluster:{self.id}"

    @property
    def monthly_cost(self) -> Decimal | None:
        """The run rate of 730 hours at the present price."""
        return None if self.hourly_cost is None else self.hourly_cost * HOURS_PER_MONTH

    @property
    def shown_state(self) -> str:
        """The state that people see: maintenance covers whatever else is the case, except sleep."""
        if self.maintenance_since is not None and self.state != State.ASLEEP:
            return "maintenance"
        return self.state


class FoundCluster(UuidModel, OrgOwned):
    """A cluster that a cloud account has, whether it is connected or not; `external_id` is its ARN."""

    account = models.ForeignKey("accounts.CloudAccount", on_delete=models.CASCADE, related_name="+")
    external_id = models.CharField(max_length=300)
    name = models.CharField(max_length=120)
    region = models.CharField(max_length=60)
    version = models.CharField(max_length=60, blank=True)
    status = models.CharField(max_length=30, blank=True)
    tags = models.JSONField(default=dict)
    seen_at = models.DateTimeField()

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["organization", "external_id"], name="cluster_found_once")]

    def __str__(self) -> str:
        return self.name


class Records(OrgOwned):
    """One collection of a cluster's last report (`nodes`, `pods`, ...), or its last usage: packed JSON."""

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="+")
    collection = models.CharField(max_length=40)
    count = models.PositiveIntegerField(default=0)
    packed = models.BinaryField()

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["cluster", "collection"], name="cluster_records_once")]

    def __str__(self) -> str:
        return f"{self.count} {self.collection} of {self.cluster_id}"


class ClusterNode(UuidModel, OrgOwned):
    """A node, from when it was first reported until it was gone, with the price at that time."""

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=253)
    uid = models.CharField(max_length=80, blank=True)
    provider_id = models.CharField(max_length=300, blank=True)
    instance_type = models.CharField(max_length=60, blank=True)
    region = models.CharField(max_length=60, blank=True)
    zone = models.CharField(max_length=60, blank=True)
    lifecycle = models.CharField(max_length=12, default="unknown")
    group_kind = models.CharField(max_length=20, blank=True)
    group = models.CharField(max_length=200, blank=True)
    ready = models.BooleanField(default=False)
    unschedulable = models.BooleanField(default=False)
    cpu_milli = models.BigIntegerField(default=0)
    memory_bytes = models.BigIntegerField(default=0)
    gpus = models.PositiveIntegerField(default=0)
    pod_limit = models.PositiveIntegerField(default=0)
    pods = models.PositiveIntegerField(default=0)
    requested_cpu_milli = models.BigIntegerField(default=0)
    requested_memory_bytes = models.BigIntegerField(default=0)
    used_cpu_milli = models.BigIntegerField(null=True)
    used_memory_bytes = models.BigIntegerField(null=True)
    hourly_price = money_field()
    price_source = models.CharField(max_length=200, blank=True)
    price_date = models.DateField(null=True)
    created_at = models.DateTimeField(null=True)
    first_seen_at = models.DateTimeField()
    gone_at = models.DateTimeField(null=True)
    interrupted_at = models.DateTimeField(null=True)

    class Meta(OrgOwned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["cluster", "name"], condition=models.Q(gone_at=None), name="cluster_node_alive_once"
            )
        ]
        indexes = [models.Index(fields=["cluster", "gone_at"], name="cluster_node_by_end")]

    def __str__(self) -> str:
        return self.name


class SpotBand(models.Model):
    """The Spot Instance Advisor's band of a type in an AWS region, 0 to 4. Public facts, not tenant data."""

    region = models.CharField(max_length=60)
    instance_type = models.CharField(max_length=60)
    band = models.PositiveSmallIntegerField()
    source = models.CharField(max_length=200)
    as_of = models.DateField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["region", "instance_type"], name="cluster_spot_band_once")]

    def __str__(self) -> str:
        return f"{self.instance_type} in {self.region}: band {self.band}"


class Summary(OrgOwned):
    """Figures of a cluster that only its own page shows: groups, namespaces and workloads, as lists of plain rows.

    `groups` is what the last report says, `cloud_groups` what the cloud account says (see `services.grouping`).
    The columns from `stability` to `packing_nodes_after` repeat what the dashboard adds up; savings are dollars a month.
    """

    cluster = models.OneToOneField(Cluster, on_delete=models.CASCADE, related_name="+")
    at = models.DateTimeField()
    groups = models.JSONField(default=list)
    cloud_groups = models.JSONField(default=list)
    groups_at = models.DateTimeField(null=True)
    groups_problem = models.CharField(max_length=300, blank=True)
    namespaces = models.JSONField(default=list)
    workloads = models.JSONField(default=list)
    costs = models.JSONField(default=dict)
    insights = models.JSONField(default=dict)
    stability = models.FloatField(null=True)
    spot_pods = models.PositiveIntegerField(default=0)
    spot_ready_pods = models.PositiveIntegerField(default=0)
    spot_savings = money_field()
    packing = models.JSONField(null=True)
    packing_savings = money_field()
    packing_nodes = models.PositiveIntegerField(default=0)
    packing_nodes_after = models.PositiveIntegerField(default=0)
    packed_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"figures of {self.cluster_id}"


class Sample(OrgOwned):
    """What a cluster was like during five minutes, an hour or a day: means over `n` looks; events are counted."""

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="+")
    span = models.CharField(max_length=2, choices=Span.choices)
    at = models.DateTimeField()
    n = models.PositiveIntegerField(default=1)
    nodes = models.FloatField(default=0)
    spot_nodes = models.FloatField(default=0)
    pods = models.FloatField(default=0)
    cpu_milli = models.FloatField(default=0)
    memory_bytes = models.FloatField(default=0)
    requested_cpu_milli = models.FloatField(default=0)
    requested_memory_bytes = models.FloatField(default=0)
    used_cpu_milli = models.FloatField(null=True)
    used_memory_bytes = models.FloatField(null=True)
    hourly_cost = money_field()
    api_ms = models.FloatField(null=True)
    changes = models.FloatField(null=True)
    pressure = models.PositiveIntegerField(default=0)
    restarts = models.PositiveIntegerField(default=0)
    kills = models.PositiveIntegerField(default=0)
    interruptions = models.PositiveIntegerField(default=0)

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["cluster", "span", "at"], name="cluster_sample_once")]
        indexes = [models.Index(fields=["span", "at"], name="cluster_sample_by_age")]

    def __str__(self) -> str:
        return f"{self.span} at {self.at}"


class UsageHistograms(OrgOwned):
    """Decaying histograms of every container's use (see `clusters.histograms`), packed, one row a cluster."""

    cluster = models.OneToOneField(Cluster, on_delete=models.CASCADE, related_name="+")
    at = models.DateTimeField()
    containers = models.PositiveIntegerField(default=0)
    packed = models.BinaryField()

    def __str__(self) -> str:
        return f"histograms of {self.containers} containers"


class Alert(UuidModel, OrgOwned):
    """Something about a cluster that a person should know, from `since` until `ended_at`."""

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=40)
    subject = models.CharField(max_length=200, blank=True)
    severity = models.CharField(max_length=10, choices=Severity.choices, default=Severity.WARNING)
    title = models.CharField(max_length=200)
    detail = models.CharField(max_length=1000, blank=True)
    since = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta(OrgOwned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["cluster", "kind", "subject"], condition=models.Q(ended_at=None), name="cluster_alert_open_once"
            )
        ]
        indexes = [models.Index(fields=["organization", "ended_at"], name="cluster_alert_open")]

    def __str__(self) -> str:
        return self.title


from clusters.orders.models import AgentKey, AgentOrder, AgentRules  # noqa: E402, F401  Django looks here
from clusters.sleeping.models import SleepFight, SleepRules, SleepSnapshot  # noqa: E402, F401  Django looks here
