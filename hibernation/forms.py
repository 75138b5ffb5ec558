"""Reading the forms of schedules."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from django import forms
from django.http import QueryDict

from core.errors import InvalidInput
from hibernation import schedule as engine

_HOURS = re.compile(r"([01]?\d|2[0-3])(?::00)?\s*[-–]\s*([01]?\d|2[0-4])(?::00)?")


class ScheduleForm(forms.Form):
    """Name, zone and week of a schedule. `week` is seven strings of 24 digits joined by commas, as the paint grid
    writes it; without scripts `day_0` to `day_6` name hours such as `9-18, 20-22` instead."""

    name = forms.CharField(max_length=120, label="Name")
    zone = forms.CharField(max_length=64, label="Time zone", help_text="Such as Europe/Berlin.")
    week = forms.CharField(required=False, widget=forms.HiddenInput)
    prewarm = forms.BooleanField(required=False, label="Pre-warm: be ready at the first painted hour")
    enabled = forms.BooleanField(required=False, label="Switched on")

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        try:
            data["grid"] = self._by_hand() or self._painted(data.get("week", ""))
        except engine.InvalidSchedule as wrong:
            self.add_error("week", wrong.message)
        return data

    def _painted(self, week: str) -> list[str] | None:
        return engine.Grid.from_json(week.split(",")).to_json() if week else None

    def _by_hand(self) -> list[str] | None:
        """The week from the fields that only a browser without scripts sends."""
        if "day_0" not in self.data:
            return None
        grid = engine.ALWAYS_ASLEEP
        for day in range(7):
            for text in filter(None, (part.strip() for part in str(self.data.get(f"day_{day}", "")).split(","))):
                match = _HOURS.fullmatch(text)
                if not match or int(match[1]) >= int(match[2]):
                    raise engine.InvalidSchedule(f"{text!r} is no stretch of hours such as 9-18.", field="week")
                grid = grid.paint([day], int(match[1]) * 60, int(match[2]) * 60, awake=True)
        return grid.to_json()

    def refuse(self, error: InvalidInput) -> None:
        """Put a service's words beside the fields that they are about."""
        for name, words in error.errors.items():
            for word in words:
                self.add_error({"grid": "week"}.get(name, name if name in self.fields else None), word)


def read_resources(data: QueryDict, name: str) -> list[tuple[str, UUID]]:
    """Pairs of kind and id from values such as `cloud_node:5f…`. Raises InvalidInput for anything else."""
    found = []
    for text in data.getlist(name):
        kind, _, resource_id = text.partition(":")
        try:
            found.append((kind, UUID(resource_id)))
        except ValueError:
            raise InvalidInput("The form names something that is no resource. Reload the page and try again.") from None
    return found
