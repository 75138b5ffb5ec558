"""What the cluster API reads."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from clusters.enums import Environment
from clusters.providers.groups import GroupKind
from clusters.selectors.registry import HIGH_COST, PILLS, SORTS

MOST_COMPARED = 6
MOST_AT_ONCE = 200
ORDERS = tuple(sign + name for name in SORTS for sign in ("", "-"))


class ClusterQuerySerializer(serializers.Serializer):
    search = serializers.CharField(max_length=120, required=False, allow_blank=True)
    pill = serializers.ChoiceField(choices=(*PILLS, HIGH_COST), required=False, allow_blank=True)
    ordering = serializers.ChoiceField(choices=ORDERS, required=False)


class ClusterChangeSerializer(serializers.Serializer):
    """Fields to change; the others stay."""

    name = serializers.CharField(max_length=120, required=False)
    environment = serializers.ChoiceField(choices=Environment.choices, required=False, allow_blank=True)
    region = serializers.CharField(max_length=60, required=False, allow_blank=True)
    team = serializers.CharField(max_length=80, required=False, allow_blank=True)
    owner = serializers.CharField(max_length=120, required=False, allow_blank=True)
    tags = serializers.DictField(child=serializers.CharField(max_length=256), required=False)


class ClusterPatchSerializer(ClusterChangeSerializer):
    """The same with the budget, in dollars a month; null takes it away."""

    monthly_budget = serializers.DecimalField(max_digits=12, decimal_places=2, required=False, allow_null=True)


class ClusterWriteSerializer(ClusterChangeSerializer):
    """A new cluster. With a kubeconfig it is read through its API server, without one an agent reports it."""

    name = serializers.CharField(max_length=120)
    account_id = serializers.UUIDField(required=False)
    external_id = serializers.CharField(max_length=300, required=False, allow_blank=True)
    kubeconfig_text = serializers.CharField(max_length=300_000, required=False, write_only=True, trim_whitespace=False)


class GroupChangeSerializer(serializers.Serializer):
    """Of an ASG or a managed group `low` and `high` are set. Of a NodePool (`karpenter`) what is named changes: `limits`
    (Kubernetes quantities by cpu, memory, nodes; "" for none), `replicas` of a static pool. `spot` may be left out."""

    kind = serializers.ChoiceField(choices=[kind.value for kind in GroupKind])
    name = serializers.CharField(max_length=200)
    low = serializers.IntegerField(min_value=0, required=False)
    high = serializers.IntegerField(min_value=0, required=False)
    limits = serializers.DictField(
        child=serializers.CharField(max_length=40, allow_blank=True), required=False, allow_empty=False
    )
    replicas = serializers.IntegerField(min_value=0, required=False)
    spot = serializers.BooleanField(required=False, allow_null=True, default=None)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        pool = attrs["kind"] == GroupKind.KARPENTER.value
        wanted, foreign = ((), ("low", "high")) if pool else (("low", "high"), ("limits", "replicas"))
        wrong = {name: ["This field is required."] for name in wanted if name not in attrs}
        wrong |= {name: [f"A group of the kind {attrs['kind']} has none."] for name in foreign if name in attrs}
        if wrong:
            raise serializers.ValidationError(wrong)
        return attrs


class MaintenanceSerializer(serializers.Serializer):
    on = serializers.BooleanField()
    reason = serializers.CharField(max_length=300, required=False, allow_blank=True)


class CompareSerializer(serializers.Serializer):
    ids = serializers.ListField(child=serializers.UUIDField(), min_length=2, max_length=MOST_COMPARED)


class BulkSerializer(serializers.Serializer):
    ids = serializers.ListField(child=serializers.UUIDField(), min_length=1, max_length=MOST_AT_ONCE)
    action = serializers.ChoiceField(choices=("sync", "maintenance_on", "maintenance_off"))
    reason = serializers.CharField(max_length=300, required=False, allow_blank=True)


class HistoryQuerySerializer(serializers.Serializer):
    span = serializers.ChoiceField(choices=("5m", "1h", "1d"), required=False)
    hours = serializers.IntegerField(min_value=1, max_value=24 * 400, required=False)
