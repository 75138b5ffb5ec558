from django.apps import AppConfig


class ClustersConfig(AppConfig):
    name = "clusters"
    verbose_name = "Clusters"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from accounts import services as accounts
        from clusters import audit_verbs, group_executor, scanning, services  # noqa: F401  registers the verbs
        from clusters.sleeping import setup
        from core import discovery, hooks, menu, periodic, sealed
        from operations import registry

        registry.register(scanning.ClusterDiscover())
        registry.register(scanning.ClusterPreflight())
        registry.register(group_executor.GroupChange())
        discovery.register(scanning.CLUSTERS)
        setup.register()
        sealed.register("cluster", "clusters.Cluster", "credentials", lambda row: str(row.seal_name))
        sealed.register("cluster_key", "clusters.AgentKey", "sealed", lambda row: str(row.seal_name))
        accounts.blast_radius.subscribe(services.disconnect_effects)
        hooks.cloud_account_disconnecting.subscribe(services.release_account)
        periodic.register("clusters.mark_lost", 5)
        periodic.register("clusters.refigure", 15)
        periodic.register("clusters.beat_sandbox", 15)
        periodic.register("clusters.poll", 15)
        periodic.register("clusters.read_groups", 60)
        periodic.register("clusters.reprice", 3600)
        periodic.register("clusters.roll_up", 300)
        periodic.register("clusters.pack", 300)
        menu.register(menu.Entry(50, "Clusters", "clusters:registry", "hexagons", prefix="/clusters"))
