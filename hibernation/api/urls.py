"""API routes, relative: mounted at /api/ and /api/v1/. Each answers with and without a slash at the end."""

from __future__ import annotations

from django.urls import URLPattern, path
from rest_framework.views import APIView

from hibernation.api import views


def both(route: str, view: type[APIView], name: str) -> list[URLPattern]:
    """The route, and the same with a slash; only the first is in the schema."""
    return [path(route, view.as_view(), name=name), path(f"{route}/", view.as_view(schema=None))]


ONE = "hibernation/schedules/<uuid:schedule_id>"
urlpatterns: list[URLPattern] = [
    *both("hibernation/schedules", views.SchedulesView, "hibernation-schedules"),
    *both(ONE, views.ScheduleView, "hibernation-schedule"),
    *both(f"{ONE}/preview", views.PreviewView, "hibernation-preview"),
    *both(f"{ONE}/calendar", views.CalendarView, "hibernation-calendar"),
    *both(f"{ONE}/holidays/import", views.HolidaysView, "hibernation-holidays"),
    *both(f"{ONE}/resources", views.ResourcesView, "hibernation-resources"),
    *both("hibernation/<str:kind>/<uuid:resource_id>/sleep", views.SleepView, "hibernation-sleep"),
    *both("hibernation/<str:kind>/<uuid:resource_id>/wake", views.WakeView, "hibernation-wake"),
]
