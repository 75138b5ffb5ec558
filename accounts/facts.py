"""Facts of a request that go with an audit line."""

from __future__ import annotations

from django.http import HttpRequest

from core.middleware import client_ip


def facts_of_request(request: HttpRequest) -> dict[str, str]:
    """Request id, the caller's address (behind trusted proxies) and browser."""
    return {
        "request_id": getattr(request, "request_id", ""),
        "ip": client_ip(request),
        "user_agent": request.headers.get("User-Agent", "")[:300],
    }
