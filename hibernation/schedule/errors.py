"""The one error of the schedule engine."""

from __future__ import annotations

from core.errors import InvalidInput


class InvalidSchedule(InvalidInput):
    """A grid, calendar, override or zone that cannot mean anything; `field` names which part of the schedule."""

    code = "invalid_schedule"
    title = "This schedule cannot be used"

    def __init__(self, message: str, *, field: str = "schedule") -> None:
        super().__init__(message, errors={field: [message]})
        self.field = field
