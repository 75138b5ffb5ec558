"""Forms of the notifications page."""

from __future__ import annotations

from typing import Any

from django import forms

from notifications import events
from notifications.enums import ChannelKind

DIGESTS = ((0, "At once"), (15, "Every 15 minutes"), (60, "Every hour"), (1440, "Once a day"))


def _events() -> list[tuple[str, str]]:
    return [(e.name, e.label) for e in events.all_events() if e.name != "notifications.test"]


class TimingForm(forms.Form):
    """What is heard and when."""

    events = forms.MultipleChoiceField(
        required=False,
        choices=_events,
        widget=forms.CheckboxSelectMultiple,
        label="Tell about",
        help_text="None chosen: everything but the course of single tasks.",
    )
    digest_minutes = forms.TypedChoiceField(coerce=int, choices=DIGESTS, initial=0, label="How often")
    quiet_start = forms.TimeField(required=False, widget=forms.TimeInput(attrs={"type": "time"}), label="Quiet from")
    quiet_end = forms.TimeField(
        required=False,
        widget=forms.TimeInput(attrs={"type": "time"}),
        label="Quiet until",
        help_text="What is urgent comes all the same.",
    )


class ChannelForm(TimingForm):
    """A new channel."""

    name = forms.CharField(max_length=80, label="Name")
    kind = forms.ChoiceField(
        choices=ChannelKind.choices,
        label="Kind",
        widget=forms.Select(attrs={"data-shows": "#by-web, #by-mail"}),
    )
    url = forms.CharField(
        required=False,
        max_length=500,
        label="Web address",
        help_text="Of the incoming webhook; Slack makes one for a channel.",
    )
    addresses = forms.CharField(
        required=False, max_length=2000, label="E-mail addresses", help_text="Separated by commas."
    )
    hourly_limit = forms.IntegerField(min_value=1, max_value=1000, initial=60, label="Messages an hour at most")
    field_order = [
        "name",
        "kind",
        "url",
        "addresses",
        "events",
        "digest_minutes",
        "quiet_start",
        "quiet_end",
        "hourly_limit",
    ]

    def facts(self, timezone: str) -> dict[str, Any]:
        """What `add_channel` takes."""
        given = dict(self.cleaned_data)
        given["addresses"] = [a.strip() for a in given["addresses"].split(",") if a.strip()]
        return {**given, "url": given["url"].strip(), "timezone": timezone}


class ChannelEditForm(TimingForm):
    """What may be changed of a channel; where it leads is fixed, so that its test stays true."""

    name = forms.CharField(max_length=80, label="Name")
    hourly_limit = forms.IntegerField(min_value=1, max_value=1000, label="Messages an hour at most")
    field_order = ["name", "events", "digest_minutes", "quiet_start", "quiet_end", "hourly_limit"]


class PreferenceForm(TimingForm):
    """What one person wants, by e-mail and in their browsers."""

    enabled = forms.BooleanField(required=False, label="Send me e-mails")
    push_enabled = forms.BooleanField(required=False, label="Push to my browsers")
    push_events = forms.MultipleChoiceField(required=False, choices=_events, widget=forms.CheckboxSelectMultiple)
    field_order = ["enabled", "push_enabled", "events", "push_events", "digest_minutes", "quiet_start", "quiet_end"]

    def facts(self) -> dict[str, Any]:
        """What `save_preference` takes: every kind but single tasks is "everything", also what comes to be later; none is off."""
        given = dict(self.cleaned_data)
        for switch, kinds in (("enabled", "events"), ("push_enabled", "push_events")):
            given[switch] = given[switch] and bool(given[kinds])
            if set(given[kinds]) == {name for name, _ in _events() if not events.get(name).asked}:
                given[kinds] = []
        return given
