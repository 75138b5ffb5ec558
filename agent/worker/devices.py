"""Which of the machine's GPUs belong to which container, and what these do.

Docker's own count would give every container the first ones.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

from agent.machine.gpus import Gpu

REMOVED_WITHIN = 30.0


class Reader(Protocol):
    """What reads all GPUs: agent.machine.gpus.Gpus."""

    def read(self) -> list[Gpu] | None: ...


class Devices:
    """Gives GPUs out by number, each to one container at a time."""

    def __init__(self, count: int, reader: Reader) -> None:
        self.count, self.reader = count, reader
        self._of: dict[str, tuple[int, ...]] = {}
        self._changed = threading.Condition()

    def take(self, task: str, many: int) -> tuple[int, ...]:
        """Numbers of GPUs for a task, the same when it asks again; waits for a container that is just being removed.

        () when so many do not become free.
        """
        if not many:
            return ()
        with self._changed:
            if task not in self._of and self._changed.wait_for(lambda: len(self._free()) >= many, REMOVED_WITHIN):
                self._of[task] = self._free()[:many]
            return self._of.get(task, ())

    def _free(self) -> tuple[int, ...]:
        taken = {number for numbers in self._of.values() for number in numbers}
        return tuple(number for number in range(self.count) if number not in taken)

    def hold(self, task: str, numbers: Sequence[int]) -> None:
        """A container of an earlier process has these."""
        with self._changed:
            self._of[task] = tuple(numbers)

    def give_back(self, task: str) -> None:
        with self._changed:
            self._of.pop(task, None)
            self._changed.notify_all()

    def figures(self, task: str) -> dict[str, float]:
        """Mean load in percent and memory in MB of a task's GPUs; what cannot be read is left out."""
        numbers = self._of.get(task, ())
        return figures([every[n] for n in numbers if n < len(every)]) if numbers and (every := self.all()) else {}

    def all(self) -> list[Gpu]:
        return self.reader.read() or []


def figures(gpus: Sequence[Gpu]) -> dict[str, float]:
    """Mean load and memory together; a figure that one of them does not tell is left out."""
    loads, held = [gpu.load for gpu in gpus], [gpu.memory_used for gpu in gpus]
    found: dict[str, float] = {}
    if gpus and None not in loads:
        found["gpu"] = sum(load or 0.0 for load in loads) / len(gpus)
    if gpus and None not in held:
        found["gpu_memory"] = sum(memory or 0.0 for memory in held)
    return found
