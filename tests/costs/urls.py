"""The root URLs, with the costs API in any case."""

from django.urls import include, path

from config.urls import handler400, handler403, handler404, handler500  # noqa: F401
from config.urls import urlpatterns as root

urlpatterns = [path("api/", include("costs.api.urls")), *root]
