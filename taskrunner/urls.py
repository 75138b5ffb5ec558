"""Routes."""

from django.urls import path

from taskrunner import people_views, setup_views, views, worker_views

app_name = "taskrunner"
urlpatterns = [
    path("tasks/", views.task_list, name="tasks"),
    path("tasks/new", views.task_new, name="new"),
    path("tasks/wall", views.task_wall, name="wall"),
    path("tasks/hooks", setup_views.hooks, name="hooks"),
    path("tasks/hooks/<uuid:hook_id>/delete", setup_views.hook_delete, name="hook-delete"),
    path("tasks/templates/<uuid:template_id>/delete", setup_views.template_delete, name="template-delete"),
    path("tasks/schedules", setup_views.schedules, name="schedules"),
    path("tasks/schedules/<uuid:schedule_id>/delete", setup_views.schedule_delete, name="schedule-delete"),
    path("tasks/<uuid:task_id>/", views.task_detail, name="task"),
    path("tasks/<uuid:task_id>/cancel", views.task_cancel, name="cancel"),
    path("tasks/<uuid:task_id>/retry", views.task_retry, name="retry"),
    path("tasks/<uuid:task_id>/share", views.task_share, name="share"),
    path("tasks/<uuid:task_id>/delete", views.task_delete, name="delete"),
    path("workers/", worker_views.worker_list, name="workers"),
    path("workers/enrol", worker_views.enrol, name="enrol"),
    path("workers/queue", worker_views.queue, name="queue"),
    path("workers/people", people_views.people, name="people"),
    path("workers/events", people_views.events, name="events"),
    path("workers/keeping", setup_views.keeping, name="keeping"),
    path("workers/limits", worker_views.limits, name="limits"),
    path("workers/<uuid:worker_id>/", worker_views.worker_detail, name="worker"),
    path("workers/<uuid:worker_id>/change", worker_views.worker_change, name="worker-change"),
    path("workers/<uuid:worker_id>/remove", worker_views.worker_remove, name="worker-remove"),
]
