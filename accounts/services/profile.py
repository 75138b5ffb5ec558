"""A person's own facts, the organization's name and zone, and the wizard's end."""

from __future__ import annotations

from zoneinfo import available_timezones

from django.db import transaction

from accounts.actors import own_organization
from accounts.enums import Theme
from accounts.models import Organization, User
from audit import services as audit
from core import clock
from core.actor import Actor
from core.errors import InvalidInput, NotFound
from core.live import publish


def update_profile(*, actor: Actor, user: User, name: str, timezone: str = "") -> User:
    """Change one's own display name and zone ("" follows the organization)."""
    clean = name.strip()
    errors = {}
    if len(clean) > 120:
        errors["name"] = ["A name has at most 120 characters."]
    if timezone and timezone not in available_timezones():
        errors["timezone"] = ["Choose a time zone from the list, such as Europe/Berlin."]
    if errors:
        raise InvalidInput(errors=errors)
    changes = {
        k: [old, new]
        for k, old, new in (("name", user.name, clean), ("timezone", user.timezone, timezone))
        if old != new
    }
    if changes:
        with transaction.atomic():
            user.name, user.timezone = clean, timezone
            user.save(update_fields=["name", "timezone"])
            audit.record(actor=actor, verb="user.profile_changed", target=user, changes=changes)
    return user


def set_appearance(*, actor: Actor, user: User, theme: str) -> User:
    """Keep light, dark or "" (as the system says) for this person, on every device."""
    if theme not in Theme.values:
        raise InvalidInput(errors={"theme": ["Choose light, dark or the system's."]})
    if theme != user.theme:
        with transaction.atomic():
            before, user.theme = user.theme, theme
            user.save(update_fields=["theme"])
            audit.record(actor=actor, verb="user.appearance_changed", target=user, changes={"theme": [before, theme]})
    return user


def update_organization(*, actor: Actor, name: str, timezone: str) -> Organization:
    """Change the organization's name and the zone in which its days and schedules are read."""
    actor.require("organization.manage", "change the organization")
    clean = name.strip()
    errors = {}
    if not 0 < len(clean) <= 120:
        errors["name"] = ["An organization's name has 1 to 120 characters."]
    if timezone not in available_timezones():
        errors["timezone"] = ["Choose a time zone from the list, such as Europe/Berlin."]
    if errors:
        raise InvalidInput(errors=errors)
    with transaction.atomic():
        house = Organization.objects.select_for_update().filter(pk=own_organization(actor)).first()
        if house is None:
            raise NotFound("There is no such organization.")
        changes = {
            k: [old, new]
            for k, old, new in (("name", house.name, clean), ("timezone", house.timezone, timezone))
            if old != new
        }
        if changes:
            house.name, house.timezone = clean, timezone
            house.save(update_fields=["name", "timezone"])
            audit.record(actor=actor, verb="organization.changed", target=house, changes=changes)
            publish(house.pk, "accounts", [house.pk])
    return house


def close_wizard(*, user: User) -> None:
    """The first-run wizard was finished or skipped: it never opens by itself again."""
    User.objects.filter(pk=user.pk, wizard_closed_at=None).update(wizard_closed_at=clock.now())
    user.wizard_closed_at = user.wizard_closed_at or clock.now()
