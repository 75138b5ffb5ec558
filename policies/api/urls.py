"""API routes, relative: mounted at /api/ and /api/v1/. Each answers with and without a slash at the end."""

from __future__ import annotations

from django.urls import URLPattern, path
from rest_framework.views import APIView


def both(route: str, view: type[APIView], name: str) -> list[URLPattern]:
    """The route, and the same with a slash; only the first is in the schema."""
    return [path(route, view.as_view(), name=name), path(f"{route}/", view.as_view(schema=None))]


urlpatterns: list[URLPattern] = []
