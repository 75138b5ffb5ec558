"""What a node template can launch, what in it cannot be, and what it costs on average. Pure, from the catalogue alone.

Nothing here is a list of known pairs: every sentence follows from the specifications of the types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum

from policies.blueprint import Blueprint
from policies.catalogue import Catalogue, InstanceType
from policies.enums import Architecture, DiskType, Purchasing

ARCH_WORDS = {Architecture.AMD64: "x86", Architecture.ARM64: "ARM64"}
DISK_LIMITS = {
    DiskType.GP2: (1, 16384),
    DiskType.GP3: (1, 16384),
    DiskType.IO1: (4, 16384),
    DiskType.IO2: (4, 65536),
}
"""Sizes of a volume in GiB, as EBS allows them."""

SMALLEST_DISK = 20
"""What the image and a few containers need, in GiB."""

SMALLEST_MIB = 400
"""A node that leaves pods less memory than this holds the system's own pods and little else."""


class Weight(StrEnum):
    """With a blocking one nothing at all could be launched; a conflict keeps out what it names; a warning may be meant."""

    BLOCKING = "blocking"
    CONFLICT = "conflict"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Conflict:
    """Something that cannot be, or is probably not meant. `field` is the template's, `subject` a family or a size."""

    field: str
    text: str
    weight: Weight = Weight.BLOCKING
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Quote:
    """What one type costs an hour; None is not known."""

    on_demand: Decimal | None = None
    spot: Decimal | None = None
    source: str = ""
    as_of: date | None = None


