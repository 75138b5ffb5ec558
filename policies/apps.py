from django.apps import AppConfig


class PoliciesConfig(AppConfig):
    name = "policies"
    verbose_name = "Policies"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from clusters import extensions
        from core import menu, periodic
        from operations import registry
        from policies import audit_verbs, cluster_links  # noqa: F401  registers the verbs
        from policies.enforcing import setup as enforcing
        from policies.rightsizing import executors, tasks  # noqa: F401  registers the tasks
        from policies.rightsizing.selectors import notice

        registry.register(executors.Resize())
        registry.register(executors.Rollback())
        periodic.register("policies.size_reports", 300)
        periodic.register("policies.apply_sizes", 60)
        extensions.register_notice(notice)
        from policies.placement import setup

        enforcing.register()
        extensions.register_templates(cluster_links.rules_of)
        extensions.register_bulk(cluster_links.TEMPLATE)
        extensions.register_bulk(cluster_links.POLICY)
        menu.register(
            menu.Entry(
                80,
                "Node Templates",
                "policies:templates",
                "template",
                prefix="/node-templates",
                permission="policies.view",
            )
        )
        menu.register(
            menu.Entry(
                85,
                "Optimization Policies",
                "policies:policies",
                "adjustments-horizontal",
                prefix="/policies",
                permission="policies.view",
            )
        )
        setup.register()
