"""An answer that is not known yet: the web server's event loop waits for it, and no thread does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from django.http import HttpResponse

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


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


class Handover(HttpResponse):
    """Returned by a view that has decided who may do what, and lets the event loop do it: bytes that pass through are
    held neither by a thread nor in memory. Only for paths in `settings.CURFEW_UNREAD_BODIES`, whose bodies nobody has read.

    `take(receive, send, headers)` answers; `headers` are those that middleware put on. A server that cannot do this
    (Django's test client) sends this answer: 204, which nobody takes for a file or for having kept one.
    """

    def __init__(self, take: Callable[[Receive, Send, Headers], Awaitable[None]]) -> None:
        super().__init__(status=204)
        self._take = take

    async def carry_out(self, receive: Receive, send: Send) -> None:
        """Answer."""
        own = ("content-type", "content-length")
        headers = [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in self.items() if n.lower() not in own]
        await self._take(receive, send, headers)
