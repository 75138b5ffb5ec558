from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class CostsConfig(AppConfig):
    name = "costs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from core import menu, periodic
        from costs import audit_verbs  # noqa: F401  registers the verbs

        menu.register_settings(menu.Entry(60, "Budgets", "costs:budgets", "wallet", permission="costs.view"))
        periodic.register("costs.check_budgets", 60)
        periodic.register("costs.roll_up", 600)
        post_migrate.connect(_load_price_list, sender=self, dispatch_uid="costs.price_list")


def _load_price_list(using: str, apps: Any = None, **facts: Any) -> None:
    """After each migrate the built-in list prices are there; a database without the table is left alone."""
    from costs import prices

    try:
        (apps or facts["sender"].apps).get_model("costs", "CatalogPrice")
    except LookupError:
        return
    prices.load_built_in(using=using)
