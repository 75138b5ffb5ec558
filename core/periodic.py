"""The platform's own fixed sweeps; each app registers its own in `AppConfig.ready()`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Periodic:
    """Run the Celery task `task` every `seconds`; `name` starts with "curfew: "."""

    name: str
    task: str
    seconds: int


_tasks: dict[str, Periodic] = {}


def register(task: str, seconds: int) -> None:
    name = f"curfew: {task}"
    _tasks[name] = Periodic(name, task, seconds)


def all_tasks() -> list[Periodic]:
    return list(_tasks.values())
