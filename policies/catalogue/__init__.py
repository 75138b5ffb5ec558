"""What is known of AWS instance types: specifications, list prices and the Spot Advisor, each with its date. Pure.

Read once from `types.csv` and `prices.csv` (see `build`). What is not in them is unknown, never guessed. A spot price is
an estimate, list price less what the Spot Advisor says spot saves, and says so in its source.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from functools import cache
from pathlib import Path

from clusters.analysis.composition import family_of
from policies.enums import Architecture

HERE = Path(__file__).parent
REGION = "us-east-1"
LIST = "AWS list price, Linux, on demand"
ADVISOR = "list price less the saving of the Spot Advisor of 2025-06-28 (an estimate)"


class Category(StrEnum):
    """What a family is for, as its letters say."""

    GENERAL = "general"
    COMPUTE = "compute"
    MEMORY = "memory"
    GPU = "gpu"
    STORAGE = "storage"
    OTHER = "other"


_LETTERS = {
    "t": Category.GENERAL, "m": Category.GENERAL, "a": Category.GENERAL, "c": Category.COMPUTE,
    "r": Category.MEMORY, "x": Category.MEMORY, "z": Category.MEMORY, "u": Category.MEMORY,
    "p": Category.GPU, "g": Category.GPU, "gr": Category.GPU, "i": Category.STORAGE, "im": Category.STORAGE, "is": Category.STORAGE,
    "d": Category.STORAGE, "h": Category.STORAGE,
}  # fmt: skip


def category_of(family: str) -> Category:
    """The category by the letters before the generation: `m` of m6i, `im` of im4gn."""
    letters = ""
    for sign in family:
        if not sign.isalpha():
            break
        letters += sign
    return _LETTERS.get(letters, Category.OTHER)


@dataclass(frozen=True, slots=True)
class InstanceType:
    """One type. `allocatable_milli` and `allocatable_mib` are what the kubelet leaves to pods (None: not known);
    `pods` is the limit by its network addresses (None: not known)."""

    name: str
    family: str
    size: str
    architecture: Architecture
    vcpu: int
    memory_mib: int
    gpu: str = ""
    gpus: int = 0
    gpu_mib: int = 0
    accelerator: str = ""
    local_disk_gb: int = 0
    burstable: bool = False
    bare_metal: bool = False
    spot: bool = True
    current: bool = True
    hypervisor: str = ""
    pods: int | None = None
    network_mbps: int | None = None
    allocatable_milli: int | None = None
    allocatable_mib: int | None = None

    @property
    def category(self) -> Category:
        return Category.GPU if self.gpus else category_of(self.family)


@dataclass(frozen=True, slots=True)
class Price:
    """What a type costs an hour in a region. `spot` is an estimate; `interruption` is the Spot Advisor's band, 0 (under
    5 % a month) to 4 (over 20 %)."""

    on_demand: Decimal
    as_of: date
    spot: Decimal | None = None
    interruption: int | None = None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Types by name, and prices by region and type."""

    types: Mapping[str, InstanceType]
    prices: Mapping[tuple[str, str], Price]

    def families(self) -> dict[str, list[InstanceType]]:
        """The types of each family, the smallest first."""
        found: dict[str, list[InstanceType]] = {}
        for one in self.types.values():
            found.setdefault(one.family, []).append(one)
        for rows in found.values():
            rows.sort(key=lambda t: (t.vcpu, t.memory_mib, t.bare_metal, t.name))
        return dict(sorted(found.items()))

    def price(self, instance_type: str, region: str = REGION) -> Price | None:
        return self.prices.get((region, instance_type))

    def regions(self) -> list[str]:
        return sorted({region for region, _ in self.prices})


@cache
def catalogue() -> Catalogue:
    """The catalogue that comes with the program, read once."""
    types = {one.name: one for one in map(_type, _rows("types.csv"))}
    prices = {(row["region"], row["type"]): _price(row) for row in _rows("prices.csv")}
    return Catalogue(types, prices)


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (HERE / name).open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _whole(text: str) -> int | None:
    return int(float(text)) if text else None


def _type(row: Mapping[str, str]) -> InstanceType:
    name = row["type"]
    return InstanceType(
        name=name,
        family=family_of(name),
        size=name.rpartition(".")[2],
        architecture=Architecture(row["arch"]),
        vcpu=int(row["vcpu"]),
        memory_mib=int(row["memory_mib"]),
        gpu=row["gpu"],
        gpus=_whole(row["gpus"]) or 0,
        gpu_mib=_whole(row["gpu_mib"]) or 0,
        accelerator=row["accelerator"],
        local_disk_gb=_whole(row["local_disk_gb"]) or 0,
        burstable=row["burstable"] == "1",
        bare_metal=row["bare_metal"] == "1",
        spot=row["spot"] == "1",
        current=row["current"] == "1",
        hypervisor=row["hypervisor"],
        pods=_whole(row["pods"]),
        network_mbps=_whole(row["network_mbps"]),
        allocatable_milli=_whole(row["allocatable_milli"]),
        allocatable_mib=_whole(row["allocatable_mib"]),
    )


def _price(row: Mapping[str, str]) -> Price:
    listed = Decimal(row["on_demand"])
    saving = _whole(row["spot_saving"])
    return Price(
        on_demand=listed,
        as_of=date.fromisoformat(row["as_of"]),
        spot=(listed * (100 - saving) / 100) if saving is not None else None,
        interruption=_whole(row["interruption"]),
    )


def of_families(families: Iterable[str]) -> list[InstanceType]:
    """Every type of these families."""
    wanted = set(families)
    return [one for one in catalogue().types.values() if one.family in wanted]
