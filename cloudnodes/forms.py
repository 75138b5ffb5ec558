"""Reading the grid's form: which switches a person moved, as against what the page showed them."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from django.http import QueryDict

from core.errors import InvalidInput

PLACES = ("page", "dialog", "detail")


@dataclass(slots=True)
class Switches:
    """The nodes to wake and to put to sleep. A switch that shows what the page showed changes nothing, so that two
    people with the same page open do not undo each other.
    """

    on: list[UUID] = field(default_factory=list)
    off: list[UUID] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.on or self.off)


def read_switches(data: QueryDict) -> Switches:
    """From the grid: `shown` = "<id>:on|off" for each switch, `on` = ids of those that are on now. From a confirmation:
    `wake` and `sleep` = ids. Raises InvalidInput for anything else.
    """
    found = Switches(_ids(data.getlist("wake")), _ids(data.getlist("sleep")))
    on = set(_ids(data.getlist("on")))
    for text in data.getlist("shown"):
        head, _, was = text.partition(":")
        if was not in ("on", "off"):
            raise InvalidInput("The form does not say what it showed. Reload the page and try again.")
        (node_id,) = _ids([head])
        if (node_id in on) != (was == "on"):
            (found.on if node_id in on else found.off).append(node_id)
    return found


def _ids(texts: list[str]) -> list[UUID]:
    try:
        return [UUID(text) for text in texts]
    except ValueError:
        raise InvalidInput("The form names something that is not a node. Reload the page and try again.") from None


def read_place(data: QueryDict) -> str:
    """Where the answer is shown: on the page, in the dialog, or on a node's own page."""
    place = data.get("place", "page")
    return place if place in PLACES else "page"
