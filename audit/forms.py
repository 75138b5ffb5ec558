"""What the audit log may be asked for."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django import forms

from audit import verbs
from audit.enums import Outcome
from audit.selectors import SINCE, WHO, Filters


def _choices(keys: Any) -> list[tuple[str, str]]:
    return [("", "Any"), *((str(key), str(key)) for key in keys)]


class FilterForm(forms.Form):
    """Search and filters; what makes no sense is ignored, so that an old link still shows the log."""

    q = forms.CharField(required=False, max_length=200)
    who = forms.ChoiceField(required=False, choices=_choices(WHO))
    actor = forms.CharField(required=False, max_length=80)
    verb = forms.CharField(required=False, max_length=80)
    target = forms.CharField(required=False, max_length=130)
    outcome = forms.ChoiceField(required=False, choices=_choices(Outcome.values))
    operation = forms.UUIDField(required=False)
    since = forms.ChoiceField(required=False, choices=_choices(SINCE))
    start = forms.DateField(required=False)
    end = forms.DateField(required=False)

    def filters(self, timezone: str) -> Filters:
        """The asked filters; days are days of `timezone`, `end` included."""
        self.is_valid()
        given = self.cleaned_data
        kind, _, target_id = given.get("target", "").partition(":")
        end = given.get("end")
        return Filters(
            search=given.get("q", ""),
            who=given.get("who", ""),
            actor_id=given.get("actor", ""),
            verb=given.get("verb", ""),
            target_kind=kind,
            target_id=target_id,
            outcome=given.get("outcome", ""),
            operation_id=given.get("operation"),
            since=given.get("since", ""),
            start=_midnight(given.get("start"), timezone),
            end=_midnight(end + timedelta(days=1) if end else None, timezone),
        )


def _midnight(day: date | None, timezone: str) -> datetime | None:
    return datetime.combine(day, time(), ZoneInfo(timezone)).astimezone(UTC) if day else None


def verb_choices() -> list[tuple[str, str]]:
    """Every verb with its sentence, for the select."""
    return [(v.name, v.sentence.replace(" {target}", "").replace("{target}", "it")) for v in verbs.all_verbs()]
