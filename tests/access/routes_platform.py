"""Routes of the platform itself."""

from tests.access.matrix import Route

ROUTES = [
    Route("GET", "/healthz", 200, 200, 200, 200, 200),
    Route("GET", "/readyz", 503, 503, 503, 503, 503),
    Route("GET", "/metrics", 404, 404, 404, 404, 404),
    Route("GET", "/api/schema/", 200, 200, 200, 200, 200),
    Route("GET", "/api/docs/", 200, 200, 200, 200, 200),
]
EXEMPT = {
    "admin/": "Django admin: staff only, checked by Django's own permission tests and tests/core/test_admin.py",
}
