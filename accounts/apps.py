from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from accounts import audit_verbs, personal, receivers, services  # noqa: F401  registers the verbs
        from core import hooks, menu, sealed

        receivers.connect()
        hooks.personal_data.subscribe(personal.sections)
        sealed.register("cloud_account", "accounts.CloudAccount", "credentials", lambda row: str(row.seal_name))
        hooks.access_denied.subscribe(services.record_denied)
        menu.register(menu.Entry(110, "Settings", "accounts:settings", "settings", prefix="/settings/"))
        menu.register_settings(
            menu.Entry(5, "Profile", "accounts:settings", "user", prefix="/settings/profile", group="You")
        )
        menu.register_settings(menu.Entry(6, "Security", "accounts:security", "shield-lock", group="You"))
        menu.register_settings(menu.Entry(9, "Organization", "accounts:settings-organization", "building"))
        menu.register_settings(
            menu.Entry(10, "Cloud Integrations", "accounts:cloud-accounts", "cloud", permission="accounts.view")
        )
        menu.register_settings(menu.Entry(20, "Members", "accounts:members", "users", permission="members.view"))
        menu.register_settings(menu.Entry(30, "API keys", "accounts:api-keys", "key", permission="api_keys.manage"))
        menu.register_settings(menu.Entry(32, "Agents", "accounts:agents", "robot", permission="agents.manage"))
