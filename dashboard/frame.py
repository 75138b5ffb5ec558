"""What the frame of every page shows: menu, money, person, organization. The number of queries does not grow with data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from accounts import selectors as accounts
from accounts.selectors import Caller
from core import menu
from core.actor import Actor
from costs import reporting

LIVE_URL = "/ws/live"


@dataclass(frozen=True, slots=True)
class NextCurfew:
    """What falls asleep next by itself, for the foot of the menu; `saves_per_hour` in USD, None when unknown."""

    at: datetime
    label: str
    saves_per_hour: Decimal | None


_next_curfew: Callable[[Actor], NextCurfew | None] | None = None


def set_next_curfew(function: Callable[[Actor], NextCurfew | None] | None) -> None:
    """Whoever knows schedules says what falls asleep next; at most two queries. Until then nothing is shown."""
    global _next_curfew
    _next_curfew = function


def build(request: HttpRequest) -> dict[str, Any]:
    """The keys that templates/base.html documents; {} for a person without an organization."""
    caller: Caller | None = getattr(request, "caller", None)
    if caller is None:
        return {"user": _person(request.user)} if request.user.is_authenticated else {}
    actor = caller.actor
    return {
        "user": _person(caller.user),
        "organization": _organization(caller),
        "organizations": _organizations(caller),
        "menu": menu.side_menu(actor, request.path),
        "money": reporting.meter_facts(actor=actor, organization=caller.organization),
        "money_url": reverse("costs:meter"),
        "next_curfew": _next_curfew(actor) if _next_curfew else None,
        "sandbox": caller.organization.is_sandbox,
        "live_url": LIVE_URL,
        "search_url": reverse("dashboard:search"),
        "theme": getattr(caller.user, "theme", ""),
    }


def _person(user: Any) -> dict[str, str]:
    return {"name": user.display_name, "email": user.email, "initials": user.initials}


def _organization(caller: Caller) -> dict[str, Any]:
    return {
        "id": caller.organization.id,
        "name": caller.organization.name,
        "initials": initials(caller.organization.name),
        "role_label": caller.membership.get_role_display(),
    }


def _organizations(caller: Caller) -> list[dict[str, Any]]:
    mine = accounts.memberships_of(caller.user)
    return [
        {"id": m.organization_id, "name": m.organization.name, "current": m.organization_id == caller.organization.id}
        for m in mine
    ]


def initials(name: str) -> str:
    """Two letters for a badge."""
    return "".join(word[0] for word in name.split()[:2]).upper() or "?"
