"""Shapes of the cloud-node API: what is read, and what the schema says is answered."""

from __future__ import annotations

from rest_framework import serializers

from cloudnodes.enums import PROVIDERS
from operations.api.serializers import OperationSerializer

CHOICES = tuple(PROVIDERS)


class SwitchSerializer(serializers.Serializer):
    """Which node: provider and instance name (or the provider's own id), or Curfew's id."""

    provider = serializers.ChoiceField(choices=CHOICES, required=False)
    instance_name = serializers.CharField(max_length=400, required=False)
    id = serializers.UUIDField(required=False)
    reason = serializers.CharField(max_length=300, required=False, allow_blank=True)

    def validate(self, attrs: dict[str, object]) -> dict[str, object]:
        if "id" in attrs:
            return attrs
        missing = [name for name in ("provider", "instance_name") if name not in attrs]
        if missing:
            raise serializers.ValidationError({name: ["This field is required."] for name in missing})
        return attrs


class ApplySerializer(serializers.Serializer):
    """Nodes by Curfew's id or by instance name."""

    on = serializers.ListField(child=serializers.CharField(max_length=400), required=False, max_length=500)
    off = serializers.ListField(child=serializers.CharField(max_length=400), required=False, max_length=500)
    reason = serializers.CharField(max_length=300, required=False, allow_blank=True)


class NodeErrorSerializer(serializers.Serializer):
    code = serializers.CharField()
    message = serializers.CharField()
    next_step = serializers.CharField(allow_blank=True)


class NodeOperationSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    kind = serializers.CharField()
    status = serializers.CharField()
    progress = serializers.IntegerField()
    step = serializers.CharField(allow_blank=True)
    expected_seconds = serializers.FloatField(allow_null=True)
    seconds_left = serializers.IntegerField(allow_null=True)


class NodeSerializer(serializers.Serializer):
    """One node. `also` lists further nodes of the same type, tier and provider, where there are some."""

    id = serializers.UUIDField()
    instance_name = serializers.CharField()
    provider_id = serializers.CharField()
    endpoint = serializers.CharField(allow_blank=True)
    status = serializers.ChoiceField(choices=("running", "stopped", "starting", "stopping", "error", "lost"))
    region = serializers.CharField(allow_blank=True)
    gpu_tier = serializers.CharField()
    instance_type = serializers.CharField(allow_blank=True)
    hourly_cost = serializers.DecimalField(
        max_digits=18, decimal_places=4, allow_null=True, help_text="Null when not known."
    )
    currency = serializers.CharField()
    started_at = serializers.DateTimeField(allow_null=True)
    ready_at = serializers.DateTimeField(allow_null=True)
    observed_at = serializers.DateTimeField(allow_null=True)
    operation = NodeOperationSerializer(allow_null=True)
    error = NodeErrorSerializer(allow_null=True)
    scaling = serializers.ChoiceField(choices=("manual", "to_zero"))
    still_billing = serializers.BooleanField()


class StatusSerializer(serializers.Serializer):
    """Node type -> GPU tier -> provider -> node."""

    cloud_nodes = serializers.DictField(
        child=serializers.DictField(child=serializers.DictField(child=NodeSerializer()))
    )


class SkippedSerializer(serializers.Serializer):
    node = serializers.CharField()
    code = serializers.CharField()
    message = serializers.CharField()


class AppliedSerializer(serializers.Serializer):
    operations = OperationSerializer(many=True)
    skipped = SkippedSerializer(many=True)
