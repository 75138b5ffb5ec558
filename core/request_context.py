"""Facts of the current request, bound once and carried into logs, and the refusals that it met."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextvars import ContextVar
from typing import Any, TypeVar, cast
from uuid import uuid4

request_id: ContextVar[str] = ContextVar("request_id", default="")
refusals: ContextVar[list[tuple[Any, str, str]] | None] = ContextVar("refusals", default=None)
MOST_REFUSALS = 100
reads: ContextVar[dict[Hashable, Any] | None] = ContextVar("reads", default=None)
T = TypeVar("T")


def new_request_id() -> str:
    return uuid4().hex


def refused(actor: Any, permission: str, what: str) -> bool:
    """Remember a refusal until the request has been answered; False when no request is being answered here."""
    met = refusals.get()
    if met is None:
        return False
    if (actor, permission, what) not in met and len(met) < MOST_REFUSALS:
        met.append((actor, permission, what))
    return True


def kept(key: Hashable, make: Callable[[], T]) -> T:
    """What several parts of one page read alike, read once; anew outside a request, and in one that may write."""
    known = reads.get()
    if known is None:
        return make()
    if key not in known:
        known[key] = make()
    return cast(T, known[key])
