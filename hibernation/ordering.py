"""What `manage.py sleep` and `manage.py wake` share: find a sleepable, order, and see it through in this process, with the
database alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import UUID

from core import clock, sleepable
from core.actor import Actor
from core.errors import CurfewError
from core.sleepable import SleepableView
from operations import runner
from operations.enums import ACTIVE, Status
from operations.models import Operation

LONGEST_NAP = 5.0


def find(kind: str, name: str) -> SleepableView:
    """The one sleepable of that kind with this id or name. Raises CurfewError when there is none, or several."""
    views = sleepable.kind_named(kind).list(Actor.system("command_line"))
    found = [view for view in views if name in (str(view.id), view.name)]
    if len(found) != 1:
        words = "There is no" if not found else "There are several"
        raise CurfewError(f"{words} {kind} called {name!r}." + (" Give the id." if found else ""))
    return found[0]


def see_through(operation_id: UUID, say: Callable[[str], None]) -> Operation:
    """Run an operation here until it has ended, also when no worker and no broker runs; one that a live worker holds is
    watched."""
    told = ""
    while True:
        operation = Operation.objects.all_orgs().get(id=operation_id)
        if operation.status not in ACTIVE:
            return operation
        if operation.step and operation.step != told:
            told = operation.step
            say(told)
        wait = (operation.not_before - clock.now()).total_seconds()
        if operation.status == Status.RUNNING:
            runner.reap_expired()
            time.sleep(1.0)
        elif wait > 0:
            time.sleep(min(LONGEST_NAP, wait))
        else:
            runner.run_operation(operation_id)


def outcome(operation: Operation) -> str:
    """How it ended, in a sentence."""
    if operation.status == Status.SUCCEEDED:
        return f"{operation.resource_label}: done in {operation.elapsed.total_seconds():.0f} s."
    return f"{operation.resource_label}: {operation.status}. {operation.error} {operation.next_step}".strip()
