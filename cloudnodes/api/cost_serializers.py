"""Shapes of estimates, actual costs and today's spend."""

from __future__ import annotations

from rest_framework import serializers

from cloudnodes.api.serializers import CHOICES


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
    basis = serializers.ChoiceField(
        choices=("given_duration", "earlier_runs_alike", "earlier_runs", "earlier_intervals", "no_data")
    )
    range = serializers.DictField(
        child=serializers.DecimalField(max_digits=18, decimal_places=6, allow_null=True),
        help_text="low and high of the earlier uses; null when it was not learned from any",
    )
    runs = serializers.IntegerField(help_text="how many earlier uses it was learned from")
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
    run_id = serializers.UUIDField(allow_null=True)
    basis = serializers.ChoiceField(choices=("run", "intervals", "no_data"))
    usage = serializers.DictField(allow_null=True, help_text="what the node's own counters say, between two looks")
    intervals = ActualIntervalSerializer(many=True)


class NodeSpendSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    node_type = serializers.CharField()
    provider = serializers.CharField()
    gpu_tier = serializers.CharField()
    instance_name = serializers.CharField()
    spent = serializers.DecimalField(max_digits=18, decimal_places=6)


class ShareSerializer(serializers.Serializer):
    """One team's or person's part of today; "" is what belongs to nobody."""

    name = serializers.CharField(allow_blank=True)
    spent = serializers.DecimalField(max_digits=18, decimal_places=6)
    burn_rate = serializers.DecimalField(max_digits=18, decimal_places=6)
    daily_spend = serializers.DecimalField(max_digits=12, decimal_places=2, allow_null=True)


class ForecastSerializer(serializers.Serializer):
    """Potential, never Real: `at_usual_pace` is null while fewer than three whole days are known."""

    end = serializers.DateTimeField()
    spent = serializers.DecimalField(max_digits=18, decimal_places=6)
    if_nothing_changes = serializers.DecimalField(max_digits=18, decimal_places=6)
    at_usual_pace = serializers.DecimalField(max_digits=18, decimal_places=6, allow_null=True)
    basis = serializers.ChoiceField(choices=("median_of_days", "no_data"))
    days_known = serializers.IntegerField()


class StandingSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    scope = serializers.ChoiceField(choices=("organization", "team", "person"))
    subject = serializers.CharField(allow_blank=True)
    period = serializers.ChoiceField(choices=("day", "month"))
    amount = serializers.DecimalField(max_digits=12, decimal_places=2)
    spent = serializers.DecimalField(max_digits=18, decimal_places=6)
    percent = serializers.IntegerField()
    acting = serializers.BooleanField()
    refuses_starts = serializers.BooleanField()
    runs_out_at = serializers.DateTimeField(allow_null=True)


class SpendTodaySerializer(serializers.Serializer):
    """`spent` is everything of the organization today; `by_node` the part of each cloud node."""

    spent = serializers.DecimalField(max_digits=18, decimal_places=6)
    saved_real = serializers.DecimalField(max_digits=18, decimal_places=6)
    budget = serializers.DecimalField(max_digits=12, decimal_places=2, allow_null=True)
    currency = serializers.CharField()
    burn_rate = serializers.DecimalField(max_digits=18, decimal_places=6)
    unpriced = serializers.IntegerField(help_text="things awake now without a known price: in none of the figures")
    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    by_node = NodeSpendSerializer(many=True)
    by_team = ShareSerializer(many=True)
    by_person = ShareSerializer(many=True)
    end_of_day = ForecastSerializer()
    end_of_month = ForecastSerializer()
    budgets = StandingSerializer(many=True)
