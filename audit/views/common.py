"""What the pages of the log share."""

from __future__ import annotations

from django.http import HttpRequest

from core.actor import Actor
from core.errors import NotSignedIn


def actor_of(request: HttpRequest) -> Actor:
    """Who is at the browser; raises NotSignedIn."""
    actor: Actor | None = getattr(request, "actor", None)
    if actor is None:
        raise NotSignedIn("Log in to see the audit log.")
    return actor
