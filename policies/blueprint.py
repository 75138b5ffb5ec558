"""A node template as plain data: what may be launched. Pure; the engine, the enforcers and the exchange work on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from clusters.analysis.composition import family_of
from clusters.analysis.drift import TemplateRules
from clusters.analysis.facts import Lifecycle, Taint
from policies.enums import Architecture, DiskType, Purchasing, Strategy

CAPACITY = {
    Purchasing.SPOT: frozenset({Lifecycle.SPOT}),
    Purchasing.ON_DEMAND: frozenset({Lifecycle.ON_DEMAND}),
    Purchasing.HYBRID: frozenset({Lifecycle.SPOT, Lifecycle.ON_DEMAND}),
}


def size_of(instance_type: str) -> str:
    """The size in a type's name: `2xlarge` of `m5.2xlarge`."""
    return instance_type.rpartition(".")[2] if "." in instance_type else instance_type.rpartition("-")[2]


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What a node template allows and how its nodes are made. Empty families, architectures, zones: any of them.

    `on_demand_base` nodes are bought on demand first, then `on_demand_percent` of the rest; both only when hybrid.
    `limit_cpu` (cores) and `limit_memory_gib` bound all its nodes together; None is no bound.
    """

    name: str
    id: str = ""
    architectures: frozenset[Architecture] = frozenset()
    families: frozenset[str] = frozenset()
    excluded_sizes: frozenset[str] = frozenset()
    purchasing: Purchasing = Purchasing.SPOT
    strategy: Strategy = Strategy.CAPACITY_OPTIMIZED
    on_demand_base: int = 0
    on_demand_percent: int = 0
    disk_type: DiskType = DiskType.GP3
    disk_gib: int = 100
    security_groups: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    taints: tuple[Taint, ...] = ()
    node_role: str = ""
    image: str = "al2023@latest"
    limit_cpu: int | None = None
    limit_memory_gib: int | None = None
    weight: int = field(default=10)

    def allows_type(self, instance_type: str, architectures: Iterable[str] = ()) -> bool:
        """Whether nodes of this type may be launched; `architectures` are what the type can run, empty when unknown."""
        if self.families and family_of(instance_type) not in self.families:
            return False
        if size_of(instance_type) in self.excluded_sizes:
            return False
        known = set(architectures)
        return not (self.architectures and known) or bool(known & set(self.architectures))

    @property
    def lifecycles(self) -> frozenset[Lifecycle]:
        """How its nodes may be bought."""
        return CAPACITY[self.purchasing]

    def rules(self) -> TemplateRules:
        """What drift is judged by."""
        return TemplateRules(
            name=self.name,
            families=self.families,
            excluded_sizes=self.excluded_sizes,
            architectures=frozenset(str(a) for a in self.architectures),
            lifecycles=self.lifecycles,
            zones=frozenset(self.zones),
            labels=self.labels,
            taints=self.taints,
        )
