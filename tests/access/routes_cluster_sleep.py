"""Routes of a cluster's sleep. The cluster of the matrix has no way of Curfew's own, so orders are refused as a state."""

from __future__ import annotations

from tests.access.matrix import Route, page

ID = "/clusters/{cluster}/sleep"


def _post(path: str, viewer: int, operator: int, owner: int, body: dict | None = None) -> Route:
    return Route("POST", path, 302, viewer, operator, owner, 404, body or {})


ROUTES = [
    page(ID, stranger=404),
    _post(f"{ID}/look", 403, 409, 409),
    _post(f"{ID}/now", 403, 409, 409),
    _post(f"{ID}/wake", 403, 409, 409),
    _post(f"{ID}/rules", 403, 403, 302, {"scope": "full"}),
    page(f"{ID}/restore-file", viewer=403, operator=404, owner=404, stranger=404),
    _post(f"{ID}/hand-over", 404, 404, 404),
]
