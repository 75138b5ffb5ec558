"""One process of `test_kill`, forked by its nursery: `main("prepare", url, count)` or `main("deliver")`."""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta
from uuid import UUID

from accounts.models import Organization
from core.actor import Actor
from notifications import services
from notifications.enums import State
from notifications.models import Delivery
from notifications.services import delivering

delivering.LEASE = timedelta(seconds=1)


def prepare(url: str, count: int) -> None:
    """One channel and some messages for it; their ids."""
    house, _ = Organization.objects.get_or_create(id=UUID(int=9), defaults={"name": "Larkspur"})
    actor = Actor.system("tests", house.id)
    services.add_channel(actor=actor, name="hook", kind="webhook", url=url, hourly_limit=1000)
    for number in range(count):
        services.notify(actor=actor, event="operation.failed", subject=f"Message {number}")
    ids = [str(pk) for pk in Delivery.objects.for_org(house).values_list("id", flat=True)]
    sys.stdout.write(json.dumps(ids) + "\n")


def deliver() -> None:
    """Send until everything has arrived, as the worker's beat does."""
    while Delivery.objects.all_orgs().exclude(state=State.SENT).exists():
        services.deliver_due(limit=1)
        time.sleep(0.05)


def main(what: str, url: str = "", count: str = "0") -> None:
    if what == "prepare":
        prepare(url, int(count))
    else:
        deliver()
