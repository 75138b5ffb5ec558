"""The root URLs, with the audit API in any case."""

from django.urls import include, path

from config.urls import handler400, handler403, handler404, handler500, urlpatterns as root  # noqa: F401

urlpatterns = [path("api/", include("audit.api.urls")), *root]
