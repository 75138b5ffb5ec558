from django.apps import AppConfig


class OperationsConfig(AppConfig):
    name = "operations"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from core import hooks, periodic
        from operations import account_scan, audit_verbs, registry  # noqa: F401  registers the verbs

        registry.register(account_scan.AccountScan())
        hooks.cloud_account_connected.subscribe(account_scan.request_scan)
        hooks.cloud_account_resync.subscribe(account_scan.request_scan)

        periodic.register("operations.tick", 2)
        periodic.register("operations.sweep", 10)
