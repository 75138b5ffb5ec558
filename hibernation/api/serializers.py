"""The shapes of schedules over HTTP."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from hibernation.models import Schedule
from hibernation.selectors import Day, ScheduleRow
from operations.api.shapes import moment, operation_url


class ScheduleWriteSerializer(serializers.Serializer):
    """A schedule as it is sent. `grid` is seven strings of 24 (hours) or 48 (half hours) digits, Monday first."""

    name = serializers.CharField(max_length=120)
    zone = serializers.CharField(max_length=64, help_text="IANA name, such as Europe/Berlin.")
    grid = serializers.ListField(child=serializers.CharField(max_length=48), min_length=7, max_length=7)
    calendar = serializers.DictField(required=False, help_text="Dates and their rules; left as it is when missing.")
    prewarm = serializers.BooleanField(default=True)
    night_belongs_to_start_day = serializers.BooleanField(default=True)
    enabled = serializers.BooleanField(default=True)
    warn_minutes = serializers.IntegerField(
        min_value=0, max_value=1440, required=False, help_text="How long before a sleep people are told; 0: not at all."
    )
    warn_required = serializers.BooleanField(required=False, help_text="No warning, no sleep.")
    leave_asleep = serializers.BooleanField(
        default=False, help_text="When switching off: do not wake first what sleeps because of it."
    )


class ScheduleSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    zone = serializers.CharField()
    grid = serializers.ListField(child=serializers.CharField())
    calendar = serializers.DictField()
    prewarm = serializers.BooleanField()
    night_belongs_to_start_day = serializers.BooleanField()
    enabled = serializers.BooleanField()
    warn_minutes = serializers.IntegerField()
    warn_required = serializers.BooleanField()
    saved_by = serializers.CharField(allow_blank=True)
    updated_at = serializers.DateTimeField()


class ScheduleRowSerializer(ScheduleSerializer):
    resources = serializers.IntegerField()
    now = serializers.CharField(help_text="What it wants now, and why.")
    next_at = serializers.DateTimeField(allow_null=True)
    next_is_wake = serializers.BooleanField(allow_null=True)
    saved_this_month = serializers.CharField(allow_null=True, help_text="USD, real, from the ledger.")


class PreviewQuerySerializer(serializers.Serializer):
    days = serializers.IntegerField(min_value=1, max_value=400, default=14)
    zone = serializers.CharField(required=False, help_text="The viewer's zone; the organization's when missing.")


class PreviewDaySerializer(serializers.Serializer):
    date = serializers.DateField()
    awake = serializers.CharField(help_text="Hours on the schedule's clock, in words.")
    awake_yours = serializers.CharField(allow_blank=True)
    awake_hours = serializers.FloatField()
    asleep_hours = serializers.FloatField()
    saves = serializers.CharField(allow_null=True, help_text="USD, potential; null when no price is known.")
    note = serializers.CharField(allow_blank=True)


class DeleteQuerySerializer(serializers.Serializer):
    leave_asleep = serializers.BooleanField(default=False, help_text="Do not wake first what sleeps because of it.")


class CalendarSerializer(serializers.Serializer):
    calendar = serializers.DictField()


class HolidaysSerializer(serializers.Serializer):
    country = serializers.CharField(max_length=2)
    subdivision = serializers.CharField(max_length=10, required=False, allow_blank=True, default="")
    years = serializers.ListField(child=serializers.IntegerField(), required=False, default=list, max_length=10)


class ImportedSerializer(serializers.Serializer):
    added = serializers.IntegerField()
    calendar = serializers.DictField()


class ResourceSerializer(serializers.Serializer):
    kind = serializers.CharField(max_length=40)
    id = serializers.UUIDField()


class ResourcesSerializer(serializers.Serializer):
    add = ResourceSerializer(many=True, required=False, default=list)
    remove = ResourceSerializer(many=True, required=False, default=list)


class ResourcesChangedSerializer(serializers.Serializer):
    added = serializers.IntegerField()
    removed = serializers.IntegerField()


class OverrideRequestSerializer(serializers.Serializer):
    """`for` is 1h, 4h, until_monday, 18:30 or an ISO time; without it, until the schedule's next change."""

    reason = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")

    def get_fields(self) -> dict[str, Any]:
        named = serializers.CharField(max_length=60, required=False, allow_blank=True, default="")
        return {**super().get_fields(), "for": named}


class SwitchedSerializer(serializers.Serializer):
    until = serializers.DateTimeField(allow_null=True)
    operation = serializers.UUIDField(allow_null=True)
    operation_url = serializers.CharField(allow_null=True)


def schedule_shape(row: Schedule) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "name": row.name,
        "zone": row.zone,
        "grid": row.grid,
        "calendar": row.calendar,
        "prewarm": row.prewarm,
        "night_belongs_to_start_day": row.night_belongs_to_start_day,
        "enabled": row.enabled,
        "warn_minutes": row.warn_minutes,
        "warn_required": row.warn_required,
        "saved_by": row.saved_by,
        "updated_at": moment(row.updated_at),
    }


def row_shape(row: ScheduleRow) -> dict[str, Any]:
    return {
        **schedule_shape(row.schedule),
        "resources": row.resources,
        "now": row.now_words,
        "next_at": moment(row.next.at) if row.next else None,
        "next_is_wake": row.next.on if row.next else None,
        "saved_this_month": None if row.saved is None else f"{row.saved:.2f}",
    }


def day_shape(day: Day) -> dict[str, Any]:
    return {
        "date": day.day.date().isoformat(),
        "awake": day.here,
        "awake_yours": day.yours,
        "awake_hours": day.awake_hours,
        "asleep_hours": day.asleep_hours,
        "saves": None if day.saved is None else f"{day.saved:.2f}",
        "note": day.note,
    }


def switched_shape(switched: Any) -> dict[str, Any]:
    operation_id = switched.operation_id
    return {
        "until": moment(switched.until),
        "operation": str(operation_id) if operation_id else None,
        "operation_url": operation_url(operation_id) if operation_id else None,
    }
