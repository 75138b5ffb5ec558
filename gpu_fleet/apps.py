from django.apps import AppConfig


class GpuFleetConfig(AppConfig):
    name = "gpu_fleet"
    verbose_name = "GPU fleet"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from accounts import services as accounts
        from accounts.providers import registry as providers
        from core import hooks, menu, periodic, sealed, sleepable
        from gpu_fleet import audit_verbs, executors, services, sleeping, switching  # noqa: F401  registers the verbs
        from gpu_fleet.providers import registry as own
        from operations import registry

        for executor in (
            executors.MachineWake(),
            executors.MachineHibernate(),
            executors.MachineSnapshot(),
            executors.MachineRestore(),
            executors.MachineDestroy(),
            executors.MachineMigrate(),
            executors.MachinePause(),
            executors.MachineResume(),
            executors.MachineDoze(),
            switching.MachineFailover(),
            switching.MachineFailback(),
            switching.MachineRecover(),
            switching.StandbyRelease(),
        ):
            registry.register(executor)
        providers.register(own.VAST, own.connect_vast)
        sealed.register("gpu_machine", "gpu_fleet.Machine", "sealed", lambda row: str(row.seal_name))
        sealed.register("gpu_settings", "gpu_fleet.FleetSettings", "sealed", lambda row: str(row.seal_name))
        sealed.register("gpu_rclone", "gpu_fleet.FleetSettings", "rclone_sealed", lambda row: str(row.seal_name))
        sealed.register("gpu_ssh", "gpu_fleet.FleetSettings", "ssh_sealed", lambda row: str(row.seal_name))
        sealed.register("gpu_race", "operations.Operation", "state", lambda row: f"operation:{row.id}", key="token")
        sleepable.register(sleeping.GpuMachineKind())
        hooks.cloud_account_disconnecting.subscribe(services.refuse_disconnect)
        accounts.blast_radius.subscribe(services.disconnect_effects)
        periodic.register("gpu_fleet.tend", 5)
        periodic.register("gpu_fleet.guard", 2)
        periodic.register("gpu_fleet.sweep", 300)
        periodic.register("gpu_fleet.sample_market", 600)
        periodic.register("gpu_fleet.tidy", 3600)
        menu.register(menu.Entry(30, "GPU Fleet", "gpu_fleet:fleet", "cpu", prefix="/gpu-fleet"))
