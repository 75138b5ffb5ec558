"""A hundred clicks from twenty threads at one node. Run as a script it makes its own SQLite file: the test database of
SQLite lives in memory, where locks do not wait.
"""

from __future__ import annotations

import json
import threading
from typing import Any

THREADS, CLICKS = 20, 5


def storm(actor: Any, node_id: Any) -> list[str]:
    """The operation ids that the clicks were answered with, and every error's words."""
    from django.db import connection

    from cloudnodes import services

    found: list[str] = []
    ready = threading.Barrier(THREADS)

    def click() -> None:
        ready.wait()
        try:
            for _ in range(CLICKS):
                try:
                    found.append(str(services.request_start(actor=actor, node_id=node_id).id))
                except Exception as error:
                    found.append(repr(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=click) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def main() -> None:
    import django

    django.setup()
    from cloudnodes import services
    from core import clock
    from operations.models import Operation
    from tests.cloudnodes.cloud import MemoryCloud
    from tests.personas import make_account, make_organization, make_person

    person = make_person("olga", make_organization("Larkspur"), "operator")
    account = make_account(person.organization)
    cloud = MemoryCloud()
    cloud.add()
    services.sync_discovered(account=account, instances=cloud.discover(), at=clock.now())
    from cloudnodes.models import CloudNode

    found = storm(person.actor, CloudNode.objects.all_orgs().get().id)
    rows = [str(i) for i in Operation.objects.all_orgs().values_list("id", flat=True)]
    print(json.dumps({"found": found, "rows": rows}))  # noqa: T201  the answer to the test


if __name__ == "__main__":
    main()
