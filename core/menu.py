"""The side menu and the settings menu: each app adds its entries in `AppConfig.ready()`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.urls import reverse

from core.actor import Actor


@dataclass(frozen=True, slots=True)
class Entry:
    order: int
    label: str
    url_name: str
    icon: str
    prefix: str = ""
    gap: bool = False
    count: Callable[[Actor], int] | None = None
    permission: str = ""
    group: str = "Organization"


_side: dict[str, Entry] = {}
_settings: dict[str, Entry] = {}


def register(entry: Entry) -> None:
    _side[entry.url_name] = entry


def register_settings(entry: Entry) -> None:
    _settings[entry.url_name] = entry


def _render(entries: dict[str, Entry], actor: Actor, path: str) -> list[dict[str, object]]:
    rows = []
    for entry in sorted(entries.values(), key=lambda e: e.order):
        if entry.permission and not actor.can(entry.permission):
            continue
        url = reverse(entry.url_name)
        prefix = entry.prefix or url
        current = path == url if url == "/" else path.startswith(prefix)
        count = entry.count(actor) if entry.count else 0
        rows.append(
            {
                "label": entry.label,
                "url": url,
                "icon": entry.icon,
                "gap": entry.gap,
                "count": count,
                "current": current,
                "group": entry.group,
            }
        )
    return rows


def side_menu(actor: Actor, path: str) -> list[dict[str, object]]:
    return _render(_side, actor, path)


def settings_menu(actor: Actor, path: str) -> list[dict[str, object]]:
    return _render(_settings, actor, path)
