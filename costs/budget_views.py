"""Pages of budgets: today by team and person, where it leads, what each budget does; and the price book."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from core import htmx, menu
from core.actor import Actor
from core.errors import InvalidInput
from costs import budgets as at_work
from costs import price_book, services, spending
from costs.forms import BudgetForm
from costs.views import actor_of


@require_http_methods(["GET", "POST"])
def budgets(request: HttpRequest) -> HttpResponse:
    """Today and every budget: shown to whoever sees costs, changed by whoever may manage budgets."""
    actor = actor_of(request)
    actor.require("costs.view", "see budgets")
    if request.method == "GET":
        return _page(request, actor, None)
    actor.require("budgets.manage", "change budgets")
    form = BudgetForm(request.POST)
    if form.is_valid():
        try:
            words = _save(actor, form)
        except InvalidInput as refused:
            for field, said in refused.errors.items():
                form.add_error(field if field in form.fields else None, said)
        else:
            messages.success(request, words)
            return htmx.redirect(request, reverse("costs:budgets"))
    return _page(request, actor, form)


def _save(actor: Actor, form: BudgetForm) -> str:
    given = form.cleaned_data
    where: dict[str, str] = {
        "scope": given["scope"] or "organization",
        "subject": given["subject"].strip(),
        "period": given["period"] or "day",
    }
    if given["amount"] is None:
        gone = services.remove_budget(actor=actor, **where)
        return "There is no such limit any more." if gone else "There was no such limit."
    budget = services.set_budget(actor=actor, amount=given["amount"], rules=form.rules(), **where)
    words = f"Saved {at_work.label_of(budget)}."
    if budget.scope != "organization" and budget.subject not in spending.subjects(actor=actor)[budget.scope]:
        words += f" The ledger knows no {budget.scope} of this name yet, so nothing counts against it."
    return words


def _page(request: HttpRequest, actor: Actor, form: BudgetForm | None) -> HttpResponse:
    organization = request.organization  # type: ignore[attr-defined]
    standings = spending.standings(actor=actor, organization=organization)
    subjects = spending.subjects(actor=actor)
    wanted = request.GET.get("edit", "")
    edited = next((s for s in standings if str(s.budget.id) == wanted), None)
    if form is None:
        form = BudgetForm(initial=_initial(edited), subjects=subjects)
    context = {
        "page_title": "Budgets",
        "form": form,
        "edited": edited,
        "standings": standings,
        "subjects": sorted({*subjects["team"], *subjects["person"]}),
        "day": spending.today(actor=actor, organization=organization),
        "may_change": actor.can("budgets.manage"),
        "settings_menu": menu.settings_menu(actor, request.path),
        "currency": "USD",
    }
    return htmx.render_page(request, "costs/budgets.html", context, fragment="body", status=422 if form.errors else 200)


def _initial(edited: spending.Standing | None) -> dict[str, Any]:
    if edited is None:
        return {}
    rules = edited.rules
    return {
        "scope": edited.budget.scope,
        "subject": edited.budget.subject,
        "period": edited.budget.period,
        "amount": edited.budget.amount,
        "warn_at": ", ".join(str(p) for p in rules.warn_at),
        "act_at": rules.act_at,
        "refuse_starts": rules.refuse_starts,
        "sleep_idle": rules.sleep_idle,
        "order": rules.order,
    }


@require_POST
def remove(request: HttpRequest, budget_id: UUID) -> HttpResponse:
    """Take one budget away."""
    actor = actor_of(request)
    (found,) = spending.standings(actor=actor, organization=request.organization, only=budget_id)  # type: ignore[attr-defined]
    budget = found.budget
    services.remove_budget(actor=actor, scope=budget.scope, subject=budget.subject, period=budget.period)
    messages.success(request, "The budget is removed.")
    return htmx.redirect(request, reverse("costs:budgets"))


@require_POST
def lift(request: HttpRequest, budget_id: UUID) -> HttpResponse:
    """Let one budget be exceeded until its period ends."""
    budget = at_work.lift(actor=actor_of(request), budget_id=budget_id)
    messages.success(request, f"It warns, but does not act, until this {budget.period} ends.")
    return htmx.redirect(request, reverse("costs:budgets"))


@require_GET
def prices(request: HttpRequest) -> HttpResponse:
    """The price book: what a type costs an hour while it is on, idle or not, and where the figure comes from."""
    actor = actor_of(request)
    actor.require("costs.view", "see prices")
    found = price_book.listed(search=request.GET.get("q", "")[:60], provider=request.GET.get("provider", ""))
    context = {
        "page_title": "Price book",
        "page": Paginator(found, 50).get_page(request.GET.get("page")),
        "grid": price_book.toolbar(request.GET, reverse("costs:prices")),
        "currency": "USD",
        "tiers": price_book.by_tier(),
    }
    return htmx.render_page(request, "costs/prices.html", context, fragment="grid")
