"""Where the pods of a trace run when the trace does not say: best fit by CPU, memory and GPU shares."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field

from agent.cluster.traces import GPU, GPU_SHARE, Trace, TraceNode, TracePod

_WHOLE = 1000


@dataclass(slots=True)
class _Room:
    node: TraceNode
    cpu: int
    memory: int
    gpus: list[int] = field(default_factory=list)

    def fits(self, cpu: int, memory: int, count: int, share: int) -> bool:
        return self.cpu >= cpu and self.memory >= memory and sum(free >= share for free in self.gpus) >= count

    def take(self, cpu: int, memory: int, count: int, share: int) -> None:
        self.cpu -= cpu
        self.memory -= memory
        for _ in range(count):  # the fullest device that still has room
            index = min((i for i, free in enumerate(self.gpus) if free >= share), key=self.gpus.__getitem__)
            self.gpus[index] -= share


def asked(pod: TracePod) -> tuple[int, int, int, int]:
    """Return millicores, bytes, GPUs and thousandths of each GPU that a pod asks for."""
    total = {name: sum(box.requests.get(name, 0) for box in pod.boxes) for name in ("cpu", "memory", GPU, GPU_SHARE)}
    count = total[GPU] or (1 if total[GPU_SHARE] else 0)
    return total["cpu"], total["memory"], count, total[GPU_SHARE] // count if count else 0


def place(trace: Trace, pods: list[TracePod]) -> dict[str, str]:
    """Return the node of each pod that fits, in the order in which the pods were scheduled.

    A node without GPUs is preferred for a pod without; then the least CPU left over, then the name.
    """
    rooms: dict[str, list[tuple[int, str]]] = {}
    by_name: dict[str, _Room] = {}
    for node in trace.nodes:
        gpus = [_WHOLE] * node.amounts.get(GPU, 0)
        by_name[node.name] = _Room(node, node.amounts.get("cpu", 0), node.amounts.get("memory", 0), gpus)
        model = node.labels.get("nvidia.com/gpu.product", "") if gpus else ""
        insort(rooms.setdefault(model, []), (node.amounts.get("cpu", 0), node.name))
    found: dict[str, str] = {}
    for pod in sorted(pods, key=lambda p: (p.scheduled or 0.0, p.name)):
        need = asked(pod)
        wanted = [
            m for m in rooms if (m if need[2] else True) and (not pod.gpu_models or not need[2] or m in pod.gpu_models)
        ]
        for model in sorted(wanted, key=lambda m: (bool(m), m)):
            room = next((by_name[n] for cpu, n in rooms[model] if cpu >= need[0] and by_name[n].fits(*need)), None)
            if room is None:
                continue
            rooms[model].remove((room.cpu, room.node.name))
            room.take(*need)
            insort(rooms[model], (room.cpu, room.node.name))
            found[pod.name] = room.node.name
            break
    return found
