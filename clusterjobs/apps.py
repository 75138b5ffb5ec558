from django.apps import AppConfig


class ClusterJobsConfig(AppConfig):
    name = "clusterjobs"
    verbose_name = "Clusters that run tasks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from clusterjobs import audit_verbs  # noqa: F401  registers the verbs
        from core import periodic

        periodic.register("clusterjobs.tend_due", 2)
