from django.apps import AppConfig


class TaskRunnerConfig(AppConfig):
    name = "taskrunner"
    verbose_name = "Tasks and workers"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from prometheus_client import REGISTRY

        from core import hooks, menu, periodic, sealed
        from notifications import events
        from taskrunner import audit_verbs, bucket, metrics, services, storage  # noqa: F401  registers the verbs

        metrics.register(REGISTRY)
        sealed.register("task", "taskrunner.Task", "sealed", lambda row: str(row.seal_name))
        sealed.register("task_hook", "taskrunner.TaskHook", "sealed", lambda row: str(row.seal_name))
        storage.use(bucket.bucket)
        hooks.task_started.subscribe(services.tell_change)
        hooks.task_ended.subscribe(services.tell_change)
        events.register("task.failed", "A task failed", asked=True, button="Open the task")
        events.register("task.started", "A task started", asked=True, button="Open the task")
        events.register("task.succeeded", "A task succeeded", asked=True, button="Open the task")
        events.register("task.cancelled", "A task was cancelled", asked=True, button="Open the task")
        periodic.register("taskrunner.sweep", 5)
        periodic.register("taskrunner.keep_workers", 30)
        periodic.register("taskrunner.move_logs", 60)
        periodic.register("taskrunner.forget_old", 3600)
        menu.register(menu.Entry(40, "Tasks", "taskrunner:tasks", "list-check", prefix="/tasks"))
        menu.register(menu.Entry(45, "Workers", "taskrunner:workers", "server-2", prefix="/workers"))
