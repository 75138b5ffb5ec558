"""The demo's organization and a person of each role; one generated password for all of them, kept beside the database."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import transaction
from django.utils import timezone

from accounts import selectors as accounts
from accounts import services as accounts_services
from accounts.enums import Role
from accounts.models import Membership, Organization, User
from audit import services as audit
from core.actor import Actor

ORGANIZATION = "Larkspur Studio"
FILE = "demo.json"
_TEXT = (
    "amber birch cedar cinder clover copper coral cricket dapple ember fennel fern flint garnet hazel heron indigo ivory "
    "juniper lantern larch lark linden maple marble meadow mica moss nettle oak onyx opal orchid pebble pine plover quartz "
    "raven reed robin rowan saffron sage slate sorrel sparrow thistle thrush umber violet walnut willow wren yarrow"
)
WORDS = _TEXT.split()


@dataclass(frozen=True, slots=True)
class Character:
    """One person of the demo."""

    email: str
    name: str
    role: str


PEOPLE = (
    Character("owner@larkspur.example", "Mina Okafor", Role.OWNER),
    Character("admin@larkspur.example", "Tomas Brandt", Role.ADMIN),
    Character("operator@larkspur.example", "Ines Duarte", Role.OPERATOR),
    Character("viewer@larkspur.example", "Ravi Menon", Role.VIEWER),
)


@dataclass(frozen=True, slots=True)
class Cast:
    """The organization, and the actor of each person by role."""

    organization: Organization
    actors: dict[str, Actor]
    password: str
    created: bool


def password_of(data: Path) -> str:
    """The password in `<data>/demo.json`, generated on first use; the file is readable by its owner only."""
    path = data / FILE
    try:
        known = json.loads(path.read_text(encoding="utf-8"))["password"]
        if isinstance(known, str) and known:
            return known
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass  # first use, or a file that somebody spoilt: a new one is written
    password = "-".join([*(secrets.choice(WORDS) for _ in range(4)), str(secrets.randbelow(90) + 10)])
    facts: dict[str, Any] = {"password": password, "people": [one.email for one in PEOPLE]}
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        json.dump(facts, file)
    return password


def ensure(data: Path) -> Cast:
    """The organization with its people, made on first use; an existing password is not touched."""
    password = password_of(data)
    owner = User.objects.filter(email=PEOPLE[0].email).first()
    created = owner is None
    if owner is None:
        owner = accounts_services.sign_up(
            organization=ORGANIZATION, email=PEOPLE[0].email, password=password, name=PEOPLE[0].name
        ).user
    caller = accounts.caller_for(owner)
    if caller is None:
        raise RuntimeError(
            f"{owner.email} belongs to no organization any more; remove the demo's data folder to start anew"
        )
    organization = caller.organization
    if not organization.is_sandbox:
        organization.is_sandbox = True
        organization.save(update_fields=["is_sandbox"])
    for one in PEOPLE[1:]:
        _join(caller.actor, organization, one, password)
    User.objects.filter(email__in=[p.email for p in PEOPLE], wizard_closed_at=None).update(
        wizard_closed_at=timezone.now()
    )
    return Cast(organization, _actors(organization), password, created)


def _join(owner: Actor, organization: Organization, one: Character, password: str) -> None:
    """Add a colleague who is not there yet, as the owner."""
    if User.objects.filter(email=one.email).exists():
        return
    with transaction.atomic():
        user = User.objects.create_user(one.email, password, name=one.name)
        membership = Membership(organization=organization, user=user, role=one.role)
        membership.save(force_insert=True)
        audit.record(
            actor=owner,
            verb="member.invited",
            target=membership,
            target_label=one.name,
            changes={"role": [None, str(one.role)]},
        )


def _actors(organization: Organization) -> dict[str, Actor]:
    found = {}
    for one in PEOPLE:
        user = User.objects.filter(email=one.email).first()
        caller = accounts.caller_for(user, organization.id) if user else None
        if caller and caller.organization.id == organization.id:
            found[str(one.role)] = caller.actor
    return found
