"""Reading the forms of node templates and policies."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import QueryDict

from core.errors import InvalidInput
from policies.enums import DiskType

DISKS = (
    (DiskType.GP3, "gp3: general purpose, the cheapest for most nodes"),
    (DiskType.GP2, "gp2: general purpose, older"),
    (DiskType.IO1, "io1: provisioned IOPS"),
    (DiskType.IO2, "io2: provisioned IOPS, more durable"),
    (DiskType.EPHEMERAL, "Ephemeral: the machine's own disks, lost with it"),
)
NUMBERS = ("on_demand_base", "on_demand_percent", "disk_gib", "limit_cpu", "limit_memory_gib", "weight")
LISTS = ("architectures", "families", "excluded_sizes", "security_groups", "subnets")
TEXTS = ("name", "description", "purchasing", "strategy", "disk_type", "region", "node_role", "image", "account_id")


class TemplateForm(forms.Form):
    """The plain fields of a node template; lists of ticks are read by `template_values`. Meaning is the service's."""

    name = forms.CharField(max_length=63, label="Template name", error_messages={"required": "Give it a name."})
    description = forms.CharField(
        required=False, max_length=500, widget=forms.Textarea(attrs={"rows": 2}), label="Description"
    )
    make_default = forms.BooleanField(required=False, label="Make this the default template of the organization")
    on_demand_base = forms.IntegerField(required=False, min_value=0, max_value=10_000, label="On-demand base, nodes")
    on_demand_percent = forms.IntegerField(required=False, min_value=0, max_value=100, label="On-demand above the base")
    disk_type = forms.ChoiceField(choices=[(str(key), text) for key, text in DISKS], label="Disk type")
    disk_gib = forms.IntegerField(min_value=1, max_value=65_536, label="Disk size")
    account_id = forms.ChoiceField(required=False, label="Cloud account")
    region = forms.CharField(required=False, max_length=60, label="Region")
    node_role = forms.CharField(required=False, max_length=200, label="IAM role of the nodes")
    image = forms.CharField(required=False, max_length=30, label="Image")
    limit_cpu = forms.IntegerField(required=False, min_value=1, label="Most vCPU of all its nodes")
    limit_memory_gib = forms.IntegerField(required=False, min_value=1, label="Most memory of all its nodes")

    def __init__(self, *args: Any, accounts: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["account_id"].choices = [("", "None"), *accounts]  # type: ignore[attr-defined]

    def refuse(self, error: InvalidInput) -> None:
        """Put a service's words beside the fields that they are about; others stand above the form."""
        for name, words in error.errors.items():
            for word in words:
                self.add_error(name if name in self.fields else None, word)


def template_values(data: QueryDict) -> dict[str, Any]:
    """What the form says, as `services.save_template` takes it. A number that is none stays text: it is refused."""
    values: dict[str, Any] = {field: data.get(field, "").strip() for field in TEXTS if field in data}
    values |= {field: data.getlist(field) for field in LISTS}
    for field in NUMBERS:
        if field in data:
            text = data.get(field, "").strip()
            values[field] = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else text or None
    values["security_groups"] = _unique(values["security_groups"], data.get("more_groups", ""))
    values["subnets"] = _unique(values["subnets"], data.get("more_subnets", ""))
    return values


def _unique(ticked: list[str], typed: str) -> list[str]:
    """Ticked ids and those that were typed, each once."""
    return list(dict.fromkeys([*ticked, *typed.replace(",", " ").split()]))


def policy_document(data: QueryDict) -> dict[str, Any]:
    """The document that the policy form describes. A number that is none stays text: the document refuses it.

    Every card sends all its fields; a box that is not ticked sends nothing.
    """

    def number(name: str, default: int) -> Any:
        text = data.get(name, "").strip()
        return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else text or default

    def ticked(name: str) -> bool:
        return name in data

    return {
        "autoscaling": {
            "enabled": ticked("autoscaling.enabled"),
            "strategy": data.get("autoscaling.strategy", "capacity_optimized"),
            "template": data.get("autoscaling.template", ""),
            "on_demand_fallback": ticked("autoscaling.on_demand_fallback"),
        },
        "consolidation": {
            "enabled": ticked("consolidation.enabled"),
            "level": data.get("consolidation.level", "balanced"),
            "method": data.get("consolidation.method", "delete_empty"),
            "stabilization_minutes": number("consolidation.stabilization_minutes", 10),
            "zone": data.get("consolidation.zone", "").strip(),
            "budgets": _budgets(data),
            "max_new_nodes": 1 if ticked("consolidation.max_new_nodes") else 0,
        },
        "hibernation": {"schedule": data.get("hibernation.schedule", "")},
        "rightsizing": {
            "mode": data.get("rightsizing.mode", "recommend"),
            "profile": data.get("rightsizing.profile", "p95"),
            "headroom_percent": number("rightsizing.headroom_percent", 20),
            "minimum_monthly": data.get("rightsizing.minimum_monthly", "").strip() or "10",
            "in_place": ticked("rightsizing.in_place"),
            "down_from": number("rightsizing.down_from", 22),
            "down_until": number("rightsizing.down_until", 6),
        },
        "placement": {
            "spot": data.get("placement.spot", "none"),
            "block_burstable": ticked("placement.block_burstable"),
            "spread_zones": ticked("placement.spread_zones"),
        },
        "exemptions": {
            "namespaces": _unique(data.getlist("exemptions.namespaces"), data.get("exemptions.more", "")),
            "labels": _labels(data),
        },
    }


def _budgets(data: QueryDict) -> list[dict[str, Any]]:
    """Rows of budgets; one that is wholly empty is left out."""
    rows = zip(
        data.getlist("budget.nodes"),
        data.getlist("budget.schedule"),
        data.getlist("budget.minutes"),
        data.getlist("budget.reason"),
        strict=False,
    )
    found = []
    for nodes, schedule, minutes, reason in rows:
        if not (nodes.strip() or schedule.strip() or minutes.strip()):
            continue
        text = minutes.strip()
        found.append(
            {
                "nodes": nodes.strip(),
                "schedule": schedule.strip(),
                "minutes": int(text) if text.isascii() and text.isdigit() and len(text) < 9 else text or 0,
                "reasons": [reason] if reason else [],
            }
        )
    return found


def _labels(data: QueryDict) -> list[dict[str, str]]:
    rows = zip(data.getlist("label.key"), data.getlist("label.value"), strict=False)
    return [{"key": key.strip(), "value": value.strip()} for key, value in rows if key.strip() or value.strip()]
