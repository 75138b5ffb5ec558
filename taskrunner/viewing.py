"""What pages of tasks and workers show: words, badges, charts."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from core import clock
from taskrunner.enums import HELD, Status
from taskrunner.models import Task, Worker
from taskrunner.selectors import LogView, WorkerLine

# status -> (css state of the badge, icon)
_BADGES: dict[str, tuple[str, str]] = {
    Status.WAITING: ("asleep", "hourglass"),
    Status.QUEUED: ("asleep", "clock"),
    Status.CLAIMED: ("waking", "loader"),
    Status.RUNNING: ("awake", "player-play"),
    Status.SUCCEEDED: ("awake", "circle-check"),
    Status.FAILED: ("trouble", "alert-triangle"),
    Status.CANCELLED: ("unmanaged", "player-stop"),
}
_HEALTH: dict[str, tuple[str, str, str]] = {
    "active": ("awake", "activity", "Active"),
    "idle": ("awake", "sun", "Idle"),
    "overloaded": ("waking", "flame", "Overloaded"),
    "cordoned": ("unmanaged", "ban", "Takes nothing new"),
    "draining": ("falling", "logout", "Draining"),
    "lost": ("lost", "plug-connected-x", "Lost"),
}


def badge(task: Task) -> dict[str, str]:
    """Word, colour and icon of a task's state."""
    state, icon = _BADGES[task.status]
    label = "Cancelling" if task.cancel_requested_at and task.status in HELD else Status(task.status).label
    return {"state": state, "icon": icon, "label": str(label)}


def health(line: WorkerLine) -> dict[str, str]:
    state, icon, label = _HEALTH[line.health]
    return {"state": state, "icon": icon, "label": label}


def row(task: Task) -> dict[str, Any]:
    """One line of the list."""
    return {"task": task, "badge": badge(task), "seconds": seconds(task), "held": task.status in HELD}


def seconds(task: Task) -> int | None:
    """How long it has run; None before it started."""
    if task.started_at is None:
        return None
    return max(0, int(((task.finished_at or clock.now()) - task.started_at).total_seconds()))


def topology(lines: Sequence[WorkerLine]) -> list[dict[str, Any]]:
    """Where workers connect from: each network with its workers, by address; clusters apart, unknown places last."""
    networks: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for line in lines:
        node = {"line": line, "badge": health(line), "is_lost": line.health == "lost"}
        networks.setdefault(_network(line.worker), []).append(node)
    return [
        {"icon": _PLACES[rank], "name": name, "nodes": nodes, "is_lost": all(node["is_lost"] for node in nodes)}
        for (rank, name), nodes in sorted(networks.items())
    ]


_PLACES = ("network", "hexagons", "server-2")


def _network(worker: Worker) -> tuple[int, str]:
    if worker.sleepable_kind == "cluster":
        return 1, "Clusters, reached by Curfew"
    try:
        address = ip_address(worker.address)
    except ValueError:
        return 2, "Not heard of yet"
    mapped = getattr(address, "ipv4_mapped", None) or address
    if mapped.is_loopback:
        return 0, "This machine"
    return 0, str(ip_network(f"{mapped}/{24 if mapped.version == 4 else 64}", strict=False))


def log_rows(view: LogView) -> list[dict[str, Any]]:
    """The lines that a page shows without scripts."""
    return [
        {"n": line.number + 1, "s": "e" if line.stream == "stderr" else "o", "at": line.at, "text": line.text}
        for line in view.lines
    ]


_CHARTS = (
    ("cpu", "CPU", "cores", 0.01),
    ("memory", "Memory", "MiB", 1),
    ("gpu", "GPU", "%", 1),
    ("gpu_memory", "GPU memory", "MB", 1),
    ("network_in", "Received", "MB/s", 1e-6),
    ("network_out", "Sent", "MB/s", 1e-6),
    ("disk_read", "Read", "MB/s", 1e-6),
    ("disk_write", "Written", "MB/s", 1e-6),
)


def _told(value: float) -> str:
    """Two decimals, more for what is very little: a thousandth of a core is not nothing."""
    return f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.4f}".rstrip("0").rstrip(".")


def charts(samples: Sequence[dict[str, Any]], prefix: str) -> list[dict[str, Any]]:
    """One chart for each figure that was reported at all."""
    made = []
    for name, label, unit, factor in _CHARTS:
        points = [(s["at"], s[name] * factor) for s in samples if s[name] is not None]
        if len(points) < 2:
            continue
        newest = points[-1][1]
        made.append(
            {
                "id": f"{prefix}-{name}",
                "kind": "lines",
                "size": "s",
                "title": label,
                "newest": f"{_told(newest)} {unit}",
                "label": f"{label} over time, now {_told(newest)} {unit}, at most {_told(max(v for _, v in points))} {unit}",
                "data": {
                    "unit": f" {unit}",
                    "x": [at.isoformat() for at, _ in points],
                    "series": [{"name": label, "data": [round(v, 4) for _, v in points]}],
                },
                "table": {
                    "head": ["Time", f"{label}, {unit}"],
                    "rows": [[at.strftime("%H:%M:%S"), _told(v)] for at, v in points[-60:]],
                },
            }
        )
    return made
