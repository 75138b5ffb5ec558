"""Where sealed texts lie: each app says so once, in its `AppConfig.ready()`, and a key rotation finds them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import transaction

from core import encryption


@dataclass(frozen=True, slots=True)
class Resealed:
    """How many sealed texts of one kind were sealed anew, were fresh already, or could not be opened."""

    kind: str
    done: int
    fresh: int
    failed: int


@dataclass(frozen=True, slots=True)
class Place:
    """One column of sealed texts; `bound_to` tells what the text of a row is bound to."""

    kind: str
    model: str
    field: str
    bound_to: Callable[[Any], str]


_places: dict[str, Place] = {}


def register(kind: str, model: str, field: str, bound_to: Callable[[Any], str]) -> None:
    """`register("sink", "audit.Sink", "secrets", lambda row: f"sink:{row.id}")`."""
    _places[kind] = Place(kind, model, field, bound_to)


def reseal_registered() -> list[Resealed]:
    """Seal every registered text under the ring's first key, each row in its own transaction; may be stopped and run again."""
    return [_reseal(place) for place in _places.values()]


def _reseal(place: Place) -> Resealed:
    rows = apps.get_model(place.model)._base_manager.all()  # of every organization: this is the server's own duty
    counts = {"done": 0, "fresh": 0, "failed": 0}
    for pk in list(rows.exclude(**{place.field: ""}).order_by("pk").values_list("pk", flat=True)):
        with transaction.atomic():
            counts[_reseal_row(place, rows.select_for_update().filter(pk=pk).first())] += 1
    return Resealed(place.kind, **counts)


def _reseal_row(place: Place, row: Any) -> str:
    stored = getattr(row, place.field) if row is not None else ""
    if not stored or encryption.key_id_of(stored) == encryption.key_ring().active_id:
        return "fresh"
    try:
        values = encryption.unseal(stored, bound_to=place.bound_to(row))
    except encryption.CannotDecrypt:
        return "failed"
    setattr(row, place.field, encryption.seal(values, bound_to=place.bound_to(row)))
    row.save(update_fields=[place.field])
    return "done"
