"""From what somebody wants to do to how much GPU memory it takes, with every step of the arithmetic. Pure.

Sizes are in GB of 10^9 bytes. Where a figure is an assumption it is named as one; nothing is looked up elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from gpu_fleet.providers.base import Offer

BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5}
# Decoder models have about 12 x layers x width^2 parameters, and a width near 128 x layers.
WIDTH_PER_LAYER = 128
# Models of today share each key and value between eight heads.
SHARED_HEADS = 8
OVERHEAD = 1.10
ADAM_BYTES = 12.0
LORA_SHARE = 0.01
TIERS = (("minimum", 1.0), ("recommended", 1.25), ("maximum", 2.0))
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*b\b", re.IGNORECASE)


class Goal(StrEnum):
    """What is to be done with the model."""

    INFERENCE = "inference"
    LORA = "lora"
    TRAINING = "training"


@dataclass(frozen=True, slots=True)
class Ask:
    """What the wizard is asked. `billions` of parameters, or `vram_gb` when that is known already."""

    goal: Goal = Goal.INFERENCE
    billions: float | None = None
    precision: str = "fp16"
    context: int = 4096
    batch: int = 1
    vram_gb: float | None = None
    budget_hour: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the arithmetic."""

    what: str
    how: str
    gb: float


@dataclass(frozen=True, slots=True)
class Tier:
    """A size to rent: GB over all GPUs, the cheapest offer that has it (None: no offer fits), and why."""

    name: str
    vram_gb: float
    offer: Offer | None
    why: str


def size_of(model: str) -> float | None:
    """Billions of parameters that a model's name tells ("llama-3-70b"), None when it tells none."""
    found = _SIZE.search(model.replace("_", " ").replace("-", " "))
    return float(found[1]) if found else None


def steps(ask: Ask) -> list[Step]:
    """What takes how much. Raises ValueError when neither a size nor an amount of memory is given."""
    if ask.vram_gb is not None:
        return [Step("Asked for", f"{ask.vram_gb:g} GB as given", ask.vram_gb)]
    if ask.billions is None:
        raise ValueError("Give the model's size in billions of parameters, or the memory that it needs.")
    size = BYTES[ask.precision]
    weights = ask.billions * size
    found = [Step("Weights", f"{ask.billions:g} billion parameters x {size:g} bytes ({ask.precision})", weights)]
    if ask.goal is Goal.TRAINING:
        state = ask.billions * (size + ADAM_BYTES)
        found.append(Step("Gradients and Adam", f"{ask.billions:g} billion x ({size:g} + {ADAM_BYTES:g}) bytes", state))
    elif ask.goal is Goal.LORA:
        state = ask.billions * LORA_SHARE * (size + ADAM_BYTES)
        found.append(
            Step("Adapters", f"assumed {LORA_SHARE:.0%} of the parameters x ({size:g} + {ADAM_BYTES:g}) bytes", state)
        )
    found.append(_cache(ask))
    base = sum(step.gb for step in found)
    found.append(Step("Overhead", f"assumed {OVERHEAD - 1:.0%} for buffers and fragmentation", base * (OVERHEAD - 1)))
    return found


def _cache(ask: Ask) -> Step:
    layers = (ask.billions or 0.0) * 1e9 / (12 * WIDTH_PER_LAYER**2)
    depth = max(1, round(layers ** (1 / 3)))
    width = depth * WIDTH_PER_LAYER
    amount = ask.context * ask.batch
    if ask.goal is Goal.INFERENCE:
        size = 2 * depth * width / SHARED_HEADS * 2 * amount / 1e9
        words = f"2 x {depth} layers x {width} / {SHARED_HEADS} (assumed shared heads) x 2 bytes x {ask.context} tokens x {ask.batch}"
        return Step("Key-value cache", words, size)
    size = depth * width * 2 * amount * 2 / 1e9
    return Step(
        "Activations",
        f"{depth} layers x {width} x 2 bytes x 2 x {ask.context} tokens x {ask.batch}, checkpointed",
        size,
    )


def tiers(ask: Ask, offers: Sequence[Offer]) -> list[Tier]:
    """Three sizes with the cheapest live offer for each, within the budget when one is given."""
    need = sum(step.gb for step in steps(ask))
    return [_tier(name, need * factor, factor, ask, offers) for name, factor in TIERS]


def _tier(name: str, gb: float, factor: float, ask: Ask, offers: Sequence[Offer]) -> Tier:
    fits = [o for o in offers if o.hourly is not None and o.vram_mb * max(1, o.gpu_count) / 1000 >= gb and o.gpu_count]
    cheap = [o for o in fits if ask.budget_hour is None or (o.hourly is not None and o.hourly <= ask.budget_hour)]
    reason = {
        1.0: "what it needs",
        1.25: "a quarter to spare",
        2.0: "twice what it needs: longer contexts, larger batches",
    }
    best = min(cheap, key=lambda o: (o.hourly or Decimal(0), o.offer_id), default=None)
    why = f"{gb:.1f} GB: {reason[factor]}"
    if best is None:
        why += "; no offer fits" if not fits else f"; the cheapest that fits costs more than ${ask.budget_hour} an hour"
    return Tier(name, round(gb, 1), best, why)
