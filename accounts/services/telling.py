"""Telling people that who may do what has changed; who hears it is theirs to choose."""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.urls import reverse

from core import hooks


def security_changed(organization_id: UUID, subject: str, page: str) -> None:
    """An urgent notice in the caller's transaction; `page` names the route that shows it."""
    hooks.notice.emit(
        event="security.changed",
        subject=subject[:200],
        body="If nobody of you did this, look into the audit log and revoke what is not yours.",
        url=settings.CURFEW_BASE_URL + reverse(page),
        organization_id=organization_id,
    )
