"""Forms of the ledger and of budgets."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from django import forms

from costs.enums import Phase
from costs.reporting import CAUSES, PERIODS, Filters, period_named


class LedgerForm(forms.Form):
    """Filters of the ledger; what makes no sense is ignored, so that an old link still shows something."""

    period = forms.ChoiceField(required=False, choices=[("", ""), *PERIODS.items()])
    start = forms.DateField(required=False)
    end = forms.DateField(required=False)
    resource = forms.CharField(required=False, max_length=90)
    phase = forms.ChoiceField(required=False, choices=[("", ""), (Phase.AWAKE, ""), (Phase.ASLEEP, "")])
    cause = forms.ChoiceField(required=False, choices=[("", ""), *CAUSES.items()])
    q = forms.CharField(required=False, max_length=200)

    def filters(self, timezone: str) -> Filters:
        """The asked filters, with days of `timezone`."""
        self.is_valid()
        given = self.cleaned_data
        kind, _, text = given.get("resource", "").partition(":")
        try:
            resource_id = UUID(text) if text else None
        except ValueError:
            resource_id = None
        custom = given.get("start") and given.get("end")
        return Filters(
            period=period_named(
                "custom" if custom else given.get("period", ""), timezone, given.get("start"), given.get("end")
            ),
            resource_kind=kind if resource_id else "",
            resource_id=resource_id,
            phase=given.get("phase", ""),
            cause=given.get("cause", ""),
            search=given.get("q", ""),
        )


class BudgetForm(forms.Form):
    """DAILY SPEND; empty means no limit."""

    amount = forms.DecimalField(
        label="Daily spend",
        required=False,
        min_value=Decimal("0.01"),
        max_value=Decimal("9999999.99"),
        max_digits=9,
        decimal_places=2,
        help_text="What the organization means to spend in a day, in US dollars. Leave it empty for no limit.",
    )
