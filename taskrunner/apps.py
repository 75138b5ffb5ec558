from django.apps import AppConfig


class TaskRunnerConfig(AppConfig):
    name = "taskrunner"
    verbose_name = "Tasks and workers"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from accounts import vault
        from core import menu, periodic
        from taskrunner import audit_verbs, services  # noqa: F401  registers the verbs

        vault.register_sealed("task", services.reseal)
        periodic.register("taskrunner.sweep", 5)
        periodic.register("taskrunner.keep_workers", 30)
        menu.register(menu.Entry(40, "Tasks", "taskrunner:tasks", "list-check", prefix="/tasks"))
        menu.register(menu.Entry(45, "Workers", "taskrunner:workers", "server-2", prefix="/workers"))
