"""Shapes of the costs API. Money is a decimal string in `currency`."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from rest_framework import serializers

from costs.enums import Phase
from costs.reporting import CAUSES, PERIODS, Report, Row

CURRENCY = "USD"
EIGHT = Decimal("0.00000001")


def amount(value: Decimal | None) -> str | None:
    """Eight decimals, as the ledger keeps them; None stays None."""
    return None if value is None else f"{value.quantize(EIGHT):f}"


def moment(value: datetime | None) -> str | None:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if value else None


class LedgerQuerySerializer(serializers.Serializer):
    """What the ledger may be asked for."""

    period = serializers.ChoiceField(required=False, choices=list(PERIODS))
    start = serializers.DateField(required=False, help_text="first local day; together with end")
    end = serializers.DateField(required=False, help_text="last local day")
    resource = serializers.CharField(required=False, help_text="kind:id")
    phase = serializers.ChoiceField(required=False, choices=[Phase.AWAKE.value, Phase.ASLEEP.value])
    cause = serializers.ChoiceField(required=False, choices=list(CAUSES))
    search = serializers.CharField(required=False)


class PagedLedgerQuerySerializer(LedgerQuerySerializer):
    page = serializers.IntegerField(required=False, min_value=1)
    page_size = serializers.IntegerField(required=False, min_value=1, max_value=200)


class IntervalSerializer(serializers.Serializer):
    """One interval, clipped to the period; `spent` and `saved` are its shares of the totals."""

    id = serializers.UUIDField()
    resource_kind = serializers.CharField()
    resource_id = serializers.UUIDField()
    resource_label = serializers.CharField()
    phase = serializers.ChoiceField(choices=[Phase.AWAKE.value, Phase.ASLEEP.value])
    started_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)
    counted_from = serializers.DateTimeField()
    counted_to = serializers.DateTimeField()
    price = serializers.CharField(allow_null=True, help_text="per hour; null when unknown")
    awake_price = serializers.CharField(allow_null=True)
    price_source = serializers.CharField(allow_blank=True)
    cause = serializers.CharField(allow_blank=True)
    spent = serializers.CharField(allow_null=True)
    saved = serializers.CharField(allow_null=True)
    currency = serializers.CharField()


class LedgerResourceSerializer(serializers.Serializer):
    kind = serializers.CharField()
    id = serializers.UUIDField()
    label = serializers.CharField()  # type: ignore[assignment]
    spent = serializers.CharField()
    saved_real = serializers.CharField()


class SummarySerializer(serializers.Serializer):
    """Totals of a period: spent, really saved, and (apart) what is still to come if nothing changes."""

    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    until = serializers.DateTimeField()
    currency = serializers.CharField()
    spent = serializers.CharField()
    saved_real = serializers.CharField()
    saved_by_cause = serializers.DictField(child=serializers.CharField())
    potential_still_to_come = serializers.CharField(allow_null=True)
    awake_hours = serializers.CharField()
    asleep_hours = serializers.CharField()
    intervals = serializers.IntegerField()
    unpriced = serializers.IntegerField(help_text="intervals without a known price; they add nothing to the sums")
    resources = LedgerResourceSerializer(many=True)


class BudgetSerializer(serializers.Serializer):
    """DAILY SPEND; null is no limit."""

    daily = serializers.DecimalField(max_digits=9, decimal_places=2, allow_null=True)
    currency = serializers.CharField(read_only=True)


def interval_shape(row: Row) -> dict[str, Any]:
    interval = row.interval
    return {
        "id": str(interval.id),
        "resource_kind": interval.resource_kind,
        "resource_id": str(interval.resource_id),
        "resource_label": interval.resource_label,
        "phase": interval.phase,
        "started_at": moment(interval.started_at),
        "ended_at": moment(interval.ended_at),
        "counted_from": moment(row.start),
        "counted_to": moment(row.end),
        "price": amount(interval.price),
        "awake_price": amount(interval.awake_price),
        "price_source": interval.price_source,
        "cause": interval.cause,
        "spent": amount(row.spent),
        "saved": amount(row.saved),
        "currency": CURRENCY,
    }


def summary_shape(report: Report) -> dict[str, Any]:
    sums = report.sums
    return {
        "start": moment(report.period.start),
        "end": moment(report.period.end),
        "until": moment(report.until),
        "currency": CURRENCY,
        "spent": amount(sums.spent),
        "saved_real": amount(sums.saved),
        "saved_by_cause": {cause.key: amount(cause.saved) for cause in report.causes},
        "potential_still_to_come": amount(report.potential),
        "awake_hours": amount(sums.awake_hours),
        "asleep_hours": amount(sums.asleep_hours),
        "intervals": sums.intervals,
        "unpriced": sums.unpriced,
        "resources": [
            {
                "kind": r.kind,
                "id": str(r.id),
                "label": r.label,
                "spent": amount(r.sums.spent),
                "saved_real": amount(r.sums.saved),
            }
            for r in report.resources
        ],
    }
