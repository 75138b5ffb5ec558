"""Whether something that need not be done at every request is due again, as this process remembers.

Marks in the shared cache cost each request a question to Redis; most of those can be answered here.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

MOST = 20_000

_next: OrderedDict[str, float] = OrderedDict()
_lock = threading.Lock()


def due(name: str, every_seconds: float) -> bool:
    """True for the first that asks, and again for the first after so many seconds."""
    now = time.monotonic()
    with _lock:
        if now < _next.get(name, 0.0):
            return False
        _next[name] = now + every_seconds
        _next.move_to_end(name)
        if len(_next) > MOST:
            _next.popitem(last=False)
    return True


def forget() -> None:
    """Everything is due again."""
    with _lock:
        _next.clear()
