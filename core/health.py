"""/healthz (the process), /readyz (everything it leans on) and /metrics (Prometheus, off unless allowed)."""

from __future__ import annotations

import hmac
import ipaddress
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, HttpResponseNotFound, JsonResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from core import clock
from core.middleware import client_ip
from core.models import Pulse

SWEEP_MAX_AGE = timedelta(seconds=90)


def beat(name: str, **detail: Any) -> None:
    """Record a sign of life of a part of the platform."""
    Pulse.objects.update_or_create(name=name, defaults={"at": clock.now(), "detail": detail})


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"status": "ok"})


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """503 with the failing part when the database, broker, sweep or worker is not well."""
    checks = {"database": _database(), **_pulses(), "broker": _broker()}
    ready = all(c == "ok" for c in checks.values())
    response = JsonResponse({"status": "ok" if ready else "not ready", "checks": checks}, status=200 if ready else 503)
    if not ready:
        response["Retry-After"] = "5"
    return response


def _database() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return "ok"
    except DatabaseError as down:
        return f"down: {type(down).__name__}"


def _pulses() -> dict[str, str]:
    """The sweep runs on a worker, so its pulse proves beat, broker and worker at once."""
    try:
        pulse = Pulse.objects.filter(name="sweep").first()
    except DatabaseError:
        return {"sweep": "unknown"}
    if pulse is None:
        return {"sweep": "never ran"}
    age = clock.now() - pulse.at
    return {"sweep": "ok" if age < SWEEP_MAX_AGE else f"last ran {int(age.total_seconds())} s ago"}


def _broker() -> str:
    if settings.CURFEW_EMBEDDED:
        return "ok"
    import redis

    try:
        redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2).ping()
        return "ok"
    except redis.RedisError as down:
        return f"down: {type(down).__name__}"


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus text; 404 unless the bearer token matches or the caller is in an allowed network."""
    if not _metrics_allowed(request):
        return HttpResponseNotFound()
    return HttpResponse(generate_latest(), content_type=CONTENT_TYPE_LATEST)


def _metrics_allowed(request: HttpRequest) -> bool:
    token = settings.CURFEW_METRICS_TOKEN
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if token and hmac.compare_digest(token.encode(), given.encode()):
        return True
    try:
        address = ipaddress.ip_address(client_ip(request))
    except ValueError:
        return False
    return any(address in ipaddress.ip_network(n) for n in settings.CURFEW_METRICS_NETWORKS)
