"""Routes of the pages."""

from django.urls import path

from hibernation import answer_views, bulk_views, snooze_views, views

app_name = "hibernation"
urlpatterns = [
    path("hibernation/", views.schedules, name="list"),
    path("hibernation/new", views.create, name="new"),
    path("hibernation/assign", bulk_views.assign, name="assign"),
    path("hibernation/history", answer_views.history, name="history"),
    path("hibernation/savings", answer_views.savings, name="savings"),
    path("hibernation/why/<str:kind>/<uuid:resource_id>/", answer_views.why, name="why"),
    path("hibernation/resource/<str:kind>/<uuid:resource_id>/switch", views.switch_one, name="switch-one"),
    path("hibernation/snooze/<str:token>", snooze_views.snooze, name="snooze"),
    path("hibernation/<uuid:schedule_id>/", views.detail, name="detail"),
    path("hibernation/<uuid:schedule_id>/preview", views.preview, name="preview"),
    path("hibernation/<uuid:schedule_id>/switch", views.switch, name="switch"),
    path("hibernation/<uuid:schedule_id>/resources", views.resources, name="resources"),
    path("hibernation/<uuid:schedule_id>/holidays", views.holidays, name="holidays"),
    path("hibernation/<uuid:schedule_id>/days", views.days, name="days"),
    path("hibernation/<uuid:schedule_id>/restore.json", answer_views.restore, name="restore"),
    path("hibernation/<uuid:schedule_id>/delete", views.delete, name="delete"),
]
