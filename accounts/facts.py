"""Facts of a request that go with an audit line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest

from core.middleware import address_behind, client_ip


def facts_of_request(request: HttpRequest) -> dict[str, str]:
    """Request id, the caller's address (behind trusted proxies) and browser."""
    return {
        "request_id": getattr(request, "request_id", ""),
        "ip": client_ip(request),
        "user_agent": request.headers.get("User-Agent", "")[:300],
    }


def facts_of_scope(scope: Mapping[str, Any]) -> dict[str, str]:
    """The same of a WebSocket, which has no request id."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope.get("headers", [])}
    remote = str((scope.get("client") or ("",))[0])
    return {
        "ip": address_behind(remote, headers.get("x-forwarded-for", "")),
        "user_agent": headers.get("user-agent", "")[:300],
    }
