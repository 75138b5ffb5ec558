"""The form of a cluster's sleep rules."""

from __future__ import annotations

from typing import Any

from django import forms

LONGEST = 4000


class RulesForm(forms.Form):
    """Namespaces and tags are written one a line, or separated by commas."""

    scope = forms.ChoiceField(
        label="What sleeps",
        choices=[("full", "Every group of nodes"), ("selective", "Only the groups chosen here")],
        widget=forms.RadioSelect,
    )
    critical = forms.CharField(
        label="Critical namespaces",
        required=False,
        max_length=LONGEST,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Nothing in them is touched, and the nodes that run their pods stay. One a line.",
    )
    keep = forms.CharField(
        label="Keep what carries a tag",
        required=False,
        max_length=LONGEST,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Such as env=critical, on groups, nodes, namespaces or workloads. One a line.",
    )
    to_zero = forms.BooleanField(
        label="Down to no node at all",
        required=False,
        help_text="Name service, certificates, webhooks and the agent go with their nodes, and come first on waking.",
    )
    on_demand = forms.BooleanField(
        label="Wake on demand where spot has no capacity",
        required=False,
        help_text="For groups that mix both; their share is given back once awake.",
    )

    def rules(self, groups: list[str]) -> dict[str, Any]:
        """The arguments of `services.set_rules`."""
        data = self.cleaned_data
        pairs = [line.partition("=") for line in _lines(data["keep"])]
        return {
            "selective": data["scope"] == "selective",
            "groups": groups,
            "critical": _lines(data["critical"]),
            "keep": [(key, value) for key, _, value in pairs],
            "to_zero": data["to_zero"],
            "on_demand": data["on_demand"],
        }


def _lines(text: str) -> list[str]:
    return [part.strip() for part in text.replace(",", "\n").splitlines() if part.strip()]
