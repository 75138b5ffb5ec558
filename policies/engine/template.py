"""What a node template allows to buy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from clusters.analysis.composition import family_of
from clusters.analysis.facts import ARCH, Lifecycle, Pod
from clusters.analysis.packing import NodeOffer
from policies.blueprint import size_of
from policies.enums import Purchasing


@dataclass(frozen=True, slots=True)
class Template:
    """Empty means any. A family is `m5` of `m5.large`, `large` the size. Hybrid: spot for what keeps no data, on-demand for
    what does."""

    families: frozenset[str] = frozenset()
    architectures: frozenset[str] = frozenset()
    excluded_sizes: frozenset[str] = frozenset()
    zones: frozenset[str] = frozenset()
    purchasing: Purchasing = Purchasing.HYBRID

    def why_not(self, offer: NodeOffer, *, fallen_back: bool = False) -> str:
        """Words if the template does not allow it. After falling back from spot, on-demand is allowed too."""
        family, size = family_of(offer.instance_type), size_of(offer.instance_type)
        architecture = offer.labels.get(ARCH, "amd64")
        if self.families and family not in self.families:
            return f"family {family} is not ticked"
        if size in self.excluded_sizes:
            return f"size {size} is excluded"
        if self.architectures and architecture not in self.architectures:
            return f"architecture {architecture} is not ticked"
        if self.zones and offer.zone not in self.zones:
            return f"zone {offer.zone} is not chosen"
        spot = offer.lifecycle is Lifecycle.SPOT
        if spot and self.purchasing is Purchasing.ON_DEMAND:
            return "spot is not allowed"
        if not spot and self.purchasing is Purchasing.SPOT and not fallen_back:
            return "only spot is allowed"
        return ""

    def allowed(self, offers: Iterable[NodeOffer]) -> tuple[NodeOffer, ...]:
        """Those of the offers that it allows."""
        return tuple(offer for offer in offers if not self.why_not(offer))


def keeps_data(pod: Pod) -> bool:
    """Whether a hybrid template gives the pod on-demand capacity."""
    return pod.owner == "StatefulSet" or pod.zones is not None or pod.local_volume
