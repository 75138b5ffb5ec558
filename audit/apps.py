from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "audit"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from audit import audit_verbs  # noqa: F401  registers the verbs
        from core import menu, periodic, sealed

        menu.register(menu.Entry(100, "Audit Logs", "audit:list", "history", gap=True, permission="audit.view"))
        sealed.register("audit_sink", "audit.Sink", "secrets", lambda row: f"sink:{row.id}")
        periodic.register("audit.seal", 2)
        periodic.register("audit.checkpoint", 300)
        periodic.register("audit.purge", 3600)
        periodic.register("audit.ship", 5)
