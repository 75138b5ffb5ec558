from django.apps import AppConfig


class CloudNodesConfig(AppConfig):
    name = "cloudnodes"
    verbose_name = "Cloud nodes"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from accounts import services as accounts
        from cloudnodes import audit_verbs, discovery, executors, package_executor, package_verbs, services, sleeping  # noqa: F401  registers the verbs
        from core import discovery as scans
        from core import hooks, menu, periodic, sleepable
        from operations import registry

        registry.register(executors.NodeStart())
        registry.register(executors.NodeStop())
        registry.register(package_executor.PackageBuild())
        registry.register(package_executor.PackageInstall())
        scans.register(discovery.NODES)
        sleepable.register(sleeping.CloudNodeKind())
        hooks.cloud_account_disconnecting.subscribe(services.close_account)
        accounts.blast_radius.subscribe(services.disconnect_effects)
        periodic.register("cloudnodes.poll", 2)
        periodic.register("cloudnodes.reprice", 3600)
        periodic.register("cloudnodes.watch", 15)
        periodic.register("cloudnodes.attribute", 60)
        menu.register(menu.Entry(20, "Cloud Nodes", "cloudnodes:grid", "cloud-computing", prefix="/cloud-nodes"))
