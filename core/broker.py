"""Redis, seen from where it may be away."""

from __future__ import annotations


def away(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """What is raised while Redis is away and `more`, for `except away()`; its client is loaded no sooner than that."""
    from redis import RedisError

    return RedisError, OSError, *more
