"""Forms of the ledger and of budgets."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

from django import forms

from costs.budget_rules import ORDERS, SCOPES, USUAL_WARNINGS, Rules
from costs.budget_rules import PERIODS as PERIODS_OF_BUDGETS
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
    """A budget with its rules. What is left out is the organization's day with the usual warnings, and acts never."""

    scope = forms.ChoiceField(label="Whose", choices=list(SCOPES.items()))
    subject = forms.CharField(
        label="Name of the team or person",
        required=False,
        max_length=80,
        help_text="As the ledger writes it. Leave it empty for the organization.",
    )
    period = forms.ChoiceField(label="Period", choices=list(PERIODS_OF_BUDGETS.items()))
    amount = forms.DecimalField(
        label="Amount",
        required=False,
        min_value=Decimal("0.01"),
        max_value=Decimal("9999999.99"),
        max_digits=9,
        decimal_places=2,
        help_text="In US dollars. Leave it empty to take the limit away.",
    )
    warn_at = forms.CharField(
        label="Warn at",
        required=False,
        max_length=60,
        initial="50, 80, 100",
        help_text="Per cent of the amount, with commas between. Channels and people who listen for budgets are told.",
    )
    act_at = forms.IntegerField(label="Act at", required=False, min_value=1, max_value=500, initial=100)
    refuse_starts = forms.BooleanField(label="Refuse new starts", required=False)
    sleep_idle = forms.BooleanField(
        label="Put to sleep what is idle",
        required=False,
        help_text="Only what is known to be idle. What is busy, or of which nothing is known, is never touched.",
    )
    order = forms.ChoiceField(label="In this order", choices=list(ORDERS.items()))

    def __init__(self, data: Any = None, *, subjects: dict[str, list[str]] | None = None, **kwargs: Any) -> None:
        if data is not None:
            usual = {"scope": "organization", "period": "day", "order": "dearest"}
            data = {**usual, **{name: data.get(name) for name in data}}
        super().__init__(data, **kwargs)
        if subjects and (subjects["team"] or subjects["person"]):
            self.fields["subject"].widget.attrs["list"] = "budget-subjects"

    def clean_warn_at(self) -> tuple[int, ...]:
        text = self.cleaned_data["warn_at"].replace("%", " ").replace(",", " ").replace(";", " ")
        if not text.strip():
            return () if "warn_at" in self.data else USUAL_WARNINGS
        if not all(part.isdecimal() and 1 <= int(part) <= 500 for part in text.split()):
            raise forms.ValidationError("Numbers between 1 and 500 with commas between, such as 50, 80, 100.")
        return tuple(int(part) for part in text.split())

    def rules(self) -> Rules:
        given = self.cleaned_data
        return Rules(
            warn_at=given["warn_at"],
            act_at=given["act_at"] or 100,
            refuse_starts=given["refuse_starts"],
            sleep_idle=given["sleep_idle"],
            order=given["order"] or "dearest",
        )
