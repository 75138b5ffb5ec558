"""One process of `test_kill`: `python -m tests.notifications.sender <prepare|deliver> <arguments>`."""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta
from uuid import UUID

import django

import tests.env  # noqa: F401  keys, before Django reads its settings

django.setup()

from accounts.models import Organization  # noqa: E402
from core.actor import Actor  # noqa: E402
from notifications import services  # noqa: E402
from notifications.enums import State  # noqa: E402
from notifications.models import Delivery  # noqa: E402
from notifications.services import delivering  # noqa: E402

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


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(sys.argv[2], int(sys.argv[3]))
    else:
        deliver()
