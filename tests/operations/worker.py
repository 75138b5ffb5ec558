"""One process of `test_processes`, forked by its nursery: `main(what, *arguments)` prints one JSON line."""

from __future__ import annotations

import json
import sys
import time
from typing import Any
from uuid import UUID, uuid4

from accounts.models import Organization
from core.actor import Actor
from core.errors import Conflict
from operations import registry, runner, services
from operations.models import Operation
from operations.registry import BaseExecutor, RunContext

LEASE = 2
manner = ""  # how this process rings
rang: list[str] = []


class Bell(BaseExecutor):
    kind = "bell.ring"
    label = "Ring the bell"
    lease_seconds = LEASE

    def run(self, context: RunContext) -> dict[str, Any]:
        if not context.state.get("pulled"):
            context.checkpoint(pulled=True)
            if manner == "hang":
                say("hanging")
                time.sleep(600)
            if manner == "slow":
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


def main(what: str, *arguments: str) -> None:
    global manner
    manner = what
    registry.register(Bell())
    say(json.dumps(answer(what, arguments)))


def answer(what: str, arguments: tuple[str, ...]) -> dict[str, Any]:
    if what == "request":
        return {"ids": [str(ask(uuid4()).id) for _ in range(int(arguments[0]))]}
    if what == "ask":
        try:
            return {"made": str(ask(UUID(arguments[0]), *arguments[1:]).id), "conflict": None}
        except Conflict as refused:
            return {"made": None, "conflict": refused.extra["operation"]}
    if what == "loaded":
        return {"loaded": [name for name in arguments if name in sys.modules]}
    if what == "name":
        return {"name": runner.owner_name()}
    if what == "reap":
        return {"reaped": runner.reap_expired()}
    if what == "show":
        rows = Operation.objects.all_orgs().filter(id__in=arguments)
        return {"rows": [{"status": r.status, "fence": r.fence, "state": r.state} for r in rows]}
    outcomes = [runner.run_operation(name) for name in arguments]
    return {"rang": rang, "outcome": outcomes[-1]}
