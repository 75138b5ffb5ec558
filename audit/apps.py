from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "audit"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from core import menu

        menu.register(menu.Entry(100, "Audit Logs", "audit:list", "history", gap=True, permission="audit.view"))
