"""Which queued task a worker takes: the first by priority and age that fits what is free. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Resources:
    """CPU in millicores, memory and storage in MiB, GPUs in pieces."""

    cpu: int = 0
    memory: int = 0
    storage: int = 0
    gpus: int = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(
            self.cpu + other.cpu, self.memory + other.memory, self.storage + other.storage, self.gpus + other.gpus
        )

    def __sub__(self, other: Resources) -> Resources:
        return Resources(
            self.cpu - other.cpu, self.memory - other.memory, self.storage - other.storage, self.gpus - other.gpus
        )

    @property
    def cores(self) -> float:
        return self.cpu / 1000

    def holds(self, need: Resources) -> bool:
        return (
            need.cpu <= self.cpu
            and need.memory <= self.memory
            and need.storage <= self.storage
            and need.gpus <= self.gpus
        )


@dataclass(frozen=True, slots=True)
class Wish:
    """What a task asks of a worker."""

    resources: Resources
    labels: Mapping[str, str] = field(default_factory=dict)


def fits(wish: Wish, free: Resources, labels: Mapping[str, str]) -> bool:
    """Whether a worker with this much free and these labels may run it."""
    return free.holds(wish.resources) and all(labels.get(key) == value for key, value in wish.labels.items())


def misfit(wish: Wish, capacity: Resources, labels: Mapping[str, str]) -> str:
    """Why a worker can never run it, in words; "" when it can once it is free."""
    for key, value in wish.labels.items():
        if labels.get(key) != value:
            return f"has no label {key}={value}"
    for name, need, have, unit in (
        ("CPU", wish.resources.cpu / 1000, capacity.cpu / 1000, " cores"),
        ("memory", wish.resources.memory, capacity.memory, " MiB"),
        ("storage", wish.resources.storage, capacity.storage, " MiB"),
        ("GPUs", wish.resources.gpus, capacity.gpus, ""),
    ):
        if need > have:
            return f"offers {have:g}{unit} {name}, it needs {need:g}{unit}"
    return ""


def total(parts: Iterable[Resources]) -> Resources:
    """The sum of all."""
    whole = Resources()
    for part in parts:
        whole = whole + part
    return whole
