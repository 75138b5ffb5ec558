"""The shapes of operations for the schema; `shapes.operation_shape` produces them."""

from __future__ import annotations

from rest_framework import serializers

from operations.enums import Status
from operations.selectors import SORTS, STATUS_GROUPS


class OperationErrorSerializer(serializers.Serializer):
    code = serializers.CharField()
    message = serializers.CharField()
    next_step = serializers.CharField(allow_blank=True)


class OperationResourceSerializer(serializers.Serializer):
    kind = serializers.CharField()
    id = serializers.UUIDField()
    label = serializers.CharField()  # type: ignore[assignment]


class OperationRequesterSerializer(serializers.Serializer):
    kind = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]


class OperationSerializer(serializers.Serializer):
    """One piece of slow work."""

    id = serializers.UUIDField()
    kind = serializers.CharField()
    status = serializers.ChoiceField(choices=Status.choices)
    progress = serializers.IntegerField(min_value=0, max_value=100)
    step = serializers.CharField(allow_blank=True)
    steps_done = serializers.IntegerField()
    steps_total = serializers.IntegerField()
    attempt = serializers.IntegerField(help_text="Failed tries so far.")
    max_attempts = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    not_before = serializers.DateTimeField()
    expected_seconds = serializers.FloatField(allow_null=True, help_text="Learned median; null when nothing is known.")
    seconds_left = serializers.IntegerField(allow_null=True)
    cancel_requested = serializers.BooleanField()
    can_cancel = serializers.BooleanField()
    can_retry = serializers.BooleanField()
    resource = OperationResourceSerializer()
    requested_by = OperationRequesterSerializer()
    reason = serializers.CharField(allow_blank=True)
    error = OperationErrorSerializer(allow_null=True)
    result = serializers.JSONField()
    retry_of = serializers.UUIDField(allow_null=True)


class AcceptedSerializer(serializers.Serializer):
    """Body of every 202."""

    operation = OperationSerializer()


class OperationQuerySerializer(serializers.Serializer):
    """What the list may be asked for."""

    status = serializers.CharField(required=False, help_text="queued, running, active, succeeded, failed or cancelled")
    kind = serializers.CharField(required=False)
    search = serializers.CharField(required=False)
    ordering = serializers.CharField(
        required=False, help_text="created, ended, kind, status, resource or by; a minus reverses"
    )
    resource = serializers.UUIDField(required=False, help_text="Only operations on this resource.")
    page = serializers.IntegerField(required=False, min_value=1)
    page_size = serializers.IntegerField(required=False, min_value=1, max_value=200)

    def validate_status(self, value: str) -> str:
        if value and value not in STATUS_GROUPS:
            raise serializers.ValidationError(f"One of {', '.join(STATUS_GROUPS)}.")
        return value

    def validate_ordering(self, value: str) -> str:
        if value.removeprefix("-") not in SORTS:
            raise serializers.ValidationError(f"One of {', '.join(SORTS)}, with a minus for descending.")
        return value
