"""What a node template allows to buy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from clusters.analysis.facts import ARCH, Lifecycle, Pod
from clusters.analysis.packing import NodeOffer


class Purchasing(StrEnum):
    """Hybrid: spot for what keeps no data, on-demand for what does."""

    SPOT = "spot"
    ON_DEMAND = "on_demand"
    HYBRID = "hybrid"


@dataclass(frozen=True, slots=True)
class Template:
    """Empty means any. A family is `m5` of `m5.large`, `large` the size."""

    families: frozenset[str] = frozenset()
    architectures: frozenset[str] = frozenset()
    excluded_sizes: frozenset[str] = frozenset()
    purchasing: Purchasing = Purchasing.HYBRID

    def why_not(self, offer: NodeOffer, *, fallen_back: bool = False) -> str:
        """Words if the template does not allow it. After falling back from spot, on-demand is allowed too."""
        family, _, size = offer.instance_type.partition(".")
        architecture = offer.labels.get(ARCH, "amd64")
        if self.families and family not in self.families:
            return f"family {family} is not ticked"
        if size in self.excluded_sizes:
            return f"size {size} is excluded"
        if self.architectures and architecture not in self.architectures:
            return f"architecture {architecture} is not ticked"
        spot = offer.lifecycle is Lifecycle.SPOT
        if spot and self.purchasing is Purchasing.ON_DEMAND:
            return "spot is not allowed"
        if not spot and self.purchasing is Purchasing.SPOT and not fallen_back:
            return "only spot is allowed"
        return ""


def keeps_data(pod: Pod) -> bool:
    """Whether a hybrid template gives the pod on-demand capacity."""
    return pod.owner == "StatefulSet" or pod.zones is not None or pod.local_volume
