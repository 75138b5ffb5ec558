"""Routes."""

from django.urls import path

from audit import views

app_name = "audit"
urlpatterns = [
    path("audit/", views.entry_list, name="list"),
    path("audit/check", views.chain_check, name="check"),
    path("audit/<uuid:entry_id>/", views.entry_detail, name="detail"),
]
