"""Schedules over HTTP, and waking and putting to sleep of anything that sleeps."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer

from accounts import selectors as accounts
from core.api.views import CurfewAPIView
from hibernation import selectors, services
from hibernation.api import serializers as shapes
from hibernation.enums import Order

TAGS = ["hibernation"]


def _read(shape: type[Serializer], data: Any) -> dict[str, Any]:
    asked = shape(data=data)
    asked.is_valid(raise_exception=True)
    return dict(asked.validated_data)


class HibernationAPIView(CurfewAPIView):
    """Base: the organization's zone."""

    def timezone(self) -> str:
        return accounts.get_organization(actor=self.actor).timezone


class SchedulesView(HibernationAPIView):
    @extend_schema(operation_id="hibernation_schedules", responses=shapes.ScheduleRowSerializer(many=True), tags=TAGS)
    def get(self, request: Request) -> Response:
        """Every schedule by name, with its next change and what it saved this month."""
        rows = selectors.list_schedules(actor=self.actor, timezone=self.timezone())
        return Response([shapes.row_shape(row) for row in rows])

    @extend_schema(
        operation_id="hibernation_schedule_create",
        request=shapes.ScheduleWriteSerializer,
        responses={201: shapes.ScheduleSerializer},
        tags=TAGS,
    )
    def post(self, request: Request) -> Response:
        """Create a schedule."""
        row = services.save_schedule(actor=self.actor, **_read(shapes.ScheduleWriteSerializer, request.data))
        return Response(shapes.schedule_shape(row), status=201)


class ScheduleView(HibernationAPIView):
    @extend_schema(operation_id="hibernation_schedule", responses=shapes.ScheduleSerializer, tags=TAGS)
    def get(self, request: Request, schedule_id: UUID) -> Response:
        """One schedule."""
        return Response(shapes.schedule_shape(selectors.get_schedule(actor=self.actor, schedule_id=schedule_id)))

    @extend_schema(
        operation_id="hibernation_schedule_save",
        request=shapes.ScheduleWriteSerializer,
        responses=shapes.ScheduleSerializer,
        tags=TAGS,
    )
    def put(self, request: Request, schedule_id: UUID) -> Response:
        """Change a schedule. Switching it off wakes what sleeps because of it."""
        selectors.get_schedule(actor=self.actor, schedule_id=schedule_id)
        facts = _read(shapes.ScheduleWriteSerializer, request.data)
        row = services.save_schedule(actor=self.actor, schedule_id=schedule_id, **facts)
        return Response(shapes.schedule_shape(row))

    @extend_schema(
        operation_id="hibernation_schedule_delete",
        parameters=[shapes.DeleteQuerySerializer],
        responses={204: None},
        tags=TAGS,
    )
    def delete(self, request: Request, schedule_id: UUID) -> Response:
        """Wake what sleeps because of the schedule, then delete it; 409 when something cannot be woken."""
        selectors.get_schedule(actor=self.actor, schedule_id=schedule_id)
        leave = _read(shapes.DeleteQuerySerializer, request.query_params)["leave_asleep"]
        services.delete_schedule(actor=self.actor, schedule_id=schedule_id, leave_asleep=leave)
        return Response(status=204)


class PreviewView(HibernationAPIView):
    @extend_schema(
        operation_id="hibernation_preview",
        parameters=[shapes.PreviewQuerySerializer],
        responses=shapes.PreviewDaySerializer(many=True),
        tags=TAGS,
    )
    def get(self, request: Request, schedule_id: UUID) -> Response:
        """The days ahead, on both clocks, with what they would save."""
        asked = _read(shapes.PreviewQuerySerializer, request.query_params)
        zone = asked.get("zone") or self.timezone()
        days = selectors.preview_of(actor=self.actor, schedule_id=schedule_id, viewer_zone=zone, days=asked["days"])
        return Response([shapes.day_shape(day) for day in days])


class CalendarView(HibernationAPIView):
    @extend_schema(operation_id="hibernation_calendar", responses=shapes.CalendarSerializer, tags=TAGS)
    def get(self, request: Request, schedule_id: UUID) -> Response:
        """The dates with a rule of their own."""
        row = selectors.get_schedule(actor=self.actor, schedule_id=schedule_id)
        return Response({"calendar": row.calendar})

    @extend_schema(
        operation_id="hibernation_calendar_save",
        request=shapes.CalendarSerializer,
        responses=shapes.CalendarSerializer,
        tags=TAGS,
    )
    def put(self, request: Request, schedule_id: UUID) -> Response:
        """Replace the calendar."""
        selectors.get_schedule(actor=self.actor, schedule_id=schedule_id)
        calendar = _read(shapes.CalendarSerializer, request.data)["calendar"]
        row = services.set_calendar(actor=self.actor, schedule_id=schedule_id, calendar=calendar)
        return Response({"calendar": row.calendar})


class HolidaysView(HibernationAPIView):
    @extend_schema(
        operation_id="hibernation_holidays_import",
        request=shapes.HolidaysSerializer,
        responses=shapes.ImportedSerializer,
        tags=TAGS,
    )
    def post(self, request: Request, schedule_id: UUID) -> Response:
        """Put a country's public holidays into the calendar; what people set stays."""
        selectors.get_schedule(actor=self.actor, schedule_id=schedule_id)
        facts = _read(shapes.HolidaysSerializer, request.data)
        row, added = services.import_holidays(actor=self.actor, schedule_id=schedule_id, **facts)
        return Response({"added": added, "calendar": row.calendar})


class ResourcesView(HibernationAPIView):
    @extend_schema(
        operation_id="hibernation_resources",
        request=shapes.ResourcesSerializer,
        responses=shapes.ResourcesChangedSerializer,
        tags=TAGS,
    )
    def post(self, request: Request, schedule_id: UUID) -> Response:
        """Put resources on the schedule and take others off it."""
        selectors.get_schedule(actor=self.actor, schedule_id=schedule_id)
        asked = _read(shapes.ResourcesSerializer, request.data)
        add, remove = ([(r["kind"], r["id"]) for r in asked[name]] for name in ("add", "remove"))
        added = services.assign(actor=self.actor, schedule_id=schedule_id, resources=add)
        removed = services.unassign(actor=self.actor, schedule_id=schedule_id, resources=remove)
        return Response({"added": added, "removed": removed})


class _SwitchView(HibernationAPIView):
    order: Order

    def _switch(self, request: Request, kind: str, resource_id: UUID) -> Response:
        asked = _read(shapes.OverrideRequestSerializer, request.data)
        done = services.set_override(
            actor=self.actor,
            kind=kind,
            resource_id=resource_id,
            order=self.order,
            until=asked["for"],
            reason=asked["reason"],
        )
        return Response(shapes.switched_shape(done), status=202)


class SleepView(_SwitchView):
    order = Order.SLEEP

    @extend_schema(
        operation_id="hibernation_sleep",
        request=shapes.OverrideRequestSerializer,
        responses={202: shapes.SwitchedSerializer},
        tags=TAGS,
    )
    def post(self, request: Request, kind: str, resource_id: UUID) -> Response:
        """Put to sleep now, for a while."""
        return self._switch(request, kind, resource_id)


class WakeView(_SwitchView):
    order = Order.WAKE

    @extend_schema(
        operation_id="hibernation_wake",
        request=shapes.OverrideRequestSerializer,
        responses={202: shapes.SwitchedSerializer},
        tags=TAGS,
    )
    def post(self, request: Request, kind: str, resource_id: UUID) -> Response:
        """Wake now, for a while."""
        return self._switch(request, kind, resource_id)
