"""Roles map to string permissions. Shown on a page, proven by the access matrix.

`<room>.view`, `<room>.operate` (wake and sleep), `<room>.manage` (connect, configure, delete).
"""

from __future__ import annotations

from accounts.enums import Role

ROOMS = (
    "nodes",
    "gpu",
    "tasks",
    "workers",
    "clusters",
    "hibernation",
    "policies",
    "operations",
    "costs",
    "notifications",
)

_VIEWER = frozenset({*(f"{room}.view" for room in ROOMS), "accounts.view", "members.view"})
_OPERATOR = _VIEWER | {f"{room}.operate" for room in ROOMS}
_ADMIN = _OPERATOR | {
    *(f"{room}.manage" for room in ROOMS),
    "accounts.manage",
    "members.manage",
    "api_keys.manage",
    "audit.view",
    "audit.export",
    "budgets.manage",
    "agents.manage",
}
_OWNER = _ADMIN | {"organization.manage", "organization.delete", "audit.manage", "members.manage_owners"}

ROLE_PERMISSIONS: dict[str, frozenset[str]] = {
    Role.VIEWER: _VIEWER,
    Role.OPERATOR: _OPERATOR,
    Role.ADMIN: _ADMIN,
    Role.OWNER: _OWNER,
}
ALL_PERMISSIONS: tuple[str, ...] = tuple(sorted(_OWNER))


def permissions_of(role: str) -> frozenset[str]:
    return ROLE_PERMISSIONS.get(role, frozenset())
