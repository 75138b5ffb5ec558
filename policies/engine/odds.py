"""How likely a spot pool is to take its machines back, and to have one to give: from the published band, and from what
happened to our own."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

# The Spot Instance Advisor publishes the share of machines interrupted in a month as bands; these are their middles.
BANDS = {"<5%": 0.025, "5-10%": 0.075, "10-15%": 0.125, "15-20%": 0.175, ">20%": 0.25}
_UNKNOWN_BAND = 0.15
_BAND_IS_WORTH = 20.0  # the band counts for as much as this many months of a machine of our own
_SCORES = 10  # the placement score goes from 1 to 10
_UNKNOWN_SCORE = 5


@dataclass(frozen=True, slots=True)
class Odds:
    """Beta-binomial: `interrupted` out of `interrupted + survived` machine-months, the published band's included."""

    interrupted: float
    survived: float
    placement_score: int | None = None

    @classmethod
    def published(cls, band: str = "", placement_score: int | None = None) -> Odds:
        """What is known before we have had a machine there. An unknown band counts as a middling one."""
        share = BANDS.get(band, _UNKNOWN_BAND)
        return cls(share * _BAND_IS_WORTH, (1 - share) * _BAND_IS_WORTH, placement_score)

    def observed(self, interruptions: int, machine_months: float) -> Odds:
        """After `machine_months` of our own machines there, in which that many were taken back."""
        lived = max(machine_months - interruptions, 0.0)
        return replace(self, interrupted=self.interrupted + interruptions, survived=self.survived + lived)

    @property
    def interruption(self) -> float:
        """The posterior mean of a machine's chance to be taken back within a month."""
        return self.interrupted / (self.interrupted + self.survived)

    @property
    def spread(self) -> float:
        """The posterior's standard deviation: how sure that is."""
        n = self.interrupted + self.survived
        return math.sqrt(self.interruption * (1 - self.interruption) / (n + 1))

    @property
    def depth(self) -> float:
        """How deep the pool is, from 0 to 1: the chance to get a machine, by the placement score, and to keep it."""
        score = _UNKNOWN_SCORE if self.placement_score is None else min(max(self.placement_score, 1), _SCORES)
        return score / _SCORES * (1 - self.interruption)
