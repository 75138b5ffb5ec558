"""The wizard's answer: the arithmetic of what is wanted against what every connected market offers now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core.actor import Actor
from core.errors import InvalidInput
from gpu_fleet import offers, wizard
from gpu_fleet.wanted import Wanted


@dataclass(slots=True)
class Advice:
    """Lines of the arithmetic and three tiers; `seen` is how many offers were looked at."""

    goal: str
    lines: list[wizard.Step]
    tiers: list[wizard.Tier]
    seen: int
    problems: list[str] = field(default_factory=list)
    accounts: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """GB in all."""
        return sum(line.gb for line in self.lines)


def advise(*, actor: Actor, told: Mapping[str, Any]) -> Advice:
    """Raises InvalidInput when neither a size nor an amount of memory is told."""
    ask = wizard.Ask(
        goal=wizard.Goal(told["goal"]),
        billions=told.get("parameters_b") or wizard.size_of(told.get("model") or ""),
        precision=told["precision"],
        context=told["context"],
        batch=told["batch"],
        vram_gb=told.get("vram_gb"),
        budget_hour=told.get("budget_hour"),
    )
    try:
        lines = wizard.steps(ask)
    except ValueError as missing:
        raise InvalidInput(errors={"model": [str(missing)]}) from None
    found = offers.search_offers(actor=actor, wanted=Wanted(min_gpus=1))
    live = [offer for _, offer in found.offers]
    accounts = {offer.offer_id: str(account.id) for account, offer in found.offers}
    return Advice(str(told["goal"]), lines, wizard.tiers(ask, live), len(live), found.problems, accounts)
