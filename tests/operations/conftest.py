"""An executor whose behaviour each test says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID, uuid4

import pytest

from operations import registry, services
from operations.models import Operation
from operations.registry import BaseExecutor, RunContext
from tests.personas import Persona


class Bell(BaseExecutor):
    """Rings: runs `does` and remembers what it saw."""

    kind = "bell.ring"
    label = "Ring the bell"
    permission = "nodes.operate"
    max_attempts = 3
    lease_seconds = 30

    def __init__(self) -> None:
        self.does: Callable[[RunContext], Mapping[str, Any] | None] = lambda context: {"rung": True}
        self.ended: list[tuple[UUID, str]] = []
        self.runs = 0

    def run(self, context: RunContext) -> Mapping[str, Any] | None:
        self.runs += 1
        return self.does(context)

    def finished(self, operation: Operation) -> None:
        self.ended.append((operation.id, operation.status))

    def subject(self, operation: Operation) -> str:
        return "tower"


@pytest.fixture
def bell(monkeypatch: pytest.MonkeyPatch) -> Bell:
    """The only registered executor during the test."""
    executor = Bell()
    monkeypatch.setattr(registry, "_executors", {executor.kind: executor})
    return executor


def ring(persona: Persona, resource: UUID | None = None, **fields: Any) -> Operation:
    facts = {
        "kind": "bell.ring",
        "resource_kind": "bell",
        "resource_id": resource or uuid4(),
        "resource_label": "the great bell",
        "subject": "tower",
    }
    return services.request_operation(actor=persona.actor, **{**facts, **fields})
