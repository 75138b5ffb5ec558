"""Where sealed texts lie: each app says so once, in its `AppConfig.ready()`, and a key rotation finds them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import transaction
from django.db.models import F
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Substr

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
    """One column of sealed texts, or one key of a JSON column; `bound_to` tells what the text of a row is bound to."""

    kind: str
    model: str
    field: str
    bound_to: Callable[[Any], str]
    key: str = ""

    def read(self, row: Any) -> str:
        """The sealed text of the row, or ""."""
        kept = getattr(row, self.field)
        return str(kept.get(self.key, "")) if self.key else kept

    def write(self, row: Any, text: str) -> None:
        """Keep another text; nothing else of the row changes."""
        setattr(row, self.field, {**getattr(row, self.field), self.key: text} if self.key else text)
        row.save(update_fields=[self.field])


_places: dict[str, Place] = {}


def register(kind: str, model: str, field: str, bound_to: Callable[[Any], str], *, key: str = "") -> None:
    """`register("sink", "audit.Sink", "secrets", lambda row: f"sink:{row.id}")`."""
    _places[kind] = Place(kind, model, field, bound_to, key)


def places() -> list[Place]:
    """Every registered place."""
    return list(_places.values())


def reseal_registered() -> list[Resealed]:
    """Seal every registered text under the ring's first key, each row in its own transaction; may be stopped and run again."""
    return [_reseal(place) for place in _places.values()]


def _reseal(place: Place) -> Resealed:
    rows = apps.get_model(place.model)._base_manager.all()  # of every organization: this is the server's own duty
    kept = rows.filter(**{f"{place.field}__has_key": place.key}) if place.key else rows.exclude(**{place.field: ""})
    fresh, text = (
        f"v1.{encryption.key_ring().active_id}.",
        KeyTextTransform(place.key, place.field) if place.key else F(place.field),
    )
    stale = kept.annotate(begins=Substr(text, 1, len(fresh))).exclude(begins=fresh)
    counts = {"done": 0, "fresh": kept.count(), "failed": 0}
    for pk in list(stale.order_by("pk").values_list("pk", flat=True)):
        counts["fresh"] -= 1
        with transaction.atomic():
            counts[_reseal_row(place, rows.select_for_update().filter(pk=pk).first())] += 1
    return Resealed(place.kind, **counts)


def _reseal_row(place: Place, row: Any) -> str:
    stored = place.read(row) if row is not None else ""
    if not stored or encryption.key_id_of(stored) == encryption.key_ring().active_id:
        return "fresh"
    try:
        values = encryption.unseal(stored, bound_to=place.bound_to(row))
    except encryption.CannotDecrypt:
        return "failed"
    place.write(row, encryption.seal(values, bound_to=place.bound_to(row)))
    return "done"
