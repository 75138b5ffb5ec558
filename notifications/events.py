"""The registry of what people can be told about. An unregistered event cannot be sent.

Other apps may register their own in `AppConfig.ready()`. An urgent event is sent at once: neither quiet hours nor a
digest hold it back.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """A kind of event with the words that people choose it by, and those of the button that leads to its page.

    `asked`: a channel that hears everything does not hear of it, only one that chose it by name.
    """

    name: str
    label: str
    urgent: bool = False
    button: str = "Open in Curfew"
    asked: bool = False


_registry: dict[str, Event] = {}
_NOT_CHOSEN = {"mail": "A letter to one person"}


def register(
    name: str, label: str, *, urgent: bool = False, button: str = "Open in Curfew", asked: bool = False
) -> None:
    _registry[name] = Event(name, label, urgent, button, asked)


def get(name: str) -> Event:
    """Raises KeyError for an event nobody registered."""
    return _registry[name]


def all_events() -> list[Event]:
    return sorted(_registry.values(), key=lambda e: e.name)


def label_of(name: str) -> str:
    """The words for a kind, also for one that is no longer registered."""
    return _registry[name].label if name in _registry else _NOT_CHOSEN.get(name, name)


def button_of(name: str) -> str:
    """The words on the button of a kind, also for one that is no longer registered."""
    return _registry[name].button if name in _registry else "Open in Curfew"


register("hibernation.warning", "Something is about to go to sleep", urgent=True, button="Snooze")
register("hibernation.slept", "Something was put to sleep by its schedule")
register("operation.failed", "A start, stop or other operation failed")
register("budget.warning", "Spending nears the daily budget")
register("budget.exceeded", "The daily budget is used up", urgent=True)
register("node.idle_warning", "A cloud node is about to fall asleep for being idle", urgent=True)
register("node.lost", "A machine vanished or was interrupted", urgent=True)
register("cluster.alert", "A cluster reports a problem")
register("account.error", "A cloud account cannot be read")
register("security.changed", "A role, key or way to sign in changed", urgent=True)
register("audit.destination", "A destination of the audit log does not answer", urgent=True)
register("notifications.test", "Test message", urgent=True)
