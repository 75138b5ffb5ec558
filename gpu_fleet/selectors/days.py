"""The days that every page of the fleet means: local ones of the organization."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from accounts import selectors as accounts
from core.actor import Actor
from core.request_context import kept
from costs import selectors as costs

DAYS = 30


def zone_of(actor: Actor) -> ZoneInfo:
    """The organization's time zone, asked once a page."""
    return kept(("zone", actor.org_id), lambda: ZoneInfo(accounts.get_organization(actor=actor).timezone))


def days_of(actor: Actor, count: int = DAYS) -> list[tuple[datetime, datetime]]:
    """Start and end of the last `count` days with today, the oldest first."""
    return costs.last_days(zone_of(actor).key, count)
