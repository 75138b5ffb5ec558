"""Which clusters the sandbox has, what runs in them, and how busy they are at a moment. Pure and repeatable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("America/New_York")
MIB, GIB = 1024**2, 1024**3
# type -> cores, GiB
TYPES = {"m5.large": (2, 8), "m5.xlarge": (4, 16), "c5.2xlarge": (8, 16)}


@dataclass(frozen=True, slots=True)
class Group:
    """Machines of one kind; without word from the cloud it holds between `least` and `most` of them."""

    name: str
    type: str
    lifecycle: str
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class App:
    """A workload: replicas when quiet and when busy, what each requests, and the share of it that is really used."""

    namespace: str
    kind: str
    name: str
    quiet: int
    busy: int
    cpu: int
    memory: int
    group: str
    use: float = 0.3
    budget: int = 0


@dataclass(frozen=True, slots=True)
class Fleet:
    """One simulated cluster. `rhythm` is day (people at work) or night (renders after work)."""

    name: str
    region: str
    version: str
    rhythm: str
    groups: tuple[Group, ...]
    apps: tuple[App, ...]

    @property
    def uid(self) -> str:
        return f"5a9dbox0-{self.name}"

    def load(self, at: datetime) -> float:
        """How busy it is, 0 to 1."""
        local = at.astimezone(ZONE)
        hour = local.hour + local.minute / 60
        if self.rhythm == "night":
            shape = max(0.0, math.cos((hour - 1) / 24 * 2 * math.pi)) ** 0.7
            return min(1.0, 0.08 + 0.9 * shape * (0.55 if local.weekday() == 6 else 1.0))
        if local.weekday() >= 5:
            return 0.06
        shape = max(0.0, math.sin((hour - 7) / 13 * math.pi)) if 7 <= hour <= 20 else 0.0
        return min(1.0, 0.05 + 0.9 * shape)


def _system(count: int) -> tuple[App, ...]:
    return (
        App("kube-system", "Deployment", "coredns", 2, 2, 100, 70 * MIB, "", 0.2, budget=1),
        App("kube-system", "Deployment", "metrics-server", 1, 1, 100, 200 * MIB, "", 0.4),
        App("curfew", "Deployment", "curfew-agent", count, count, 50, 96 * MIB, "", 0.3),
    )


FLEETS: tuple[Fleet, ...] = (
    Fleet(
        "lark-prod",
        "us-east-1",
        "v1.33.4-eks-3025e55",
        "day",
        (Group("general", "m5.xlarge", "on-demand", 2, 6), Group("burst", "c5.2xlarge", "spot", 0, 12)),
        (
            *_system(1),
            App("web", "Deployment", "storefront", 3, 6, 500, 512 * MIB, "general", 0.35, budget=2),
            App("web", "Deployment", "review-api", 2, 4, 500, 768 * MIB, "general", 0.25, budget=1),
            App("data", "StatefulSet", "assets-db", 2, 2, 1000, 4 * GIB, "general", 0.4, budget=1),
            App("data", "StatefulSet", "cache", 1, 1, 250, 2 * GIB, "general", 0.3),
            App("compositing", "Deployment", "comp-worker", 1, 16, 2000, 3 * GIB, "burst", 0.7),
            App("analytics", "Deployment", "warehouse-loader", 2, 3, 2000, 3 * GIB, "burst", 0.08),
        ),
    ),
    Fleet(
        "lark-dev",
        "us-east-1",
        "v1.31.9-eks-5ca49cb",
        "day",
        (Group("default", "m5.large", "on-demand", 1, 4),),
        (
            *_system(1),
            App("preview", "Deployment", "storefront-preview", 1, 3, 250, 512 * MIB, "default", 0.2),
            App("preview", "Deployment", "review-preview", 1, 3, 250, 512 * MIB, "default", 0.2),
            App("ci", "Deployment", "runner", 0, 4, 800, 1 * GIB, "default", 0.6),
            App("ci", "StatefulSet", "registry", 1, 1, 250, 1 * GIB, "default", 0.2),
        ),
    ),
    Fleet(
        "farm-west",
        "us-west-2",
        "v1.34.1-eks-113cf36",
        "night",
        (Group("render", "c5.2xlarge", "spot", 0, 40),),
        (
            *_system(1),
            App("render", "Deployment", "frame-worker", 4, 60, 3500, 6 * GIB, "render", 0.9),
            App("render", "Deployment", "queue", 1, 1, 500, 1 * GIB, "render", 0.3),
        ),
    ),
)


def fleet_named(arn: str) -> Fleet | None:
    """The simulated cluster behind an EKS ARN; None when the sandbox simulates none there."""
    parts = arn.split(":", 5)
    if len(parts) != 6:
        return None
    name = parts[5].partition("/")[2]
    return next((fleet for fleet in FLEETS if (fleet.name, fleet.region) == (name, parts[3])), None)
