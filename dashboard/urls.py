"""Routes."""

from django.urls import path

from dashboard import views

app_name = "dashboard"
urlpatterns = [
    path("", views.home, name="home"),
    path("search", views.search, name="search"),
    path("sleepables/<slug:kind>/<uuid:resource_id>/<slug:verb>", views.sleepable_action, name="sleepable"),
]
