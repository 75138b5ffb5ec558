from django.apps import AppConfig


class OperationsConfig(AppConfig):
    name = "operations"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from core import hooks, menu, periodic
        from operations import account_scan, audit_verbs, closing, personal_export, registry  # noqa: F401  registers the verbs

        registry.register(account_scan.AccountScan())
        registry.register(closing.OrganizationClose())
        registry.register(personal_export.PersonExport())
        hooks.person_deleted.subscribe(personal_export.forget)
        menu.register_settings(menu.Entry(8, "My data", "operations:my-data", "file-download", group="You"))
        hooks.cloud_account_connected.subscribe(account_scan.request_scan)
        hooks.cloud_account_resync.subscribe(account_scan.request_scan)

        periodic.register("operations.tick", 2)
        periodic.register("operations.sweep", 10)
        periodic.register("operations.clear_exports", 3600)
