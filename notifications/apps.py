from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    name = "notifications"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from core import hooks, menu, periodic, sealed
        from notifications import audit_verbs, events, personal, services  # noqa: F401  registers the verbs and events

        hooks.notice.subscribe(services.notify)
        hooks.personal_data.subscribe(personal.sections)
        hooks.organization_closed.subscribe(personal.organization_closed)
        hooks.mail_wanted.subscribe(services.mail_once)
        sealed.register("channel", "notifications.Channel", "secrets", lambda row: f"channel:{row.id}")
        sealed.register("push", "notifications.PushSubscription", "secrets", lambda row: f"push:{row.id}")
        periodic.register("notifications.deliver", 5)
        menu.register_settings(
            menu.Entry(
                7, "My notifications", "notifications:mine", "bell", permission="notifications.view", group="You"
            )
        )
        menu.register_settings(
            menu.Entry(35, "Channels", "notifications:settings", "send", permission="notifications.view")
        )
