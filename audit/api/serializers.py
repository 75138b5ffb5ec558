"""Shapes of the audit API."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from audit import verbs
from audit.enums import Outcome
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
    line = serializers.IntegerField(allow_null=True, help_text="place in the chain; null for the seconds until it is sealed")
    prev_hash = serializers.CharField(allow_null=True)
    hash = serializers.CharField(allow_null=True)


def entry_shape(entry: AuditEntry) -> dict[str, Any]:
    """Plain JSON values of one line."""
    seal = seal_of(entry)
    place = {"line": seal.line, "prev_hash": seal.prev_hash, "hash": seal.hash} if seal else {"line": None, "prev_hash": None, "hash": None}
    return {**as_mapping(entry), **place, "digest": entry.digest, "sentence": verbs.sentence(entry.verb, entry.target_label or "it")}


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