@dataclass(frozen=True, slots=True)
class Average:
    """The average price of what may be launched. `hourly` is None when no type has a price.

    `priced` of `types` have one. Hybrid averages spot and on-demand by the share that is bought of each beyond the base.
    """

    hourly: Decimal | None
    per_vcpu: Decimal | None
    priced: int
    types: int
    cheapest: str = ""
    source: str = ""
    as_of: date | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a template: the types it may launch, its conflicts and its average price."""

    types: tuple[InstanceType, ...]
    conflicts: tuple[Conflict, ...]
    average: Average
    unknown: tuple[str, ...] = field(default=())

    @property
    def blocked(self) -> bool:
        return any(one.weight is Weight.BLOCKING for one in self.conflicts)


def allowed_types(blueprint: Blueprint, catalogue: Catalogue) -> tuple[InstanceType, ...]:
    """Every type of the catalogue that the template allows and that can be bought as it asks, the smallest first."""
    found = [
        one
        for one in catalogue.types.values()
        if blueprint.allows_type(one.name, (one.architecture,))
        and (blueprint.purchasing is not Purchasing.SPOT or one.spot)
        and (blueprint.disk_type is not DiskType.EPHEMERAL or one.local_disk_gb)
    ]
    return tuple(sorted(found, key=lambda t: (t.vcpu, t.memory_mib, t.name)))


def judge(blueprint: Blueprint, catalogue: Catalogue, quotes: Mapping[str, Quote]) -> Verdict:
    """Look at a template as it is being written. `quotes` are by type; those that are missing have no price."""
    families = catalogue.families()
    types = allowed_types(blueprint, catalogue)
    unknown = tuple(sorted(family for family in blueprint.families if family not in families))
    conflicts: list[Conflict] = [
        Conflict("families", f"{family} is not in the catalogue: nothing is known of it.", Weight.WARNING, family)
        for family in unknown
    ]
    for family in sorted(blueprint.families - set(unknown)):
        conflicts += _of_family(blueprint, family, families[family])
    conflicts += _of_whole(blueprint, types, families)
    conflicts += _of_disk(blueprint)
    conflicts += _of_purchase(blueprint)
    return Verdict(types, tuple(conflicts), average(blueprint, types, quotes), unknown)


def _of_family(blueprint: Blueprint, family: str, types: Sequence[InstanceType]) -> list[Conflict]:
    """Why no type of this family can be launched; the first reason that empties it."""
    left = list(types)
    if blueprint.architectures:
        wanted = " or ".join(ARCH_WORDS[a] for a in sorted(blueprint.architectures))
        left = [t for t in left if t.architecture in blueprint.architectures]
        if not left:
            made = ARCH_WORDS[types[0].architecture]
            text = f"Instance type {family} is incompatible with {wanted}: it is made for {made} only."
            return [Conflict("architectures", text, Weight.CONFLICT, family)]
    if blueprint.purchasing is Purchasing.SPOT:
        left = [t for t in left if t.spot]
        if not left:
            text = f"{family} is not sold as spot: with Spot Only nothing of it can be launched."
            return [Conflict("purchasing", text, Weight.CONFLICT, family)]
    if blueprint.disk_type is DiskType.EPHEMERAL:
        left = [t for t in left if t.local_disk_gb]
        if not left:
            text = f"{family} has no disk of its own: an ephemeral disk is not possible."
            return [Conflict("disk_type", text, Weight.CONFLICT, family)]
    if blueprint.excluded_sizes and not [t for t in left if t.size not in blueprint.excluded_sizes]:
        text = f"Every size of {family} that is left ({_some(sorted({t.size for t in left}))}) is excluded."
        return [Conflict("excluded_sizes", text, Weight.CONFLICT, family)]
    return []


def _of_whole(
    blueprint: Blueprint, types: Sequence[InstanceType], families: Mapping[str, Sequence[InstanceType]]
) -> list[Conflict]:
    found = []
    for arch in sorted(blueprint.architectures):
        mine = [f for f in blueprint.families if any(t.architecture is arch for t in families.get(f, ()))]
        if blueprint.families and not mine and len(blueprint.architectures) > 1:
            text = f"{ARCH_WORDS[arch]} is chosen, but none of the families is made for it."
            found.append(Conflict("architectures", text, Weight.WARNING, str(arch)))
    strange = sorted(blueprint.excluded_sizes - {t.size for rows in families.values() for t in rows})
    if strange:
        text = f"No instance type has the size {_some(strange)}."
        found.append(Conflict("excluded_sizes", text, Weight.WARNING, strange[0]))
    if not types:
        found.append(Conflict("families", "No instance type is left that this template allows."))
    small = [t.name for t in types if t.allocatable_mib is not None and t.allocatable_mib < SMALLEST_MIB]
    if small:
        text = f"{_some(small)} leaves pods less than {SMALLEST_MIB} MiB of memory; exclude the size {_some(_sizes(small))}."
        found.append(Conflict("excluded_sizes", text, Weight.WARNING, small[0]))
    wide = [t for t in types if blueprint.limit_cpu is not None and t.vcpu > blueprint.limit_cpu]
    if types and len(wide) == len(types):
        found.append(
            Conflict("limit_cpu", f"Every type has more than {blueprint.limit_cpu} vCPU, the limit of all nodes.")
        )
    return found


def _of_disk(blueprint: Blueprint) -> list[Conflict]:
    if blueprint.disk_type is DiskType.EPHEMERAL:
        return []
    least, most = DISK_LIMITS[blueprint.disk_type]
    if not least <= blueprint.disk_gib <= most:
        return [Conflict("disk_gib", f"{blueprint.disk_type} disks are {least} to {most} GiB large.")]
    if blueprint.disk_gib < SMALLEST_DISK:
        return [
            Conflict(
                "disk_gib",
                f"{blueprint.disk_gib} GiB hold the image and hardly any containers; take at least {SMALLEST_DISK}.",
                Weight.WARNING,
            )
        ]
    return []


def _of_purchase(blueprint: Blueprint) -> list[Conflict]:
    if blueprint.purchasing is not Purchasing.HYBRID:
        return []
    if blueprint.on_demand_percent == 100:
        text = "100 % on demand leaves no spot nodes: choose On-Demand instead."
        return [Conflict("on_demand_percent", text, Weight.WARNING)]
    if not blueprint.on_demand_base and not blueprint.on_demand_percent:
        text = "Without a base and a percentage every node is spot: stateful pods have no on-demand node to run on."
        return [Conflict("on_demand_base", text, Weight.WARNING)]
    return []


def average(blueprint: Blueprint, types: Sequence[InstanceType], quotes: Mapping[str, Quote]) -> Average:
    """The mean price of the types that have one, weighing none of them more than another."""
    prices: list[tuple[Decimal, InstanceType, Quote]] = []
    for one in types:
        quote = quotes.get(one.name)
        price = _price(blueprint, quote) if quote else None
        if price is not None and quote is not None:
            prices.append((price, one, quote))
    if not prices:
        return Average(None, None, 0, len(types))
    total = sum((price for price, _, _ in prices), Decimal(0))
    cores = sum(one.vcpu for _, one, _ in prices)
    cheapest = min(prices, key=lambda row: (row[0], row[1].name))
    dates = [quote.as_of for _, _, quote in prices if quote.as_of]
    sources = sorted({quote.source for _, _, quote in prices})
    return Average(
        hourly=total / len(prices),
        per_vcpu=total / cores if cores else None,
        priced=len(prices),
        types=len(types),
        cheapest=cheapest[1].name,
        source="; ".join(sources),
        as_of=min(dates) if dates else None,
    )


def _price(blueprint: Blueprint, quote: Quote) -> Decimal | None:
    match blueprint.purchasing:
        case Purchasing.ON_DEMAND:
            return quote.on_demand
        case Purchasing.SPOT:
            return quote.spot
        case _:
            if quote.on_demand is None or quote.spot is None:
                return None
            share = Decimal(blueprint.on_demand_percent) / 100
            return quote.on_demand * share + quote.spot * (1 - share)


def _sizes(names: Sequence[str]) -> list[str]:
    return sorted({name.rpartition(".")[2] for name in names})


def _some(words: Sequence[str], most: int = 4) -> str:
    shown = ", ".join(words[:most])
    return f"{shown} and {len(words) - most} more" if len(words) > most else shown
