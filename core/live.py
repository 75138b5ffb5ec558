"""Live updates: after commit, tell the organization's open pages which ids of a topic changed.

Only ids travel. The page re-fetches its fragment through the ordinary, permission-checked view.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from uuid import UUID

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

log = logging.getLogger(__name__)


def group_name(organization_id: UUID | str) -> str:
    return f"org.{organization_id}"


def publish(organization_id: UUID | str, topic: str, ids: Iterable[UUID | str] = ()) -> None:
    """Send `{"topic", "ids"}` to everyone looking at the organization, once the transaction has committed."""
    message: dict[str, object] = {"type": "changed", "topic": topic, "ids": sorted({str(i) for i in ids})}
    transaction.on_commit(lambda: _send(group_name(organization_id), message))


def _send(group: str, message: dict[str, object]) -> None:
    try:
        async_to_sync(get_channel_layer().group_send)(group, message)
    except (OSError, RuntimeError) as lost:  # the pages poll anyway: a lost hint costs seconds, never truth
        log.warning("live_update_lost", extra={"group": group, "reason": str(lost)})
