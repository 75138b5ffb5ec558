from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from accounts import audit_verbs  # noqa: F401  registers the verbs
        from core import menu

        menu.register(menu.Entry(110, "Settings", "accounts:settings", "settings", prefix="/settings/"))
        menu.register_settings(menu.Entry(10, "Cloud Integrations", "accounts:cloud-accounts", "cloud", permission="accounts.view"))
