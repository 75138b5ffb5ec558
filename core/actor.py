"""Who acts. Every write takes an actor; `request` never goes below the views."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from uuid import UUID

from core import request_context
from core.errors import Forbidden


class ActorKind(StrEnum):
    USER = "user"
    AGENT = "agent"
    API_KEY = "api_key"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Actor:
    """A user, agent, API key or system component, with the organization it acts in and its permissions."""

    kind: ActorKind
    id: str
    label: str
    org_id: UUID | None
    permissions: frozenset[str] = field(default_factory=frozenset)
    request_id: str = ""
    ip: str = ""
    user_agent: str = ""

    @classmethod
    def system(cls, component: str, org_id: UUID | None = None, request_id: str = "") -> Actor:
        """A component of the platform itself: may do everything, in one organization or (None) in all."""
        return cls(
            ActorKind.SYSTEM, component, component.replace("_", " ").capitalize(), org_id, frozenset({"*"}), request_id
        )

    def within(self, org_id: UUID) -> Actor:
        """The same system component, narrowed to one organization."""
        return replace(self, org_id=org_id)

    def can(self, permission: str) -> bool:
        return "*" in self.permissions or permission in self.permissions

    def require(self, permission: str, to: str = "do this") -> None:
        """Raise Forbidden with the reason when the permission is missing; the request remembers it for the audit log."""
        if not self.can(permission):
            words = f"Your role does not allow you to {to} (needs {permission})."
            request_context.refused(self, permission, to)
            refusal = Forbidden(words, permission=permission)
            refusal.wanted = to
            raise refusal
