"""Reading the forms of schedules."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from django import forms
from django.http import QueryDict

from core.errors import InvalidInput
from hibernation import schedule as engine

WARNINGS = (
    (0, "Tell nobody"),
    (15, "15 minutes before"),
    (30, "30 minutes before"),
    (60, "1 hour before"),
    (120, "2 hours before"),
)
_CLOCKS = re.compile(r"([01]?\d|2[0-3])(?::([0-5]\d))?\s*[-–]\s*([01]?\d|2[0-4])(?::([0-5]\d))?")
_HALVES = re.compile(r"([01]?\d|2[0-3])(?::(00|30))?\s*[-–]\s*([01]?\d|2[0-4])(?::(00|30))?")


class ScheduleForm(forms.Form):
    """Name, zone and week of a schedule. `week` is seven strings of 24 or 48 digits joined by commas, as the paint grid
    writes it; without scripts `day_0` to `day_6` name hours such as `9-18, 20-22` instead."""

    name = forms.CharField(max_length=120, label="Name")
    zone = forms.CharField(max_length=64, label="Time zone", help_text="Such as Europe/Berlin.")
    week = forms.CharField(required=False, widget=forms.HiddenInput)
    prewarm = forms.BooleanField(required=False, label="Pre-warm: be ready at the first painted hour")
    enabled = forms.BooleanField(required=False, label="Switched on")
    warn_minutes = forms.TypedChoiceField(
        choices=WARNINGS, coerce=int, required=False, empty_value=None, label="Warn before it sleeps"
    )
    warn_required = forms.BooleanField(required=False, label="No warning, no sleep")
    leave_asleep = forms.BooleanField(required=False, label="When switching off, leave asleep what sleeps")

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
                match = _HALVES.fullmatch(text)
                start, end = _minutes(match) if match else (0, 0)
                if not start < end <= 1440:
                    raise engine.InvalidSchedule(
                        f"{text!r} is no stretch of hours or half hours such as 9-18 or 8:30-17.", field="week"
                    )
                grid = grid.paint([day], start, end, awake=True)
        return grid.to_json()

    def refuse(self, error: InvalidInput) -> None:
        """Put a service's words beside the fields that they are about."""
        for name, words in error.errors.items():
            for word in words:
                self.add_error({"grid": "week"}.get(name, name if name in self.fields else None), word)


class DaysForm(forms.Form):
    """The rule of one date or of several: `first` to `last`, `kind` "" for as painted, `hours` such as 10-14, 20-02."""

    KINDS = (("", "As painted"), ("holiday", "Holiday"), ("sprint", "Sprint day"), ("custom", "Own hours"))

    first = forms.DateField(label="Date")
    last = forms.DateField(required=False, label="To")
    kind = forms.ChoiceField(required=False, choices=KINDS)
    name = forms.CharField(required=False, max_length=80, label="Name")
    hours = forms.CharField(required=False, max_length=200, label="Hours awake")

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        text = data.get("hours", "") if data.get("kind") == "custom" else ""
        try:
            data["hours"] = read_hours(text)
        except engine.InvalidSchedule as wrong:
            self.add_error("hours", wrong.message)
        return data


def read_hours(text: str) -> list[tuple[int, int]]:
    """Minutes of stretches such as `10-14, 20:30-02`; one that ends before it begins ends on the next day."""
    found = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        match = _CLOCKS.fullmatch(part)
        if not match:
            raise engine.InvalidSchedule(f"{part!r} is no stretch of hours such as 9-18 or 20:30-02:00.", field="hours")
        start, end = _minutes(match)
        found.append((start, end if end > start else end + 1440))
    return found


def _minutes(match: re.Match[str]) -> tuple[int, int]:
    return int(match[1]) * 60 + int(match[2] or 0), int(match[3]) * 60 + int(match[4] or 0)


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
