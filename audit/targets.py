"""Where the thing that a line is about can be seen. Kinds are what `record` writes; a kind without a page has no link."""

from __future__ import annotations

from django.urls import NoReverseMatch, reverse

_PAGES: dict[str, str] = {
    "cloudnode": "cloudnodes:detail",
    "cloud_node": "cloudnodes:detail",
    "cluster": "clusters:detail",
    "schedule": "hibernation:detail",
    "operation": "operations:detail",
    "machine": "gpu_fleet:machine",
    "gpu_machine": "gpu_fleet:machine",
    "task": "taskrunner:task",
    "worker": "taskrunner:worker",
    "policy": "policies:policy",
    "nodetemplate": "policies:template",
    "cloudaccount": "accounts:cloud-account",
    "cloud_account": "accounts:cloud-account",
    "install_package": "cloudnodes:package",
    "channel": "notifications:channel-edit",
}
_ROOMS: dict[str, str] = {
    "audit": "audit:compliance",
    "sink": "audit:compliance",
    "membership": "accounts:members",
    "invitation": "accounts:members",
    "apikey": "accounts:api-keys",
    "agenttoken": "accounts:agents",
    "organization": "accounts:settings-organization",
    "budget": "costs:budgets",
    "price_book": "costs:prices",
    "browser": "notifications:mine",
    "notification": "notifications:messages",
    "delivery": "notifications:messages",
}


def url_of(kind: str, target_id: str) -> str:
    """The page of the target, the page that lists its kind, or "". It may be gone: then that page says so."""
    try:
        if kind in _PAGES and target_id:
            return reverse(_PAGES[kind], args=[target_id])
        return reverse(_ROOMS[kind]) if kind in _ROOMS else ""
    except NoReverseMatch:
        return ""
