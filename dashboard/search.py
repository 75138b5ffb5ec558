"""Search over everything: each source is a function that finds a few hits; apps above may register their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from django.urls import reverse

from accounts import selectors as accounts
from clusters import selectors as clusters
from core import menu, sleepable
from core.actor import Actor
from operations import selectors as operations
from taskrunner import selectors as tasks

LIMIT = 8
SHORTEST = 2


@dataclass(frozen=True, slots=True)
class Hit:
    """One result: `state` is one of the eight words of the interface, or "" for what has none."""

    title: str
    detail: str
    url: str
    icon: str
    state: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Results of one source."""

    label: str
    hits: list[Hit]


Source = Callable[[Actor, str, int], Iterable[Hit]]
_sources: dict[str, Source] = {}


def register(label: str, source: Source) -> None:
    """`source(actor, words, limit)` gives the hits of one kind that the actor may see; `label` heads them."""
    _sources[label] = source


def find(*, actor: Actor, words: str, limit: int = LIMIT) -> list[Group]:
    """Hits by source in the order of registration; nothing for less than two characters."""
    words = " ".join(words.split())
    if len(words) < SHORTEST:
        return []
    groups = [Group(label, list(source(actor, words, limit))[:limit]) for label, source in _sources.items()]
    return [group for group in groups if group.hits]


def matches(words: str, *texts: str) -> bool:
    """Every word occurs somewhere in the texts."""
    hay = " ".join(texts).casefold()
    return all(word in hay for word in words.casefold().split())


def _sleepables(actor: Actor, words: str, limit: int) -> Iterable[Hit]:
    icons = {kind.kind: kind.icon for kind in sleepable.kinds()}
    for view in sleepable.list_all(actor):
        if view.kind == "cluster":  # has a source of its own, made for thousands
            continue
        tags = " ".join(f"{key}={value}" for key, value in view.tags.items())
        if matches(words, view.name, view.detail, view.owner, tags, view.state.value):
            yield Hit(view.name, view.detail, view.url, icons[view.kind], view.state.value)


def _clusters(actor: Actor, words: str, limit: int) -> Iterable[Hit]:
    for row in clusters.find(actor=actor, words=words, most=limit):
        detail = ", ".join(part for part in (row.get_distribution_display(), row.region, row.team) if part)
        yield Hit(row.name, detail, row.get_absolute_url(), "hexagons", clusters.WORDS.get(row.state, ""))


def _accounts(actor: Actor, words: str, limit: int) -> Iterable[Hit]:
    if not actor.can("accounts.view"):
        return
    for account in accounts.find_accounts(actor=actor, search=words)[:limit]:
        detail = f"{account.get_provider_display()} {account.masked_number}".strip()
        yield Hit(
            account.name,
            f"{detail}, {account.get_status_display().lower()}",
            reverse("accounts:cloud-account", args=[account.id]),
            "cloud",
        )


def _operations(actor: Actor, words: str, limit: int) -> Iterable[Hit]:
    if not actor.can("operations.view"):
        return
    for operation in operations.query(actor=actor, filters=operations.Filters(search=words))[:limit]:
        line = operations.line(operation)
        yield Hit(
            line.title, f"{operation.get_status_display()}, asked by {operation.actor_label}", line.url, "activity"
        )


def _tasks(actor: Actor, words: str, limit: int) -> Iterable[Hit]:
    if not actor.can("tasks.view"):
        return
    for task in tasks.query(actor=actor, filters=tasks.Filters(search=words))[:limit]:
        detail = f"{task.get_status_display().lower()}, {task.image}, by {task.owner_label}"
        yield Hit(task.name, detail, task.get_absolute_url(), "list-check")


def _pages(actor: Actor, words: str, limit: int) -> Iterable[Hit]:
    entries = [*menu.side_menu(actor, ""), *menu.settings_menu(actor, "")]
    fixed: list[dict[str, object]] = [
        {"label": "Operations", "url": reverse("operations:list"), "icon": "activity"},
        {"label": "Ledger", "url": reverse("costs:ledger"), "icon": "receipt"},
    ]
    seen = set()
    for entry in [*entries, *fixed]:
        url = str(entry["url"])
        if url not in seen and matches(words, str(entry["label"])):
            seen.add(url)
            yield Hit(str(entry["label"]), "Page", url, str(entry["icon"]))


def register_own() -> None:
    """The sources that exist in every installation."""
    register("Compute", _sleepables)
    register("Clusters", _clusters)
    register("Cloud accounts", _accounts)
    register("Operations", _operations)
    register("Tasks", _tasks)
    register("Pages", _pages)
