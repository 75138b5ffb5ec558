"""Machines, the rentals that they live on, what they told, their snapshots, the market, and how a fleet behaves."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.urls import reverse

from core.models import UuidModel
from core.tenancy import OrgOwned
from gpu_fleet.enums import Desired, Lane, Side, SnapshotState, StandbyState, State, StorageKind


def dollars() -> models.DecimalField:
    """USD an hour; null is unknown."""
    return models.DecimalField(max_digits=18, decimal_places=8, null=True)


class Machine(UuidModel, OrgOwned):
    """A machine as people know it. It outlives the rentals that it runs on: asleep it is a snapshot and this row.

    `wanted` is what the race looks for (see `services.machines.Wanted`). `sealed` holds the password of its repository.
    `restored` is False from the moment it is rented until its files are proven to be back: until then nothing is backed
    up from it. `phase` and `phase_seq` are the ledger's place, as for cloud nodes.
    """

    name = models.CharField(max_length=60)
    account = models.ForeignKey("accounts.CloudAccount", on_delete=models.CASCADE, related_name="+")
    provider = models.CharField(max_length=10)
    wanted = models.JSONField(default=dict)
    rental = models.ForeignKey("gpu_fleet.Rental", on_delete=models.SET_NULL, null=True, related_name="+")
    generation = models.PositiveIntegerField(default=0)
    sealed = models.TextField(blank=True)
    restored = models.BooleanField(default=True)

    desired_state = models.CharField(max_length=10, choices=Desired.choices, default=Desired.AWAKE)
    observed_state = models.CharField(max_length=12, choices=State.choices, default=State.ASLEEP)
    state_since = models.DateTimeField(null=True)
    awake_since = models.DateTimeField(null=True)
    provider_state = models.CharField(max_length=12, blank=True)
    observed_at = models.DateTimeField(null=True)
    missing_since = models.DateTimeField(null=True)

    heard_at = models.DateTimeField(null=True)
    told = models.JSONField(default=dict)
    agent_version = models.CharField(max_length=20, blank=True)
    verdict = models.CharField(max_length=10, blank=True)
    verdict_why = models.CharField(max_length=300, blank=True)
    idle_since = models.DateTimeField(null=True)
    sleep_at = models.DateTimeField(null=True)
    warned_for = models.DateTimeField(null=True)
    keep_awake_until = models.DateTimeField(null=True)
    auto_sleep = models.BooleanField(default=True)
    idle_minutes = models.FloatField(null=True)
    is_spare = models.BooleanField(default=False)
    dozed = models.ForeignKey("gpu_fleet.Snapshot", on_delete=models.SET_NULL, null=True, related_name="+")
    destroy_at = models.DateTimeField(null=True)
    clearing_until = models.DateTimeField(null=True)

    hourly_cost = dollars()
    hourly_cost_source = models.CharField(max_length=200, blank=True)
    phase = models.CharField(max_length=10, blank=True)
    phase_at = models.DateTimeField(null=True)
    phase_seq = models.PositiveIntegerField(default=0)
    cause = models.CharField(max_length=20, blank=True)
    cause_label = models.CharField(max_length=300, blank=True)
    error_code = models.CharField(max_length=60, blank=True)
    error = models.CharField(max_length=1000, blank=True)
    next_step = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField()
    gone_at = models.DateTimeField(null=True)

    class Meta(OrgOwned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "name"], condition=models.Q(gone_at=None), name="gpu_machine_name_once"
            )
        ]
        indexes = [
            models.Index(fields=["organization"], condition=models.Q(gone_at=None), name="gpu_machine_alive"),
            models.Index(fields=["account"], condition=models.Q(gone_at=None), name="gpu_machine_of_account"),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("gpu_fleet:machine", args=[self.id])

    @property
    def seal_name(self) -> str:
        """What its secrets are bound to."""
        return f"gpu_machine:{self.id}"

    def standby_serves(self) -> bool:
        """Whether its standby serves in its place."""
        return Standby.objects.for_org(self.organization_id).filter(machine_id=self.id, holder=Side.CPU).exists()


class Rental(UuidModel, OrgOwned):
    """One rental, written down before it is asked for: the proof that a thing at a provider is ours to destroy.

    `label` is what the provider knows the batch by, `host_id` which of the batch it is. `moved_at` is its last visible
    progress, `host_keys` the SSH keys that its agent told over its authenticated connection.
    """

    machine = models.ForeignKey(Machine, on_delete=models.CASCADE, related_name="rentals")
    account = models.ForeignKey("accounts.CloudAccount", on_delete=models.CASCADE, related_name="+")
    operation_id = models.UUIDField()
    generation = models.PositiveIntegerField()
    round = models.PositiveSmallIntegerField(default=1)
    label = models.CharField(max_length=100)
    provider = models.CharField(max_length=10)
    provider_id = models.CharField(max_length=120, blank=True)
    offer_id = models.CharField(max_length=120)
    host_id = models.CharField(max_length=120)
    gpu_name = models.CharField(max_length=80, blank=True)
    gpu_count = models.PositiveSmallIntegerField(default=0)
    vram_mb = models.PositiveIntegerField(default=0)
    location = models.CharField(max_length=120, blank=True)
    interruptible = models.BooleanField(default=False)
    hourly = dollars()
    stopped_hourly = dollars()

    lane = models.CharField(max_length=10, choices=Lane.choices, default=Lane.INTENDED)
    outcome = models.CharField(max_length=200, blank=True)
    failed = models.BooleanField(default=False)
    unsure = models.BooleanField(default=False)
    progress = models.CharField(max_length=120, blank=True)
    ssh_host = models.CharField(max_length=120, blank=True)
    ssh_port = models.PositiveIntegerField(default=0)
    host_keys = models.JSONField(default=list)
    intended_at = models.DateTimeField()
    moved_at = models.DateTimeField()
    created_at = models.DateTimeField(null=True)
    running_at = models.DateTimeField(null=True)
    heard_at = models.DateTimeField(null=True)
    login_at = models.DateTimeField(null=True)
    ready_at = models.DateTimeField(null=True)
    closing_at = models.DateTimeField(null=True)
    asked_at = models.DateTimeField(null=True)
    gone_at = models.DateTimeField(null=True)

    class Meta(OrgOwned.Meta):
        constraints = [
            models.UniqueConstraint(fields=["label", "host_id"], name="gpu_rental_host_once_a_batch"),
            models.UniqueConstraint(
                fields=["account", "provider_id"], condition=~models.Q(provider_id=""), name="gpu_rental_id_once"
            ),
        ]
        indexes = [
            models.Index(
                fields=["asked_at"], condition=~models.Q(lane__in=["gone", "never", "won"]), name="gpu_rental_open"
            ),
            models.Index(fields=["machine", "-intended_at"], name="gpu_rental_of_machine"),
        ]

    def __str__(self) -> str:
        return f"{self.gpu_name or 'machine'} at host {self.host_id}"


class Beat(OrgOwned):
    """One heartbeat, as far as judging idleness and drawing curves needs it. Kept for a week."""

    machine = models.ForeignKey(Machine, on_delete=models.CASCADE, related_name="+")
    generation = models.PositiveIntegerField(default=0)
    at = models.DateTimeField()
    seconds = models.FloatField()
    gpu = models.FloatField(null=True)
    cpu = models.FloatField(null=True)
    memory = models.FloatField(null=True)
    signals = models.JSONField(default=dict)

    class Meta(OrgOwned.Meta):
        indexes = [models.Index(fields=["machine", "-at"], name="gpu_beat_recent")]

    def __str__(self) -> str:
        return f"beat at {self.at}"


class Snapshot(UuidModel, OrgOwned):
    """One backup of a machine's files. Destroying a machine needs a VERIFIED one of its present generation.

    `digest` and `files` come from hashes made on the machine; `checks` says what was read back and compared.
    """

    machine = models.ForeignKey(Machine, on_delete=models.CASCADE, related_name="snapshots")
    generation = models.PositiveIntegerField()
    operation_id = models.UUIDField(null=True)
    parent = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, related_name="+")
    restic_id = models.CharField(max_length=64, blank=True)
    repository = models.CharField(max_length=300, blank=True)
    state = models.CharField(max_length=10, choices=SnapshotState.choices, default=SnapshotState.WRITING)
    paths = models.JSONField(default=list)
    digest = models.CharField(max_length=64, blank=True)
    files = models.PositiveBigIntegerField(null=True)
    size = models.PositiveBigIntegerField(null=True)
    added = models.PositiveBigIntegerField(null=True)
    checks = models.JSONField(default=dict)
    reason = models.CharField(max_length=100, blank=True)
    error = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField()
    written_at = models.DateTimeField(null=True)
    verified_at = models.DateTimeField(null=True)
    restored_at = models.DateTimeField(null=True)
    deleted_at = models.DateTimeField(null=True)

    class Meta(OrgOwned.Meta):
        indexes = [models.Index(fields=["machine", "-created_at"], name="gpu_snapshot_of_machine")]

    def __str__(self) -> str:
        return f"{self.machine_id} {self.restic_id or 'unwritten'}"


class Standby(UuidModel, OrgOwned):
    """A GPU machine and the CPU machine that stands by for it (`spare`, a machine of its own with its own intervals).

    `holder` is the side that may serve and `epoch` the fence: it grows with every change of sides, and the lease of an
    earlier one is never renewed. `lease_until` is the latest instant at which the holder may still serve. `pushed_*`
    is the newest whole snapshot of the holder's files, `agreed_snapshot` the last that was taken from the holder before,
    `pulled_*` what the other side has; what was pushed since the
    loss can be lost is `now - pushed_through`, which is the recovery point.
    """

    machine = models.OneToOneField(Machine, on_delete=models.CASCADE, related_name="standby")
    spare = models.OneToOneField(Machine, on_delete=models.SET_NULL, null=True, related_name="stands_for")
    account = models.ForeignKey("accounts.CloudAccount", on_delete=models.CASCADE, related_name="+")
    enabled = models.BooleanField(default=True)
    auto_failover = models.BooleanField(default=True)
    auto_return = models.BooleanField(default=True)
    interval_seconds = models.FloatField(default=10)
    grace_seconds = models.PositiveIntegerField(default=120)
    state = models.CharField(max_length=10, choices=StandbyState.choices, default=StandbyState.OFF)
    error = models.CharField(max_length=500, blank=True)

    epoch = models.PositiveIntegerField(default=0)
    holder = models.CharField(max_length=3, choices=Side.choices, default=Side.NOBODY, blank=True)
    holder_rental = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)
    renewed_at = models.DateTimeField(null=True)
    releasing = models.BooleanField(default=False)
    serving = models.BooleanField(default=False)
    gpu_seen_at = models.DateTimeField(null=True)
    cpu_seen_at = models.DateTimeField(null=True)

    cycle = models.PositiveIntegerField(default=0)
    asked_at = models.DateTimeField(null=True)
    asked_epoch = models.PositiveIntegerField(default=0)
    final = models.BooleanField(default=False)
    pushed_snapshot = models.CharField(max_length=64, blank=True)
    pushed_through = models.DateTimeField(null=True)
    pushed_epoch = models.PositiveIntegerField(default=0)
    agreed_snapshot = models.CharField(max_length=64, blank=True)
    push_seconds = models.FloatField(null=True)
    push_error = models.CharField(max_length=300, blank=True)
    pull_try = models.PositiveIntegerField(default=0)
    pulled_snapshot = models.CharField(max_length=64, blank=True)
    pulled_through = models.DateTimeField(null=True)
    pulled_rental = models.UUIDField(null=True)
    pull_error = models.CharField(max_length=300, blank=True)
    conflicts = models.PositiveIntegerField(default=0)

    probed_at = models.DateTimeField(null=True)
    last_seen = models.DateTimeField(null=True)
    lost_at = models.DateTimeField(null=True)
    lost_why = models.CharField(max_length=200, blank=True)
    switched_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()

    class Meta(OrgOwned.Meta):
        indexes = [models.Index(fields=["organization"], name="gpu_standby_of_org")]

    def __str__(self) -> str:
        return f"standby of {self.machine_id}"


class OfferSample(OrgOwned):
    """What one look at an account's market showed for one GPU type. Prices are USD per GPU and hour."""

    account = models.ForeignKey("accounts.CloudAccount", on_delete=models.CASCADE, related_name="+")
    at = models.DateTimeField()
    gpu_name = models.CharField(max_length=80)
    interruptible = models.BooleanField(default=False)
    offers = models.PositiveIntegerField()
    gpus = models.PositiveIntegerField()
    vram_mb = models.PositiveIntegerField(default=0)
    low = models.DecimalField(max_digits=12, decimal_places=6)
    median = models.DecimalField(max_digits=12, decimal_places=6)
    high = models.DecimalField(max_digits=12, decimal_places=6)
    reliability = models.FloatField(null=True)

    class Meta(OrgOwned.Meta):
        indexes = [models.Index(fields=["organization", "gpu_name", "-at"], name="gpu_offer_sample")]

    def __str__(self) -> str:
        return f"{self.gpu_name} {self.median}/h at {self.at}"


