"""The append-only, hash-chained record of every action."""

from __future__ import annotations

from django.db import models

from audit.enums import Outcome
from core.models import UuidModel
from core.tenancy import OrgOwned


class AuditEntry(UuidModel, OrgOwned):
    """One action. Written once; database triggers refuse UPDATE and DELETE."""

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
    prev_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["organization", "seq"], name="audit_entry_seq_once")]
        indexes = [
            models.Index(fields=["organization", "-at", "-seq"], name="audit_entry_recent"),
            models.Index(fields=["organization", "target_kind", "target_id"], name="audit_entry_target"),
            models.Index(fields=["request_id"], name="audit_entry_request"),
        ]

    def __str__(self) -> str:
        return f"{self.seq} {self.verb} {self.target_label}"


class AuditHead(models.Model):
    """The tail of one organization's chain; locked while an entry is appended, so that the chain cannot fork."""

    organization = models.OneToOneField(
        "accounts.Organization", on_delete=models.CASCADE, primary_key=True, related_name="+"
    )
    seq = models.PositiveBigIntegerField(default=0)
    hash = models.CharField(max_length=64, default="0" * 64)

    def __str__(self) -> str:
        return f"{self.organization_id} at {self.seq}"
