"""Routes of budgets, prices and the ledger's file."""

from __future__ import annotations

from decimal import Decimal

from costs import budget_rules, services
from tests.access.matrix import Route, World, page


def build(world: World) -> None:
    """One budget that is used up by nothing yet, of a team."""
    rules = budget_rules.Rules(refuse_starts=True)
    budget = services.set_budget(actor=world.alice.actor, amount=Decimal(25), scope="team", subject="Comp", rules=rules)
    world.ids["budget"] = str(budget.id)


ROUTES = [
    page("/costs/export.csv"),
    page("/costs/prices"),
    Route("POST", "/settings/budgets/{budget}/lift", 302, 403, 403, 302, 404),
    Route("POST", "/settings/budgets/{budget}/remove", 302, 403, 403, 302, 404),
]
