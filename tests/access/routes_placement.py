"""Routes of placement. The cluster is the one that the clusters' routes made."""

from __future__ import annotations

from tests.access.matrix import Route, api, page

ID = "/policies/placement/{cluster}/"
API = "/api/clusters/{cluster}"

ROUTES = [
    page(ID, stranger=404),
    Route("POST", f"{ID}way", 302, 403, 403, 302, 404, {"way": "auto", "fallback_minutes": "10"}),
    api("GET", f"{API}/placement", viewer=200, operator=200, owner=200, stranger=404),
    api("PATCH", f"{API}/placement", viewer=403, operator=403, owner=200, stranger=404, body={"way": "auto"}),
    api("GET", f"{API}/unmanaged", viewer=200, operator=200, owner=200, stranger=404),
]
