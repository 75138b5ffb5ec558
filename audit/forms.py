"""What the audit log may be asked for."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django import forms

from audit import verbs
from audit.enums import DATADOG_SITES, ExportFormat, Outcome, Shipping, SinkKind
from audit.models import AuditSettings
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
    request = forms.CharField(required=False, max_length=64)
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
            request_id=given.get("request", ""),
            since=given.get("since", ""),
            start=_midnight(given.get("start"), timezone),
            end=_midnight(end + timedelta(days=1) if end else None, timezone),
        )


def _midnight(day: date | None, timezone: str) -> datetime | None:
    return datetime.combine(day, time(), ZoneInfo(timezone)).astimezone(UTC) if day else None


def verb_choices() -> list[tuple[str, str]]:
    """Every verb with its sentence, for the select."""
    return [(v.name, v.sentence.replace(" {target}", "").replace("{target}", "it")) for v in verbs.all_verbs()]


class ExportForm(forms.Form):
    """Which lines, in which form."""

    format = forms.ChoiceField(
        choices=(
            (ExportFormat.CSV.value, "CSV, for spreadsheets"),
            (ExportFormat.JSONL.value, "JSON Lines, verifiable"),
        ),
        label="Format",
    )
    period = forms.ChoiceField(
        choices=(
            ("30d", "Last 30 days"),
            ("quarter", "Last quarter"),
            ("all", "Everything"),
            ("custom", "Custom range"),
        ),
        label="Time range",
        widget=forms.Select(attrs={"data-shows": "#export-days", "data-shows-when": "custom"}),
    )
    start = forms.DateField(
        required=False, widget=forms.DateInput(attrs={"type": "date"}), label="From", help_text="For a custom range."
    )
    end = forms.DateField(required=False, widget=forms.DateInput(attrs={"type": "date"}), label="To")

    def facts(self, timezone: str) -> dict[str, Any]:
        """What `start_export` takes; days are days of `timezone`, the last one included."""
        given = self.cleaned_data
        end = given["end"]
        return {
            "file_format": given["format"],
            "period": given["period"],
            "start": _midnight(given["start"], timezone),
            "end": _midnight(end + timedelta(days=1) if end else None, timezone),
        }


class SettingsForm(forms.Form):
    """How long the log is kept."""

    retention_days = forms.TypedChoiceField(
        required=False,
        empty_value=None,
        coerce=int,
        choices=(
            (30, "30 days"),
            (90, "90 days"),
            (180, "180 days"),
            (365, "1 year"),
            (730, "2 years"),
            (2555, "7 years"),
            ("", "Indefinitely"),
        ),
        label="Keep the log",
        widget=forms.RadioSelect,
    )
    legal_hold = forms.BooleanField(required=False, label="Legal hold", help_text="Nothing is removed while it stands.")
    hold_reason = forms.CharField(required=False, max_length=300, label="Reason of the hold")

    @classmethod
    def of(cls, kept: AuditSettings) -> SettingsForm:
        return cls(
            initial={
                "retention_days": kept.retention_days or "",
                "legal_hold": kept.legal_hold,
                "hold_reason": kept.hold_reason,
            }
        )


_SECRET = {"autocomplete": "off", "spellcheck": "false"}
_NEEDED: dict[str, tuple[str, ...]] = {
    SinkKind.DATADOG: ("site", "api_key"),
    SinkKind.SPLUNK: ("url", "token"),
    SinkKind.S3: ("bucket", "folder", "region", "endpoint", "access_key_id", "secret_access_key"),
    SinkKind.SYSLOG: ("host", "port", "plain"),
    SinkKind.WEBHOOK: ("url",),
}


class SinkForm(forms.Form):
    """A new destination of one kind; it has the fields of that kind alone."""

    name = forms.CharField(max_length=80, label="Name")
    kind = forms.ChoiceField(choices=SinkKind.choices, widget=forms.HiddenInput)
    shape = forms.ChoiceField(choices=Shipping.choices, label="Form of the events")
    url = forms.CharField(max_length=500, label="Address", widget=forms.URLInput)
    site = forms.ChoiceField(choices=[(site, site) for site in DATADOG_SITES], label="Datadog site")
    api_key = forms.CharField(max_length=200, widget=forms.PasswordInput(attrs=_SECRET), label="API key")
    token = forms.CharField(max_length=200, widget=forms.PasswordInput(attrs=_SECRET), label="HEC token")
    bucket = forms.CharField(
        max_length=63, label="Bucket", help_text="With object lock, nobody can take back what was sent."
    )
    folder = forms.CharField(required=False, max_length=200, label="Folder in the bucket")
    region = forms.CharField(max_length=30, label="Region")
    endpoint = forms.CharField(
        required=False, max_length=300, widget=forms.URLInput, label="Address, when it is not Amazon's"
    )
    access_key_id = forms.CharField(max_length=128, label="Access key id")
    secret_access_key = forms.CharField(
        max_length=200, widget=forms.PasswordInput(attrs=_SECRET), label="Secret access key"
    )
    host = forms.CharField(max_length=253, label="Host")
    port = forms.IntegerField(min_value=1, max_value=65535, initial=6514, label="Port")
    plain = forms.BooleanField(required=False, label="Without TLS", help_text="Only inside a network that you trust.")

    def __init__(self, *args: Any, kind: str = SinkKind.WEBHOOK, **more: Any) -> None:
        more["initial"] = {"kind": kind, **(more.get("initial") or {})}
        super().__init__(*args, **more)
        kept = {"name", "kind", "shape", *_NEEDED.get(kind, ())}
        self.fields = {name: field for name, field in self.fields.items() if name in kept}

    def facts(self) -> dict[str, Any]:
        """What `add_sink` takes."""
        given = self.cleaned_data
        hidden = ("api_key", "token", "access_key_id", "secret_access_key")
        options = {
            name: value
            for name, value in given.items()
            if name not in {*hidden, "name", "kind", "shape", "plain"} and value not in ("", None)
        }
        if options.pop("folder", ""):
            options["prefix"] = given["folder"]
        if "plain" in given:
            options["tls"] = not given["plain"]
        return {
            "name": given["name"],
            "kind": given["kind"],
            "shape": given["shape"],
            "options": options,
            "secrets": {n: given[n] for n in hidden if given.get(n)},
        }
