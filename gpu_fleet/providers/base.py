"""The language between Curfew and whoever rents out GPU machines: dataclasses and one Protocol.

Pure Python: no Django, no ORM. The contract suite in `tests/gpu_fleet/` holds every provider to the promises here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol, runtime_checkable

from core.providers import ProviderError


class RentalState(StrEnum):
    """What a provider says a rental is doing.

    DEAD will never run and may still be billed: destroy it. UNKNOWN proves nothing. GONE is said only when a read that
    worked shows that the provider no longer has it.
    """

    PENDING = "pending"
    LOADING = "loading"
    RUNNING = "running"
    STOPPED = "stopped"
    DEAD = "dead"
    OFFLINE = "offline"
    GONE = "gone"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Offer:
    """A machine that could be rented. `hourly` is USD per hour with the asked disk, None when not told.

    `host_id` tells machines apart: a race takes each host once. `vram_mb` is of one GPU; 0 GPUs is a CPU machine.
    """

    offer_id: str
    host_id: str
    gpu_name: str
    gpu_count: int
    vram_mb: int
    hourly: Decimal | None
    stopped_hourly: Decimal | None = None
    location: str = ""
    reliability: float | None = None
    cpu_cores: float = 0
    ram_mb: int = 0
    disk_gb: float = 0
    down_mbps: float | None = None
    interruptible: bool = False
    verified: bool | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for; every bound is optional. `max_hourly` is USD, sizes are per machine but `min_vram_mb` per GPU."""

    gpu_name: str = ""
    min_gpus: int = 0
    min_vram_mb: int = 0
    max_hourly: Decimal | None = None
    min_reliability: float | None = None
    disk_gb: int = 16
    location: str = ""
    interruptible: bool = False
    limit: int = 60


@dataclass(frozen=True, slots=True)
class Order:
    """Rent this offer. `label` is unique to the batch and committed before the call; the host tells its members apart.

    `env` values reach the machine's first process; `bid` is the price offered for an interruptible machine; `folders`
    of this server (host path to path inside) are for providers whose machines can reach them.
    """

    offer: Offer
    label: str
    image: str
    disk_gb: int
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    onstart: str = field(default="", repr=False)
    bid: Decimal | None = None
    folders: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rented:
    """The answer to one order. `provider_id` may be there although it failed: then it exists and has to be destroyed.

    With an error and no id the outcome is open (`unsure`) or certainly nothing was made.
    """

    offer_id: str
    provider_id: str = ""
    error: ProviderError | None = None
    unsure: bool = False


@dataclass(frozen=True, slots=True)
class Rental:
    """One rental as its provider describes it. Times are UTC; `hourly` None and `gpu_load` None are unknown."""

    provider_id: str
    state: RentalState
    label: str = ""
    host_id: str = ""
    gpu_name: str = ""
    gpu_count: int = 0
    hourly: Decimal | None = None
    location: str = ""
    ssh_host: str = ""
    ssh_port: int = 0
    words: str = ""
    progress: str = ""
    started_at: datetime | None = None
    created_at: datetime | None = None
    gpu_load: float | None = None
    outbid: bool = False


@runtime_checkable
class GpuProvider(Protocol):
    """One account at one provider. Methods raise ProviderErrors and nothing else, and have timeouts of their own."""

    provider: str

    def offers(self, query: Query) -> list[Offer]:
        """What can be rented now, cheapest first."""
        ...

    def rent(self, orders: Sequence[Order]) -> list[Rented]:
        """Place several orders at once, as quickly as the provider allows; one answer per order, in their order.

        Not safe to repeat: whoever is unsure looks the label up with `find` first.
        """
        ...

    def find(self, labels: Collection[str]) -> list[Rental]:
        """Every rental of the account that bears one of the labels; all pages are read."""
        ...

    def describe(self, provider_ids: Collection[str]) -> dict[str, Rental]:
        """A current description for each id; what the provider provably no longer has is GONE."""
        ...

    def everything(self) -> list[Rental]:
        """Every rental of the account, ours or not."""
        ...

    def destroy(self, provider_ids: Collection[str]) -> dict[str, ProviderError | None]:
        """Order destruction of each; None is accepted or gone already. Proof is a later `describe` that says GONE."""
        ...

    def stop(self, provider_id: str) -> None:
        """Stop it and keep its disk, which goes on costing."""
        ...

    def start(self, provider_id: str) -> None:
        """Start a stopped one; raises CapacityUnavailable when the GPU was given away."""
        ...
