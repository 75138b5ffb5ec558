"""Routes."""

from django.urls import URLPattern

app_name = "cloudnodes"
urlpatterns: list[URLPattern] = []
