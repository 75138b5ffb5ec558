"""An answer that is not known yet: the web server's event loop waits for it, and no thread does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from django.http import HttpResponse


class Later(HttpResponse):
    """Returned by a view as the answer for now; `outcome` is awaited in the event loop and gives the true one.

    What middleware put on the answer for now, such as the request id, stays on the true one. A server that cannot wait
    (Django's test client) sends the answer for now, so that must be a sensible one by itself.
    """

    def __init__(self, outcome: Callable[[], Awaitable[HttpResponse]], **options: Any) -> None:
        super().__init__(**options)
        self.outcome = outcome
        self._own = [*self.headers]

    def become(self, true: HttpResponse) -> None:
        """Take over status, headers and body of the true answer."""
        for name in self._own:
            del self.headers[name]
        self.status_code = true.status_code
        for name, value in true.headers.items():
            self.headers[name] = value
        self.content = true.content
        self.headers["Content-Length"] = str(len(self.content))
