"""Who may call an API view at all; what they may do is asked in the services."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from core.actor import Actor


class SignedIn(BasePermission):
    """Any authenticated caller that acts in an organization; agents are refused here and use their own views."""

    def has_permission(self, request: Request, view: Any) -> bool:
        actor = getattr(request, "auth", None)
        found = actor if isinstance(actor, Actor) else getattr(request._request, "actor", None)
        return found is not None and found.kind != "agent"
