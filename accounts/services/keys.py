"""API keys: shown once, kept as a hash, never stronger than their maker."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from django.db import transaction

from accounts import tokens
from accounts.actors import own_organization
from accounts.models import ApiKey, User
from accounts.permissions import ALL_PERMISSIONS
from accounts.services.telling import security_changed
from audit import services as audit
from core import clock
from core.actor import Actor, ActorKind
from core.errors import InvalidInput, NotFound
from core.live import publish

LONGEST_DAYS = 3650


def create_api_key(*, actor: Actor, name: str, scopes: Sequence[str], days: int | None = None) -> tuple[ApiKey, str]:
    """Make a key and return it with its text, which is shown this once.

    `scopes` are permissions that the actor has; `days` is its life, None for no end. Raises InvalidInput per field.
    """
    actor.require("api_keys.manage", "create API keys")
    wanted = sorted(set(scopes))
    errors = _problems(actor, name.strip(), wanted, days)
    if errors:
        raise InvalidInput(errors=errors)
    made = tokens.new_opaque("cfk")
    with transaction.atomic():
        key = ApiKey(
            organization_id=own_organization(actor),
            name=name.strip(),
            prefix=made.prefix,
            digest=made.digest,
            scopes=wanted,
            created_by=User.objects.filter(pk=actor.id).first() if actor.kind == ActorKind.USER else None,
            expires_at=clock.now() + timedelta(days=days) if days else None,
        )
        key.save(force_insert=True)
        audit.record(actor=actor, verb="api_key.created", target=key, changes={"scopes": [None, wanted]})
        words = (
            f"{actor.label} made the API key {key.name} with {len(wanted)} permission{'s' if len(wanted) > 1 else ''}"
        )
        security_changed(key.organization_id, words, "accounts:api-keys")
        publish(key.organization_id, "accounts", [key.id])
    return key, made.text


def _problems(actor: Actor, name: str, scopes: list[str], days: int | None) -> dict[str, list[str]]:
    errors: dict[str, list[str]] = {}
    if not 0 < len(name) <= 120:
        errors["name"] = ["Give the key a name of 1 to 120 characters."]
    unknown = [s for s in scopes if s not in ALL_PERMISSIONS]
    beyond = [s for s in scopes if s in ALL_PERMISSIONS and not actor.can(s)]
    if not scopes:
        errors["scopes"] = ["Choose at least one permission."]
    elif unknown:
        errors["scopes"] = [f"There is no permission {', '.join(unknown)}."]
    elif beyond:
        errors["scopes"] = [f"A key cannot do more than you: {', '.join(beyond)}."]
    if days is not None and not 1 <= days <= LONGEST_DAYS:
        errors["days"] = [f"A key lives 1 to {LONGEST_DAYS} days."]
    return errors


def revoke_api_key(*, actor: Actor, key_id: UUID) -> ApiKey:
    """End a key at once; ending it again changes nothing. NotFound for a key of another organization."""
    actor.require("api_keys.manage", "revoke API keys")
    with transaction.atomic():
        key = ApiKey.objects.visible_to(actor).select_for_update().filter(id=key_id).first()
        if key is None:
            raise NotFound("There is no such API key.")
        if key.revoked_at is None:
            key.revoked_at = clock.now()
            key.save(update_fields=["revoked_at"])
            audit.record(actor=actor, verb="api_key.revoked", target=key)
            publish(key.organization_id, "accounts", [key.id])
    return key
