"""Telling the audit log about a refusal, from the two places where errors become answers."""

from __future__ import annotations

import logging

from django.db import DatabaseError

from core import hooks
from core.actor import Actor
from core.errors import Forbidden

log = logging.getLogger(__name__)


def note(error: Exception, actor: object) -> None:
    """Emit `access_denied` for a Forbidden of a known actor. A log that cannot be written never turns a 403 into a 500."""
    if not isinstance(error, Forbidden) or not isinstance(actor, Actor):
        return
    try:
        hooks.access_denied.emit(actor=actor, permission=str(error.extra.get("permission", "")), what=error.message)
    except DatabaseError:
        log.exception("denial_not_recorded", extra={"actor": actor.id})
