from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    name = "notifications"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from core import hooks, menu, periodic
        from notifications import audit_verbs, events, services  # noqa: F401  registers the verbs and events

        hooks.notice.subscribe(services.notify)
        periodic.register("notifications.deliver", 5)
        menu.register_settings(
            menu.Entry(35, "Notifications", "notifications:settings", "bell", permission="notifications.view")
        )
