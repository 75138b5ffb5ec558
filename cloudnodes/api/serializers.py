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


class EstimateRequestSerializer(serializers.Serializer):
    node_type = serializers.CharField(max_length=120)
    provider = serializers.ChoiceField(choices=CHOICES)
    params = serializers.DictField(
        required=False,
        help_text="`seconds`, `minutes`, `hours` or `duration_seconds`: how long it will run; `gpu_tier`.",
    )


class ActualRequestSerializer(serializers.Serializer):
    workflow_id = serializers.CharField(max_length=200)
    node_type = serializers.CharField(max_length=120)
    provider = serializers.ChoiceField(choices=CHOICES)
    gpu_tier = serializers.CharField(max_length=40, required=False, allow_blank=True)
    started_at = serializers.DateTimeField(required=False, help_text="Without it: since the node was last woken.")
    ended_at = serializers.DateTimeField(required=False, help_text="Without it: until now.")

    def validate(self, attrs: dict[str, object]) -> dict[str, object]:
        start, end = attrs.get("started_at"), attrs.get("ended_at")
        if start and end and end <= start:  # type: ignore[operator]
            raise serializers.ValidationError({"ended_at": ["It must be later than started_at."]})
        return attrs


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


class BreakdownSerializer(serializers.Serializer):
    item = serializers.CharField()
    seconds = serializers.FloatField()
    hourly_rate = serializers.DecimalField(max_digits=18, decimal_places=6)
    cost = serializers.DecimalField(max_digits=18, decimal_places=6)


class EstimateSerializer(serializers.Serializer):
    cost = serializers.DecimalField(max_digits=18, decimal_places=6, allow_null=True)
    currency = serializers.CharField()
    hourly_rate = serializers.DecimalField(max_digits=18, decimal_places=6, allow_null=True)
    expected_seconds = serializers.FloatField(allow_null=True)
    basis = serializers.ChoiceField(choices=("given_duration", "earlier_intervals", "no_data"))
    breakdown = BreakdownSerializer(many=True)


class ActualIntervalSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    resource = serializers.CharField()
    started_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField()
    open = serializers.BooleanField()
    hourly_rate = serializers.DecimalField(max_digits=18, decimal_places=6, allow_null=True)
    cost = serializers.DecimalField(max_digits=18, decimal_places=6, allow_null=True)


class ActualSerializer(serializers.Serializer):
    workflow_id = serializers.CharField()
    cost = serializers.DecimalField(max_digits=18, decimal_places=6, allow_null=True)
    currency = serializers.CharField()
    gpu_seconds = serializers.FloatField()
    started_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)
    basis = serializers.ChoiceField(choices=("intervals", "no_data"))
    intervals = ActualIntervalSerializer(many=True)


class NodeSpendSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    node_type = serializers.CharField()
    provider = serializers.CharField()
    gpu_tier = serializers.CharField()
    instance_name = serializers.CharField()
    spent = serializers.DecimalField(max_digits=18, decimal_places=6)


class SpendTodaySerializer(serializers.Serializer):
    """`spent` is everything of the organization today; `by_node` the part of each cloud node."""

    spent = serializers.DecimalField(max_digits=18, decimal_places=6)
    budget = serializers.DecimalField(max_digits=12, decimal_places=2, allow_null=True)
    currency = serializers.CharField()
    burn_rate = serializers.DecimalField(max_digits=18, decimal_places=6)
    by_node = NodeSpendSerializer(many=True)
