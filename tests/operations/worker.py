"""One process of `test_processes`: `python -m tests.operations.worker <what> <arguments>` prints one JSON line."""

from __future__ import annotations

import json
import sys
import time
from typing import Any
from uuid import UUID, uuid4

import django

import tests.env  # noqa: F401  keys, before Django reads its settings

django.setup()

from accounts.models import Organization  # noqa: E402
from core.actor import Actor  # noqa: E402
from core.errors import Conflict  # noqa: E402
from operations import registry, runner, services  # noqa: E402
from operations.models import Operation  # noqa: E402
from operations.registry import BaseExecutor, RunContext  # noqa: E402

LEASE = 2
rang: list[str] = []


class Bell(BaseExecutor):
    kind = "bell.ring"
    label = "Ring the bell"
    lease_seconds = LEASE

    def run(self, context: RunContext) -> dict[str, Any]:
        if not context.state.get("pulled"):
            context.checkpoint(pulled=True)
            if "hang" in sys.argv:
                say("hanging")
                time.sleep(600)
            if "slow" in sys.argv:
                say("ringing")
                time.sleep(3 * LEASE)
        rang.append(str(context.operation.id))
        return {}


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def actor() -> Actor:
    organization, _ = Organization.objects.get_or_create(id=UUID(int=7), defaults={"name": "Larkspur"})
    return Actor.system("bell_ringer", organization.id)


def ask(resource: UUID, key: str = "") -> Operation:
    return services.request_operation(
        actor=actor(),
        kind="bell.ring",
        resource_kind="bell",
        resource_id=resource,
        resource_label="the great bell",
        idempotency_key=key or None,
    )


def main(what: str, arguments: list[str]) -> dict[str, Any]:
    if what == "request":
        return {"ids": [str(ask(uuid4()).id) for _ in range(int(arguments[0]))]}
    if what == "ask":
        try:
            return {"made": str(ask(UUID(arguments[0]), *arguments[1:]).id), "conflict": None}
        except Conflict as refused:
            return {"made": None, "conflict": refused.extra["operation"]}
    if what == "reap":
        return {"reaped": runner.reap_expired()}
    if what == "show":
        rows = Operation.objects.all_orgs().filter(id__in=arguments)
        return {"rows": [{"status": r.status, "fence": r.fence, "state": r.state} for r in rows]}
    outcomes = [runner.run_operation(name) for name in arguments]
    return {"rang": rang, "outcome": outcomes[-1]}


if __name__ == "__main__":
    registry.register(Bell())
    say(json.dumps(main(sys.argv[1], sys.argv[2:])))