class MarketHost(OrgOwned):
    """A host that the market showed: how reliable it says it is, and in how many of our looks it was offered."""

    account = models.ForeignKey("accounts.CloudAccount", on_delete=models.CASCADE, related_name="+")
    host_id = models.CharField(max_length=120)
    gpu_name = models.CharField(max_length=80)
    gpu_count = models.PositiveSmallIntegerField(default=0)
    location = models.CharField(max_length=120, blank=True)
    reliability = models.FloatField(null=True)
    hourly = dollars()
    first_seen = models.DateTimeField()
    last_seen = models.DateTimeField()
    seen = models.PositiveIntegerField(default=0)
    looks = models.PositiveIntegerField(default=0)

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["account", "host_id", "gpu_name"], name="gpu_market_host_once")]

    def __str__(self) -> str:
        return f"{self.host_id} {self.gpu_name}"


class FleetSettings(OrgOwned):
    """How the fleet of an organization behaves; one row each, made on first use."""

    organization = models.OneToOneField("accounts.Organization", on_delete=models.CASCADE, related_name="+")
    auto_sleep = models.BooleanField(default=True)
    idle_minutes = models.FloatField(default=3.0)
    warn_seconds = models.PositiveIntegerField(default=60)
    destroy_after_minutes = models.FloatField(default=0)
    strategy = models.CharField(max_length=10, default="race")
    storage = models.CharField(max_length=6, choices=StorageKind.choices, default=StorageKind.LOCAL)
    bucket = models.CharField(max_length=200, blank=True)
    endpoint = models.CharField(max_length=300, blank=True)
    region = models.CharField(max_length=40, blank=True)
    role_arn = models.CharField(max_length=200, blank=True)
    sealed = models.TextField(blank=True)
    rclone_folder = models.CharField(max_length=300, blank=True)
    rclone_type = models.CharField(max_length=40, blank=True)
    rclone_sealed = models.TextField(blank=True)
    keep_last = models.PositiveIntegerField(default=5)
    dead_man_hours = models.FloatField(default=0)
    local_hourly = dollars()
    standby_interval = models.FloatField(default=10)
    standby_failover = models.BooleanField(default=True)
    standby_return = models.BooleanField(default=True)
    standby_grace = models.PositiveIntegerField(default=120)
    ssh_public = models.CharField(max_length=1000, blank=True)
    ssh_sealed = models.TextField(blank=True)
    login_keys = models.TextField(blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"fleet settings of {self.organization_id}"

    @property
    def seal_name(self) -> str:
        """What its secrets are bound to."""
        return f"gpu_settings:{self.organization_id}"

    def shown(self) -> dict[str, Any]:
        """What may be shown and audited: no secret."""
        return {
            "auto_sleep": self.auto_sleep,
            "idle_minutes": self.idle_minutes,
            "warn_seconds": self.warn_seconds,
            "destroy_after_minutes": self.destroy_after_minutes,
            "strategy": self.strategy,
            "storage": self.storage,
            "bucket": self.bucket,
            "endpoint": self.endpoint,
            "region": self.region,
            "role_arn": self.role_arn,
            "rclone_folder": self.rclone_folder,
            "rclone_type": self.rclone_type,
            "keep_last": self.keep_last,
            "dead_man_hours": self.dead_man_hours,
            "local_hourly": None if self.local_hourly is None else f"{self.local_hourly.normalize():f}",
            "standby_interval": self.standby_interval,
            "standby_failover": self.standby_failover,
            "standby_return": self.standby_return,
            "standby_grace": self.standby_grace,
            "login_keys": self.login_keys,
        }
