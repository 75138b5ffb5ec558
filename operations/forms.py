"""What the operations list may be asked for."""

from __future__ import annotations

from django import forms

from operations.selectors import SORTS, STATUS_GROUPS, Filters


class FilterForm(forms.Form):
    """Search, status, kind and order; what makes no sense is ignored, so that an old link still shows a list."""

    q = forms.CharField(required=False, max_length=200)
    status = forms.ChoiceField(required=False, choices=[("", "All"), *((key, key) for key in STATUS_GROUPS)])
    kind = forms.CharField(required=False, max_length=40)
    sort = forms.ChoiceField(required=False, choices=[(key, key) for name in SORTS for key in (name, f"-{name}")])

    def filters(self) -> Filters:
        """The asked filters; fields with errors count as not asked."""
        self.is_valid()
        given = self.cleaned_data
        return Filters(
            search=given.get("q", ""),
            status=given.get("status", ""),
            kind=given.get("kind", ""),
            sort=given.get("sort") or "-created",
        )
