"""Forms of automatic on and off."""

from __future__ import annotations

from uuid import UUID

from django import forms

from cloudnodes.automatic import MOST_MINUTES


class RuleForm(forms.Form):
    """A rule for everything, for a node type, or for one node."""

    target = forms.CharField(required=False, max_length=60, widget=forms.HiddenInput)
    idle_minutes = forms.IntegerField(
        label="Put to sleep after",
        required=False,
        min_value=1,
        max_value=MOST_MINUTES,
        help_text="Idle minutes. Leave it empty for never.",
    )
    warn_minutes = forms.IntegerField(label="Warn before", required=False, min_value=0, max_value=120, initial=5)
    auto_start = forms.BooleanField(
        label="A workflow may wake it", required=False, initial=True, help_text="When its tool asks for the node."
    )

    def clean_target(self) -> tuple[str, UUID | None]:
        kind, _, text = (self.cleaned_data["target"] or "default").partition(":")
        try:
            found = UUID(text) if text else None
        except ValueError:
            found = None
        if kind == "default":
            return "default", None
        if kind not in ("node", "type") or found is None:
            raise forms.ValidationError("This rule is for nothing that exists. Reload the page and try again.")
        return kind, found
