from django.apps import AppConfig


class PoliciesConfig(AppConfig):
    name = "policies"
    verbose_name = "Policies"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from clusters import extensions
        from core import menu
        from policies import audit_verbs, cluster_links  # noqa: F401  registers the verbs
        from policies.enforcing import setup as enforcing

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
