"""Roles map to string permissions. Shown on a page in words, proven by the access matrix.

`<room>.view`, `<room>.operate` (wake, sleep, run), `<room>.manage` (connect, configure, delete).
"""

from __future__ import annotations

from accounts.enums import Role

VIEW = {
    "nodes.view": "See cloud nodes, workflow runs and install packages",
    "gpu.view": "See GPU machines, snapshots, standbys and the market",
    "tasks.view": "See one's own and shared tasks, templates and schedules",
    "workers.view": "See workers",
    "clusters.view": "See clusters, what they waste and how they sleep",
    "hibernation.view": "See schedules, warnings and hibernations",
    "policies.view": "See node templates, policies and recommendations",
    "operations.view": "See what is being changed, and by whom",
    "costs.view": "See spending, savings, prices and budgets",
    "notifications.view": "See where notifications go",
    "accounts.view": "See cloud accounts",
    "members.view": "See members",
}
OPERATE = {
    "nodes.operate": "Wake cloud nodes, put them to sleep, keep them awake, run workflows",
    "gpu.operate": "Wake, hibernate, keep, migrate and restore GPU machines; fail over and back",
    "tasks.operate": "Submit, schedule and cancel one's own tasks",
    "workers.operate": "Open, cordon and drain workers",
    "clusters.operate": "Wake clusters, put them to sleep, begin maintenance, resize node groups",
    "hibernation.operate": "Wake, put to sleep and snooze what follows a schedule",
    "policies.operate": "Carry out what a policy recommends",
    "operations.operate": "Cancel and repeat operations",
}
MANAGE = {
    "nodes.manage": "Declare cloud nodes, set their rules, build packages",
    "gpu.manage": "Rent, configure and destroy GPU machines and standbys; delete snapshots",
    "tasks.manage": "See and change the tasks of others; the queue and its statistics",
    "workers.manage": "Add and remove workers; limits, and how long logs are kept",
    "clusters.manage": "Connect, configure and disconnect clusters; install agents",
    "hibernation.manage": "Make and change schedules and what follows them",
    "policies.manage": "Make and change node templates and policies, and apply them",
    "notifications.manage": "Add, change, test and remove channels",
    "accounts.manage": "Connect, scan and disconnect cloud accounts",
    "members.manage": "Invite people, change roles, remove members",
    "api_keys.manage": "Create and revoke API keys",
    "agents.manage": "Enrol agents and revoke their tokens",
    "budgets.manage": "Set budgets and what they do when they are used up",
    "audit.view": "See, search and verify the audit log",
    "audit.export": "Export the audit log",
}
OWN = {
    "audit.manage": "Decide how long the audit log is kept and where it is sent",
    "members.manage_owners": "Make, unmake and remove owners",
    "organization.manage": "Change the organization and its rules",
    "organization.delete": "Close the organization",
}

_VIEWER = frozenset(VIEW)
_OPERATOR = _VIEWER | frozenset(OPERATE)
_ADMIN = _OPERATOR | frozenset(MANAGE)
_OWNER = _ADMIN | frozenset(OWN)

ROLE_PERMISSIONS: dict[str, frozenset[str]] = {
    Role.VIEWER: _VIEWER,
    Role.OPERATOR: _OPERATOR,
    Role.ADMIN: _ADMIN,
    Role.OWNER: _OWNER,
}
WORDS = {**VIEW, **OPERATE, **MANAGE, **OWN}
ALL_PERMISSIONS: tuple[str, ...] = tuple(sorted(_OWNER))


def permissions_of(role: str) -> frozenset[str]:
    return ROLE_PERMISSIONS.get(role, frozenset())
