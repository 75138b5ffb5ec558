"""Who is looking: requests of pages and of the status API leave a mark, and accounts that are looked at are read more often."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from django.core.cache import cache

from core import marks

# A connected page asks again at least once a minute, so a look that is older has gone.
LOOK_SECONDS = 90
MARK_SECONDS = 5


def _key(organization_id: UUID | str) -> str:
    return f"cloudnodes:viewing:{organization_id}"


def touch(organization_id: UUID | str | None) -> None:
    """Somebody of the organization looks at its nodes now."""
    if organization_id is not None and marks.due(_key(organization_id), MARK_SECONDS):
        cache.set(_key(organization_id), 1, LOOK_SECONDS)


def viewed(organization_ids: Iterable[UUID]) -> set[UUID]:
    """Which of the organizations are being looked at."""
    ids = set(organization_ids)
    seen = cache.get_many([_key(i) for i in ids])
    return {i for i in ids if _key(i) in seen}
