"""Root URLs. The API is mounted at /api/ and /api/v1/; cloud-node paths also at /budgetguard/api/."""

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from core import health

api = [
    path("", include("accounts.api.urls")),
    path("", include("operations.api.urls")),
    path("", include("cloudnodes.api.urls")),
    path("", include("clusters.api.urls")),
    path("", include("gpu_fleet.api.urls")),
    path("", include("taskrunner.api.urls")),
    path("", include("clusterjobs.api.urls")),
    path("", include("policies.api.urls")),
    path("", include("hibernation.api.urls")),
    path("", include("costs.api.urls")),
    path("", include("audit.api.urls")),
]

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", health.metrics, name="metrics"),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="api-docs"),
    path("api/", include((api, "api"), namespace="api")),
    path("api/v1/", include((api, "api"), namespace="api-v1")),
    path("budgetguard/api/", include(("cloudnodes.api.urls", "api"), namespace="budgetguard")),
    path("admin/", admin.site.urls),
    path("", include("dashboard.urls")),
    path("", include("accounts.urls")),
    path("", include("operations.urls")),
    path("", include("cloudnodes.urls")),
    path("", include("clusters.urls")),
    path("", include("gpu_fleet.urls")),
    path("", include("taskrunner.urls")),
    path("", include("clusterjobs.urls")),
    path("", include("policies.urls")),
    path("", include("hibernation.urls")),
    path("", include("audit.urls")),
    path("", include("costs.urls")),
    path("", include("notifications.urls")),
]

handler400 = "core.error_views.bad_request"
handler403 = "core.error_views.forbidden"
handler404 = "core.error_views.not_found"
handler429 = "accounts.views.portal.too_many"
handler500 = "core.error_views.server_error"
