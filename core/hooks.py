"""How a lower floor tells upper floors that something happened, without importing them.

Subscribers register in their `AppConfig.ready()`; they run inside the caller's transaction, in order of registration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Hook:
    """A named event with keyword-only facts."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._subscribers: list[Callable[..., Any]] = []

    def subscribe(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if function not in self._subscribers:
            self._subscribers.append(function)
        return function

    def emit(self, **facts: Any) -> list[Any]:
        """Call every subscriber; an exception stops the caller, as its transaction must not half-happen."""
        return [function(**facts) for function in self._subscribers]


cloud_account_connected = Hook("cloud_account_connected")  # actor, account
cloud_account_resync = Hook("cloud_account_resync")  # actor, account -> operation
cloud_account_disconnecting = Hook("cloud_account_disconnecting")  # actor, account
access_denied = Hook("access_denied")  # actor, permission, what, where, times
notice = Hook("notice")  # event, subject, body, url, dedupe_key, organization_id: what `notifications.notify` takes
mail_wanted = Hook("mail_wanted")  # organization_id, address, subject, body, url, button: one e-mail through the outbox
task_started = Hook("task_started")  # task
task_ended = Hook("task_ended")  # task
personal_data = Hook("personal_data")  # user -> list of (file name, rows): what an app keeps about a person
person_deleted = Hook("person_deleted")  # user_id
organization_closing = Hook("organization_closing")  # actor, organization_id: stop doing things by yourself
organization_closed = Hook("organization_closed")  # actor, organization_id: drop what must not outlive it
