"""Routes of the pages."""

from django.urls import path

from hibernation import snooze_views, views

app_name = "hibernation"
urlpatterns = [
    path("hibernation/", views.schedules, name="list"),
    path("hibernation/new", views.create, name="new"),
    path("hibernation/snooze/<str:token>", snooze_views.snooze, name="snooze"),
    path("hibernation/<uuid:schedule_id>/", views.detail, name="detail"),
    path("hibernation/<uuid:schedule_id>/switch", views.switch, name="switch"),
    path("hibernation/<uuid:schedule_id>/resources", views.resources, name="resources"),
    path("hibernation/<uuid:schedule_id>/holidays", views.holidays, name="holidays"),
    path("hibernation/<uuid:schedule_id>/delete", views.delete, name="delete"),
]
