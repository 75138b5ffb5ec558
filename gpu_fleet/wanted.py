"""What a machine wants of the market, as it is kept and sent. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from core.errors import InvalidInput
from gpu_fleet.race import Strategy


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a race looks for; kept as JSON on the machine. Sizes in GB, `max_hourly` USD as text."""

    gpu_name: str = ""
    min_gpus: int = 0
    min_vram_gb: int = 0
    max_hourly: str = ""
    min_reliability: float | None = None
    disk_gb: int = 16
    location: str = ""
    interruptible: bool = False
    strategy: str = Strategy.RACE.value
    image: str = ""
    paths: tuple[str, ...] = field(default=("/workspace",))

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Wanted:
        """From JSON or a form. Raises InvalidInput with the fields that cannot be."""
        known = {name: told[name] for name in cls.__dataclass_fields__ if told.get(name) not in (None, "")}
        errors: dict[str, list[str]] = {}
        for name, low, high in (("min_gpus", 0, 64), ("min_vram_gb", 0, 1024), ("disk_gb", 8, 4096)):
            try:
                known[name] = int(known.get(name, getattr(cls(), name)))
            except (TypeError, ValueError):
                known[name] = -1
            if not low <= known[name] <= high:
                errors[name] = [f"A whole number between {low} and {high}."]
        try:
            amount = Decimal(str(known.get("max_hourly") or "0"))
            if not amount.is_finite() or not 0 <= amount <= 10_000:
                raise InvalidOperation
            known["max_hourly"] = str(amount) if amount else ""
        except InvalidOperation:
            errors["max_hourly"] = ["Dollars an hour, such as 0.80."]
        if known.get("strategy", Strategy.RACE) not in set(Strategy):
            errors["strategy"] = ["Choose race, cheapest or reliable."]
        paths = known.get("paths", cls().paths)
        paths = tuple(str(p) for p in (paths.split() if isinstance(paths, str) else paths))
        if not paths or not all(re.fullmatch(r"(/[\w.@+-]+)+", path) and ".." not in path for path in paths):
            errors["paths"] = ["Folders such as /workspace, one or more."]
        if errors:
            raise InvalidInput(errors=errors)
        return cls(**{**known, "paths": paths})

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "paths": list(self.paths)}
