"""Machine types that are asked for at EC2 and Compute Engine. What a type costs is told by the price book, or unknown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from gpu_fleet.providers.base import Offer, Query

CPU_ONLY = "CPU only"


@dataclass(frozen=True, slots=True)
class MachineType:
    """One type; `vram_mb` is of one GPU."""

    name: str
    cores: int
    ram_mb: int
    gpu_name: str = CPU_ONLY
    gpus: int = 0
    vram_mb: int = 0


def _t(text: str, gpu_name: str = CPU_ONLY, vram_gb: int = 0) -> tuple[MachineType, ...]:
    """`name cores ram-in-GiB gpus`, one after the other."""
    words = text.split()
    rows = zip(words[::4], words[1::4], words[2::4], words[3::4], strict=True)
    return tuple(
        MachineType(name, int(cores), int(ram) * 1024, gpu_name, int(gpus), vram_gb * 1024)
        for name, cores, ram, gpus in rows
    )


EC2 = (
    *_t("t3.small 2 2 0 t3.medium 2 4 0 t3.large 2 8 0 m6i.large 2 8 0 m6i.xlarge 4 16 0 c5.xlarge 4 8 0"),
    *_t("g4dn.xlarge 4 16 1 g4dn.2xlarge 8 32 1 g4dn.12xlarge 48 192 4", "Tesla T4", 16),
    *_t("g5.xlarge 4 16 1 g5.2xlarge 8 32 1 g5.12xlarge 48 192 4", "A10G", 24),
    *_t("g6.xlarge 4 16 1 g6.2xlarge 8 32 1", "L4", 24),
    *_t("p3.2xlarge 8 61 1 p3.8xlarge 32 244 4", "Tesla V100", 16),
    *_t("p4d.24xlarge 96 1152 8", "A100", 40),
    *_t("p5.48xlarge 192 2048 8", "H100", 80),
)
GCE = (
    *_t("e2-small 2 2 0 e2-medium 2 4 0 e2-standard-2 2 8 0 e2-standard-4 4 16 0 n1-standard-4 4 15 0"),
    *_t("g2-standard-4 4 16 1 g2-standard-8 8 32 1", "L4", 24),
    *_t("a2-highgpu-1g 12 85 1", "A100", 40),
    *_t("a3-highgpu-8g 208 1872 8", "H100", 80),
)


def fits(kind: MachineType, query: Query) -> bool:
    """Whether a type has what is looked for, price apart. Without any wish for a GPU only CPU machines fit."""
    wants_gpu = bool(query.gpu_name or query.min_gpus or query.min_vram_mb)
    if wants_gpu != bool(kind.gpus):
        return False
    named = not query.gpu_name or query.gpu_name.lower() in kind.gpu_name.lower()
    return named and kind.gpus >= query.min_gpus and kind.vram_mb >= query.min_vram_mb


def offer_in(kind: MachineType, zone: str, hourly: Decimal | None, query: Query) -> Offer:
    """A machine type in a zone as an offer; `hourly` None where no price is known."""
    host = f"{kind.name}@{zone}"
    return Offer(
        offer_id=host,
        host_id=host,
        gpu_name=kind.gpu_name,
        gpu_count=kind.gpus,
        vram_mb=kind.vram_mb,
        hourly=hourly,
        location=zone,
        cpu_cores=kind.cores,
        ram_mb=kind.ram_mb,
        disk_gb=query.disk_gb,
        interruptible=query.interruptible,
    )


def sorted_offers(offers: Iterable[Offer], query: Query) -> list[Offer]:
    """Cheapest first, unknown prices last; with a bound on the price an unknown one does not fit."""
    most = query.max_hourly
    kept = [o for o in offers if most is None or (o.hourly is not None and o.hourly <= most)]
    kept.sort(key=lambda o: (o.hourly is None, o.hourly or Decimal(0), o.cpu_cores, o.host_id))
    return kept[: query.limit]
