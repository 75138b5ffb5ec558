"""The append-only, hash-chained record of every action."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from audit.enums import ExportFormat, Outcome, Shipping, SinkKind
from core.models import UuidModel
from core.tenancy import OrgOwned


class AuditEntry(UuidModel, OrgOwned):
    """One action. Written once, in the transaction of what it records; database triggers refuse UPDATE and DELETE.

    `seq` orders entries of the same millisecond: microseconds of the writer's clock, never twice in one process. The
    place in the chain is the `line` of the seal, which the sealer adds within seconds. `canonical` is the content as it
    is hashed and exported; `words` is what the text search looks through. The organization has no constraint in the
    database: concurrent writers would otherwise queue at its row.
    """

    organization = models.ForeignKey(
        "accounts.Organization", on_delete=models.CASCADE, related_name="+", db_constraint=False, db_index=False
    )
    seq = models.PositiveBigIntegerField()
    at = models.DateTimeField()
    actor_kind = models.CharField(max_length=16)
    actor_id = models.CharField(max_length=80)
    actor_label = models.CharField(max_length=200)
    verb = models.CharField(max_length=80)
    target_kind = models.CharField(max_length=40, blank=True)
    target_id = models.CharField(max_length=80, blank=True)
    target_label = models.CharField(max_length=300, blank=True)
    outcome = models.CharField(max_length=10, choices=Outcome.choices)
    changes = models.JSONField(default=dict)
    detail = models.CharField(max_length=2000, blank=True)
    ip = models.CharField(max_length=45, blank=True)
    user_agent = models.CharField(max_length=300, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    operation_id = models.UUIDField(null=True)
    digest = models.CharField(max_length=64)
    canonical = models.TextField(default="")
    words = models.TextField(default="")

    class Meta(OrgOwned.Meta):
        indexes = [
            models.Index(fields=["organization", "-at", "-seq"], name="audit_entry_recent"),
            models.Index(fields=["organization", "verb", "-at", "-seq"], name="audit_entry_verb"),
            models.Index(fields=["organization", "actor_id", "-at", "-seq"], name="audit_entry_actor"),
            models.Index(fields=["organization", "target_kind", "target_id"], name="audit_entry_target"),
            models.Index(fields=["request_id"], name="audit_entry_request"),
            models.Index(
                fields=["organization", "outcome", "-at", "-seq"],
                name="audit_entry_trouble",
                condition=models.Q(outcome__in=["failed", "denied"]),
            ),
            models.Index(
                fields=["operation_id"], name="audit_entry_operation", condition=models.Q(operation_id__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.verb} {self.target_label}"


class AuditPending(OrgOwned):
    """An entry that waits for its seal. A database trigger adds the row with the entry; the sealer takes it away.

    It keeps the digest, so that an entry altered or removed before it is sealed shows as such afterwards.
    """

    organization = models.ForeignKey(
        "accounts.Organization", on_delete=models.CASCADE, related_name="+", db_constraint=False, db_index=False
    )
    id = models.BigAutoField(primary_key=True)
    entry_id = models.UUIDField()
    digest = models.CharField(max_length=64)
    since = models.DateTimeField()

    class Meta(OrgOwned.Meta):
        indexes = [models.Index(fields=["organization", "id"], name="audit_pending_order")]

    def __str__(self) -> str:
        return f"{self.entry_id} since {self.since:%H:%M:%S}"


class AuditSeal(OrgOwned):
    """The place of an entry in the chain of its organization. Written once; triggers refuse UPDATE and DELETE."""

    entry = models.OneToOneField(
        AuditEntry, on_delete=models.DO_NOTHING, db_constraint=False, primary_key=True, related_name="seal"
    )
    line = models.PositiveBigIntegerField()
    prev_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["organization", "line"], name="audit_seal_line_once")]

    def __str__(self) -> str:
        return f"line {self.line}"


class AuditHead(models.Model):
    """The tail of one organization's chain; the sealer that holds its lock is the only one that adds to the chain."""

    organization = models.OneToOneField(
        "accounts.Organization", on_delete=models.CASCADE, primary_key=True, related_name="+"
    )
    seq = models.PositiveBigIntegerField(default=0)
    hash = models.CharField(max_length=64, default="0" * 64)

    def __str__(self) -> str:
        return f"{self.organization_id} at {self.seq}"


class AuditCheckpoint(UuidModel, OrgOwned):
    """A signed statement "line `line` had the hash `hash` at `at`". Written once, copied to the anchors."""

    line = models.PositiveBigIntegerField()
    hash = models.CharField(max_length=64)
    at = models.DateTimeField()
    key_id = models.CharField(max_length=32)
    signature = models.CharField(max_length=128)

    class Meta(OrgOwned.Meta):
        indexes = [models.Index(fields=["organization", "-line"], name="audit_checkpoint_newest")]

    def __str__(self) -> str:
        return f"line {self.line} signed by {self.key_id}"


class AuditPurge(UuidModel, OrgOwned):
    """A signed statement that lines up to `line` were removed by retention; the chain goes on from `hash`."""

    line = models.PositiveBigIntegerField()
    hash = models.CharField(max_length=64)
    at = models.DateTimeField()
    key_id = models.CharField(max_length=32)
    signature = models.CharField(max_length=128)

    class Meta(OrgOwned.Meta):
        indexes = [models.Index(fields=["organization", "-line"], name="audit_purge_newest")]

    def __str__(self) -> str:
        return f"up to line {self.line}"


class AuditSettings(OrgOwned):
    """How long an organization keeps its log. `retention_days` None: for ever. A legal hold stops every purge."""

    retention_days = models.PositiveIntegerField(null=True)
    legal_hold = models.BooleanField(default=False)
    hold_reason = models.CharField(max_length=300, blank=True)

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["organization"], name="audit_settings_once")]

    def __str__(self) -> str:
        return f"{self.retention_days or 'for ever'}"


class AuditExport(UuidModel, OrgOwned):
    """An export of the log: which lines, by whom, and the signed sidecar once the last byte was sent."""

    made_by = models.CharField(max_length=200)
    format = models.CharField(max_length=8, choices=ExportFormat.choices)
    first_line = models.PositiveBigIntegerField()
    last_line = models.PositiveBigIntegerField()
    lines = models.PositiveBigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True)
    checkpoint = models.JSONField()
    sidecar = models.JSONField(null=True)
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta(OrgOwned.Meta):
        indexes = [models.Index(fields=["organization", "-created_at"], name="audit_export_recent")]

    def __str__(self) -> str:
        return f"lines {self.first_line} to {self.last_line}"


class SavedView(UuidModel, OrgOwned):
    """A person's named filter of the log; `query` is the query string."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=60)
    query = models.CharField(max_length=600)

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["organization", "user", "name"], name="audit_view_name_once")]

    def __str__(self) -> str:
        return self.name


class Sink(UuidModel, OrgOwned):
    """A place outside that gets every sealed line, in order, at least once. `line` is the last one it confirmed."""

    name = models.CharField(max_length=80)
    kind = models.CharField(max_length=10, choices=SinkKind.choices)
    shape = models.CharField(max_length=8, choices=Shipping.choices, default=Shipping.OCSF)
    options = models.JSONField(default=dict)
    secrets = models.TextField(blank=True)
    enabled = models.BooleanField(default=True)
    line = models.PositiveBigIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0)
    error = models.CharField(max_length=500, blank=True)
    not_before = models.DateTimeField()
    lease_until = models.DateTimeField(null=True)
    lease = models.PositiveBigIntegerField(default=0)
    delivered_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["organization", "name"], name="audit_sink_name_once")]

    def __str__(self) -> str:
        return self.name
