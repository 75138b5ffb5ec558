from django.apps import AppConfig


class HibernationConfig(AppConfig):
    name = "hibernation"
    verbose_name = "Hibernation"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from clusters import extensions
        from core import hooks, menu, periodic
        from hibernation import audit_verbs, cluster_bulk, policy_link  # noqa: F401  registers the verbs
        from hibernation.services.pausing import pause_all
        from policies.extensions import register_schedules

        extensions.register_bulk(cluster_bulk.ACTION)
        register_schedules(policy_link.Schedules())
        hooks.organization_closing.subscribe(pause_all)

        periodic.register("hibernation.tick", 15)
        menu.register(
            menu.Entry(
                70,
                "Hibernation",
                "hibernation:list",
                "calendar-time",
                prefix="/hibernation",
                gap=True,
                permission="hibernation.view",
            )
        )
