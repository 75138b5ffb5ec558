"""Reading the pages' forms; meaning is checked by `checking` and the services."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import join
from typing import Any
from uuid import UUID

from django import forms

from core.errors import InvalidInput
from taskrunner import images
from taskrunner.enums import RETRYABLE, ExitClass, WorkerState
from taskrunner.models import Quota, Task, TaskTemplate, Worker

LIMITS = ("most_queued", "most_running", "most_cpu", "most_memory", "most_gpus")


def pairs(text: str, name: str) -> dict[str, str]:
    """`KEY=value` lines as an object. Raises InvalidInput for a line without an equals sign."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        key, equals, value = line.partition("=")
        if not equals:
            raise InvalidInput(errors={name: [f"Line {number} has no equals sign."]})
        found[key.strip()] = value
    return found


_SHOWN_AT = {"timeout_seconds": "timeout", "files": "file_path", "fields": "cron"}


class TaskForm(forms.Form):
    """A submission."""

    name = forms.CharField(label="Name", max_length=120)
    image = forms.CharField(
        label="Image",
        max_length=images.LONGEST,
        widget=forms.TextInput(
            attrs={
                "pattern": images.PATTERN,
                "title": "An image reference, such as python:3.12-slim or registry.example.com/team/image:tag",
                "spellcheck": "false",
                "autocapitalize": "none",
            }
        ),
        help_text="For example python:3.12-slim.",
    )
    command = forms.CharField(
        label="Command",
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 3, "class": "mono", "spellcheck": "false"}),
        help_text="Parted into words as a shell does; the image's own command when empty.",
    )
    description = forms.CharField(label="Description", required=False, max_length=1000)
    cpu = forms.DecimalField(
        label="CPU", min_value=0.01, max_value=1024, decimal_places=3, initial=1, help_text="Cores."
    )
    memory = forms.IntegerField(
        label="Memory", min_value=4, initial=512, help_text="MiB; the task ends when it needs more."
    )
    storage = forms.IntegerField(
        label="Storage", min_value=0, initial=0, required=False, help_text="MiB that must be free."
    )
    gpus = forms.IntegerField(label="GPUs", min_value=0, max_value=64, initial=0, required=False)
    environment = forms.CharField(
        label="Environment",
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "class": "mono", "spellcheck": "false"}),
        help_text="One NAME=value a line.",
    )
    secrets = forms.CharField(
        label="Secrets",
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "class": "mono", "spellcheck": "false", "autocomplete": "off"}),
        help_text="One NAME=value a line. Sealed at once, never shown again.",
    )
    labels = forms.CharField(
        label="Only on workers with", required=False, help_text="Labels as key=value, parted by spaces."
    )
    timeout = forms.IntegerField(label="Time limit", min_value=1, initial=60, help_text="Minutes.")
    retries = forms.IntegerField(label="Further attempts", min_value=0, max_value=20, initial=0, required=False)
    retry_on = forms.MultipleChoiceField(
        label="Try again when",
        required=False,
        choices=[(c.value, c.label) for c in ExitClass if c in RETRYABLE],
        initial=["lost"],
        widget=forms.CheckboxSelectMultiple,
    )
    priority = forms.IntegerField(
        label="Priority", min_value=-100, max_value=100, initial=0, required=False, help_text="Higher runs first."
    )
    network = forms.BooleanField(label="May reach the network", required=False, initial=True)
    shared = forms.BooleanField(label="Everybody in the organization may see it", required=False)
    file_path = forms.CharField(
        label="File", required=False, max_length=400, help_text="Where it lies in the container, /etc/app.ini."
    )
    file_text = forms.CharField(
        label="Its content",
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 3, "class": "mono", "spellcheck": "false", "autocomplete": "off"}),
        help_text="Sealed like a secret. Several files go over the API.",
    )
    needs = forms.MultipleChoiceField(
        label="Runs after", required=False, widget=forms.CheckboxSelectMultiple, help_text="When all of them succeeded."
    )
    cron = forms.CharField(
        label="Repeat",
        required=False,
        max_length=120,
        help_text="Minute, hour, day, month, weekday: 0 3 * * 1-5. It then runs at these times, not now.",
    )
    zone = forms.CharField(label="Time zone", required=False, max_length=64, help_text="Of the times above.")
    template = forms.CharField(
        label="Keep as a template", required=False, max_length=120, help_text="A name; secrets are not kept."
    )

    def __init__(self, *args: Any, tasks: Sequence[Task] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["needs"].choices = [(str(task.id), f"{task.name}, {task.get_status_display()}") for task in tasks]  # type: ignore[attr-defined]

    def fields_given(self) -> dict[str, Any]:
        """The submission as `checking.checked` takes it. Raises InvalidInput."""
        found = self.cleaned_data
        return {
            **{name: found[name] for name in ("name", "image", "command", "description", "memory", "retry_on")},
            **{name: found[name] or 0 for name in ("storage", "gpus", "retries", "priority")},
            "cpu": int(found["cpu"] * 1000),
            "timeout_seconds": found["timeout"] * 60,
            "environment": pairs(found["environment"], "environment"),
            "secrets": pairs(found["secrets"], "secrets"),
            "files": {found["file_path"]: found["file_text"]} if found["file_path"] else {},
            "labels": pairs("\n".join(found["labels"].split()), "labels"),
            "network": found["network"],
            "shared": found["shared"],
        }

    def take_errors(self, wrong: InvalidInput) -> None:
        """Show a service's errors beside their fields."""
        for name, words in wrong.errors.items():
            field = _SHOWN_AT.get(name, name)
            for text in words:
                self.add_error(field if field in self.fields else None, text)


def initial_of(row: TaskTemplate | Task | None) -> dict[str, Any]:
    """What the form starts with: a template's or an earlier task's fields."""
    if row is None:
        return {}
    facts = row.fields if isinstance(row, TaskTemplate) else {
        name: getattr(row, name)
        for name in (
            "name", "image", "command", "description", "cpu", "memory", "storage", "gpus", "environment", "labels",
            "timeout_seconds", "retries", "retry_on", "priority", "network", "shared",
        )
    }  # fmt: skip
    return {
        **facts,
        "command": join(facts["command"]),
        "cpu": facts["cpu"] / 1000,
        "timeout": max(1, facts["timeout_seconds"] // 60),
        "environment": "\n".join(f"{k}={v}" for k, v in facts["environment"].items()),
        "labels": " ".join(f"{k}={v}" for k, v in facts["labels"].items()),
    }


class EnrolForm(forms.Form):
    name = forms.CharField(label="Name of the token", max_length=120, help_text="Which machines it is for.")
    hours = forms.IntegerField(label="Good for", min_value=1, max_value=720, initial=24, help_text="Hours.")


class WorkerForm(forms.Form):
    """Settings of one worker."""

    name = forms.CharField(label="Name", max_length=120)
    wanted = forms.ChoiceField(label="New tasks", choices=WorkerState.choices)
    labels = forms.CharField(label="Labels", required=False, help_text="key=value, parted by spaces.")
    machine = forms.ChoiceField(
        label="Runs on", required=False, help_text="The machine that is woken and put to sleep."
    )
    auto_start = forms.BooleanField(label="Wake it when a task waits for it", required=False)
    auto_stop_minutes = forms.IntegerField(
        label="Put it to sleep after", required=False, min_value=1, max_value=10080, help_text="Minutes without a task."
    )

    def __init__(self, data: Any = None, *, worker: Worker, machines: list[tuple[str, str]]) -> None:
        super().__init__(
            data,
            initial={
                "name": worker.name,
                "wanted": worker.wanted,
                "labels": " ".join(f"{k}={v}" for k, v in worker.labels.items()),
                "machine": f"{worker.sleepable_kind}:{worker.sleepable_id}" if worker.sleepable_id else "",
                "auto_start": worker.auto_start,
                "auto_stop_minutes": worker.auto_stop_minutes,
            },
        )
        field = self.fields["machine"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", "A machine that Curfew does not know"), *machines]

    def changes(self) -> dict[str, Any]:
        """What the service takes. Raises InvalidInput."""
        found = self.cleaned_data
        kind, _, number = found["machine"].partition(":")
        return {
            "name": found["name"],
            "wanted": found["wanted"],
            "labels": pairs("\n".join(found["labels"].split()), "labels"),
            "sleepable_kind": kind,
            "sleepable_id": number or None,
            "auto_start": found["auto_start"],
            "auto_stop_minutes": found["auto_stop_minutes"],
        }


class LimitForm(forms.Form):
    """Limits of one person or of all; empty is none."""

    user = forms.UUIDField(required=False)
    most_queued = forms.IntegerField(label="Not ended", required=False, min_value=0)
    most_running = forms.IntegerField(label="Running", required=False, min_value=0)
    most_cpu = forms.DecimalField(
        label="CPU, cores", required=False, min_value=0, max_value=1_000_000, decimal_places=3
    )
    most_memory = forms.IntegerField(label="Memory, MiB", required=False, min_value=0)
    most_gpus = forms.IntegerField(label="GPUs", required=False, min_value=0)

    @classmethod
    def of(cls, quota: Quota | None, user_id: UUID | None, prefix: str) -> LimitForm:
        """The form of one row with what is stored."""
        stored = {name: getattr(quota, name) for name in LIMITS} if quota else {}
        if stored.get("most_cpu") is not None:
            stored["most_cpu"] = f"{stored['most_cpu'] / 1000:.10g}"
        return cls(initial={**stored, "user": user_id}, prefix=prefix)

    def limits(self) -> dict[str, int | None]:
        """What the service takes: CPU in millicores."""
        found = {name: self.cleaned_data[name] for name in LIMITS}
        cores = found["most_cpu"]
        return {**found, "most_cpu": None if cores is None else int(cores * 1000)}


class HookForm(forms.Form):
    """A webhook that submits a template."""

    name = forms.CharField(label="Name", max_length=120, help_text="Who calls it.")
    template = forms.ChoiceField(label="Submits")
    per_minute = forms.IntegerField(label="Calls a minute", min_value=1, max_value=600, initial=30)

    def __init__(self, data: Any = None, *, templates: list[tuple[str, str]]) -> None:
        super().__init__(data)
        field = self.fields["template"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = templates


class KeepingForm(forms.Form):
    """Empty is for ever."""

    log_days = forms.IntegerField(
        label="Keep logs",
        required=False,
        min_value=1,
        max_value=3650,
        help_text="Days after a task's end; empty: for ever.",
    )
    sample_days = forms.IntegerField(
        label="Keep figures", required=False, min_value=1, max_value=3650, help_text="Days; empty: for ever."
    )
