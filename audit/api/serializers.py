"""Shapes of the audit API."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from audit import verbs
from audit.enums import ExportFormat, Outcome
from audit.models import AuditEntry
from audit.selectors import WHO, as_mapping, seal_of


class AuditEntrySerializer(serializers.Serializer):
    """One line of the log, as it is hashed, with its hash and its sentence."""

    id = serializers.UUIDField()
    organization = serializers.UUIDField()
    seq = serializers.IntegerField()
    at = serializers.DateTimeField()
    actor_kind = serializers.CharField()
    actor_id = serializers.CharField()
    actor_label = serializers.CharField()
    verb = serializers.CharField()
    sentence = serializers.CharField()
    target_kind = serializers.CharField(allow_blank=True)
    target_id = serializers.CharField(allow_blank=True)
    target_label = serializers.CharField(allow_blank=True)
    outcome = serializers.ChoiceField(choices=Outcome.choices)
    changes = serializers.JSONField(help_text="{field: [before, after]}; secrets are masked")
    detail = serializers.CharField(allow_blank=True)
    ip = serializers.CharField(allow_blank=True)
    user_agent = serializers.CharField(allow_blank=True)
    request_id = serializers.CharField(allow_blank=True)
    operation_id = serializers.UUIDField(allow_null=True)
    digest = serializers.CharField(help_text="SHA-256 of the content")
    line = serializers.IntegerField(
        allow_null=True, help_text="place in the chain; null for the seconds until it is sealed"
    )
    prev_hash = serializers.CharField(allow_null=True)
    hash = serializers.CharField(allow_null=True)


def entry_shape(entry: AuditEntry) -> dict[str, Any]:
    """Plain JSON values of one line."""
    seal = seal_of(entry)
    place = (
        {"line": seal.line, "prev_hash": seal.prev_hash, "hash": seal.hash}
        if seal
        else {"line": None, "prev_hash": None, "hash": None}
    )
    return {
        **as_mapping(entry),
        **place,
        "digest": entry.digest,
        "sentence": verbs.sentence(entry.verb, entry.target_label or "it"),
    }


class AuditQuerySerializer(serializers.Serializer):
    """What the list may be asked for."""

    search = serializers.CharField(required=False)
    who = serializers.ChoiceField(required=False, choices=list(WHO))
    actor = serializers.CharField(required=False, help_text="id of the actor")
    verb = serializers.CharField(required=False)
    target_kind = serializers.CharField(required=False)
    target_id = serializers.CharField(required=False)
    outcome = serializers.ChoiceField(required=False, choices=Outcome.choices)
    operation = serializers.UUIDField(required=False)
    start = serializers.DateTimeField(required=False, help_text="not earlier than")
    end = serializers.DateTimeField(required=False, help_text="earlier than")
    page = serializers.IntegerField(required=False, min_value=1)
    page_size = serializers.IntegerField(required=False, min_value=1, max_value=200)


class AuditVerdictSerializer(serializers.Serializer):
    """What a check of the chain found."""

    ok = serializers.BooleanField()
    checked = serializers.IntegerField()
    broken_seq = serializers.IntegerField(allow_null=True)
    broken_id = serializers.UUIDField(allow_null=True)
    reason = serializers.CharField(allow_blank=True)


class AuditExportSerializer(serializers.Serializer):
    """Which lines to export, in which form."""

    format = serializers.ChoiceField(choices=ExportFormat.choices)
    period = serializers.ChoiceField(choices=["30d", "quarter", "all", "custom"], default="30d")
    start = serializers.DateTimeField(required=False, help_text="for custom: not earlier than")
    end = serializers.DateTimeField(required=False, help_text="for custom: earlier than")


class AuditExportStateSerializer(serializers.Serializer):
    """An export with its signed sidecar, once the last byte was sent."""

    id = serializers.UUIDField()
    format = serializers.CharField()
    first_line = serializers.IntegerField()
    last_line = serializers.IntegerField()
    sha256 = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    sidecar = serializers.JSONField(allow_null=True)


class AuditSettingsSerializer(serializers.Serializer):
    """How long the log is kept; `retention_days` null: for ever."""

    retention_days = serializers.IntegerField(allow_null=True, min_value=30, max_value=3650)
    legal_hold = serializers.BooleanField()
    hold_reason = serializers.CharField(required=False, allow_blank=True, max_length=300, default="")
