"""Errors that services raise and interfaces translate (HTML message, problem+json, operation outcome).

Free of Django, so that providers and pure code may use them. Provider errors live in `core.providers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class CurfewError(Exception):
    """Base of every expected failure: a stable `code`, words for a person, an HTTP status."""

    status = 400
    code = "error"
    title = "That did not work"

    def __init__(self, message: str = "", *, code: str | None = None, **extra: object) -> None:
        super().__init__(message or self.title)
        self.message = message or self.title
        if code:
            self.code = code
        self.extra = extra


class InvalidInput(CurfewError):
    """What was sent cannot be accepted; `errors` maps a field to its messages."""

    status = 422
    code = "invalid"
    title = "Some fields need another look"

    def __init__(self, message: str = "", errors: Mapping[str, Sequence[str]] | None = None, **kw: object) -> None:
        super().__init__(message, **kw)  # type: ignore[arg-type]
        self.errors = {field: list(words) for field, words in (errors or {}).items()}


class NotFound(CurfewError):
    """Nothing here, or it belongs to another organization: the two are never told apart."""

    status = 404
    code = "not_found"
    title = "There is nothing here"


class Forbidden(CurfewError):
    """The right organization, but the actor lacks the permission; the message says which, `wanted` what it was asked for."""

    wanted = ""

    status = 403
    code = "forbidden"
    title = "Your role does not allow this"


class NotSignedIn(CurfewError):
    status = 401
    code = "not_signed_in"
    title = "Sign in first"


class Conflict(CurfewError):
    """Something else is under way or already claimed; `extra` may carry the id of it."""

    status = 409
    code = "conflict"
    title = "Something else is already under way"


class InvalidState(Conflict):
    code = "invalid_state"
    title = "That is not possible in this state"


class QuotaExceeded(CurfewError):
    status = 409
    code = "quota_exceeded"
    title = "A limit has been reached"


class RateLimited(CurfewError):
    status = 429
    code = "rate_limited"
    title = "Too many requests"

    def __init__(self, message: str = "", retry_after: int = 60, **kw: object) -> None:
        super().__init__(message, **kw)  # type: ignore[arg-type]
        self.retry_after = retry_after


class Unavailable(CurfewError):
    """A dependency is down; trying again later is right."""

    status = 503
    code = "unavailable"
    title = "A part that this needs is not answering"

    def __init__(self, message: str = "", retry_after: int = 5, **kw: object) -> None:
        super().__init__(message, **kw)  # type: ignore[arg-type]
        self.retry_after = retry_after
