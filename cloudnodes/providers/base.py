"""The language between Curfew and whatever runs cloud nodes: dataclasses and one Protocol.

Pure Python: no Django, no ORM, no SDK. Every provider keeps the promises written here; the
contract suite in `tests/contract/` holds all of them to it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol, runtime_checkable

from core.providers import ProviderError


class InstanceState(StrEnum):
    """What the provider says an instance is doing.

    STOPPED_BILLING is off but still charged (an Azure machine shut down, not deallocated).
    UNKNOWN means the provider gave no usable answer: treat it as running, never as off.
    """

    RUNNING = "running"
    STARTING = "starting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    STOPPED_BILLING = "stopped_billing"
    GONE = "gone"
    UNKNOWN = "unknown"


class Scaling(StrEnum):
    """MANUAL instances are started and stopped by us; TO_ZERO ones scale by themselves."""

    MANUAL = "manual"
    TO_ZERO = "to_zero"


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance as its provider describes it.

    `provider_id` is what `start`, `stop` and `describe` take. `region` and `zone` may be "".
    `endpoint` is where clients reach it ("" when it has no address now), `health_endpoint` what
    `probe` takes ("" when the tags name no port). `launched_at` is UTC, None when not running or
    not told. `lifecycle` is "on_demand" or "spot". `labels_source` says where `node_type` came
    from: "tags", "labels", "annotations", or "none" for an instance without Curfew tags.
    `hourly_cost` is the price on the instance's own label, None when there is none.
    """

    provider_id: str
    name: str
    region: str
    zone: str
    instance_type: str
    state: InstanceState
    endpoint: str = ""
    node_type: str = ""
    gpu_tier: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    launched_at: datetime | None = None
    scaling: Scaling = Scaling.MANUAL
    lifecycle: str = "on_demand"
    labels_source: str = "none"
    health_endpoint: str = ""
    hourly_cost: Decimal | None = None
    state_reason: str = ""


@dataclass(frozen=True, slots=True)
class Started:
    """A start or stop was accepted.

    `continuation` is what `check` takes, in this process or another; "" when there is nothing to
    follow and `describe` tells the progress. `already` is True when nothing had to be done.
    """

    continuation: str = ""
    already: bool = False
    words: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a followed operation is. `error` is set only when `done` and it failed."""

    done: bool
    error: ProviderError | None = None
    words: str = ""

    @property
    def succeeded(self) -> bool:
        """True when the operation ended without an error."""
        return self.done and self.error is None


@runtime_checkable
class NodeProvider(Protocol):
    """One account (and region, where a provider has regions) full of instances.

    Every method may raise a ProviderError and nothing else, has a timeout of its own, and is safe
    to repeat.
    """

    provider: str

    def discover(self, *, include_untagged: bool = False) -> list[Instance]:
        """List all instances that carry a node-type tag; every one when `include_untagged`.

        All pages are read. Instances that are gone for good are left out.
        """
        ...

    def describe(self, provider_ids: Collection[str]) -> dict[str, Instance]:
        """Return a current description for each id. Unknown ids come back with state GONE."""
        ...

    def start(self, provider_id: str, *, token: str) -> Started:
        """Order a start; running or starting already is success.

        `token` is the caller's id for this order: it is sent along where the provider takes one,
        and repeating an order never starts anything twice. Raises CapacityUnavailable,
        QuotaExceeded, NotFound, Conflict and the rest of the set.
        """
        ...

    def stop(self, provider_id: str, *, token: str) -> Started:
        """Order a stop that ends compute charges; stopped or stopping already is success."""
        ...

    def check(self, continuation: str) -> Progress:
        """Look once at an operation ordered before, maybe by another process.

        "" gives `done` at once: there is nothing to follow and `describe` is the truth.
        """
        ...

    def probe(self, health_endpoint: str, *, timeout: float = 3.0) -> bool | None:
        """Say whether the service answers: True, False, or None when it cannot be asked ("")."""
        ...


def node_type_slug(node_type: str) -> str:
    """Return the form in which node types of all clouds compare equal: "FLUX Dev" -> "flux-dev".

    Google's labels allow no blanks or capitals, so the same node type is spelt differently there.
    """
    return re.sub(r"[^a-z0-9]+", "-", node_type.lower()).strip("-")
