"""API routes."""

from django.urls import path

from taskrunner.api import admin_views as admin
from taskrunner.api import agent_views as agents
from taskrunner.api import hook_views as hooks
from taskrunner.api import views

urlpatterns = [
    path("tasks", views.TasksView.as_view(), name="tasks"),
    path("tasks/batch", views.BatchView.as_view(), name="tasks-batch"),
    path("tasks/estimate", views.EstimateView.as_view(), name="tasks-estimate"),
    path("tasks/<uuid:task_id>", views.TaskView.as_view(), name="task"),
    path("tasks/<uuid:task_id>/cancel", views.CancelView.as_view(), name="task-cancel"),
    path("tasks/<uuid:task_id>/retry", views.RetryView.as_view(), name="task-retry"),
    path("tasks/<uuid:task_id>/logs", views.LogsView.as_view(), name="task-logs"),
    path("tasks/<uuid:task_id>/logs.txt", views.LogFileView.as_view(), name="task-log-file"),
    path("tasks/<uuid:task_id>/metrics", views.MetricsView.as_view(), name="task-metrics"),
    path("task-templates", views.TemplatesView.as_view(), name="task-templates"),
    path("task-templates/<uuid:template_id>", views.TemplateView.as_view(), name="task-template"),
    path("task-schedules", views.SchedulesView.as_view(), name="task-schedules"),
    path("task-schedules/<uuid:schedule_id>", views.ScheduleView.as_view(), name="task-schedule"),
    path("task-hooks", hooks.HooksView.as_view(), name="task-hooks"),
    path("task-hooks/<uuid:hook_id>", hooks.HookView.as_view(), name="task-hook"),
    path("hooks/tasks/<uuid:hook_id>", hooks.HookCallView.as_view(), name="task-hook-call"),
    path("workers", views.WorkersView.as_view(), name="workers"),
    path("workers/<uuid:worker_id>", views.WorkerView.as_view(), name="worker"),
    path("workers/<uuid:worker_id>/metrics", views.WorkerMetricsView.as_view(), name="worker-metrics"),
    path("workers/<uuid:worker_id>/tasks", views.WorkerTasksView.as_view(), name="worker-tasks"),
    path("admin/workers", views.AdminWorkersView.as_view(), name="admin-workers"),
    path("admin/workers/<uuid:worker_id>", views.AdminWorkerView.as_view(), name="admin-worker"),
    path("admin/users", admin.UsersView.as_view(), name="admin-users"),
    path("admin/users/<uuid:user_id>", admin.UserView.as_view(), name="admin-user"),
    path("admin/logs", admin.LogsView.as_view(), name="admin-logs"),
    path("admin/task-settings", admin.KeepingView.as_view(), name="admin-task-settings"),
    path("admin/stats", views.AdminStatsView.as_view(), name="admin-stats"),
    path("admin/quotas", views.QuotaView.as_view(), name="admin-quota"),
    path("admin/quotas/<uuid:user_id>", views.QuotaOfView.as_view(), name="admin-quota-of"),
    path("telemetry/workers", views.TelemetryView.as_view(), name="telemetry"),
    path("telemetry/workers/<uuid:worker_id>", views.TelemetryOfView.as_view(), name="telemetry-of"),
    path("agent/register", agents.RegisterView.as_view(), name="agent-register"),
    path("agent/worker/heartbeat", agents.BeatView.as_view(), name="agent-worker-heartbeat"),
    path("agent/claim", agents.ClaimView.as_view(), name="agent-claim"),
    path("agent/tasks/<uuid:task_id>/renew", agents.RenewView.as_view(), name="agent-renew"),
    path("agent/tasks/<uuid:task_id>/start", agents.StartView.as_view(), name="agent-start"),
    path("agent/tasks/<uuid:task_id>/finish", agents.FinishView.as_view(), name="agent-finish"),
    path("agent/tasks/<uuid:task_id>/logs", agents.AppendView.as_view(), name="agent-log"),
]
