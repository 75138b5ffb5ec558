"""Where a person goes after signing in."""

from __future__ import annotations

from django.urls import reverse

from accounts import selectors
from accounts.models import User


def landing_url(user: User) -> str:
    """The wizard while nothing is connected and it was never closed; home otherwise."""
    caller = selectors.caller_for(user)
    return reverse("accounts:wizard") if caller and selectors.needs_wizard(caller) else "/"
