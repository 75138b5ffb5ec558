"""Translate what google-auth, google-api-core and requests raise into Curfew's error set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from core.providers import (
    AuthenticationFailed,
    BadAnswer,
    CapacityUnavailable,
    Conflict,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ProviderError,
    QuotaExceeded,
    Throttled,
    TimedOut,
    Unreachable,
)

# google.rpc.Code -> HTTP status, for the errors inside operations.
RPC_STATUS = {
    1: 499,
    2: 500,
    3: 400,
    4: 504,
    5: 404,
    6: 409,
    7: 403,
    8: 429,
    9: 400,
    10: 409,
    11: 400,
    12: 501,
    13: 500,
    14: 503,
    15: 500,
    16: 401,
}
_PERMISSION = re.compile(r"[Pp]ermission '?([a-zA-Z]+(?:\.[a-zA-Z]+){1,3})'?")
_CAPACITY_WORDS = (
    "ZONE_RESOURCE_POOL_EXHAUSTED",
    "RESOURCE_POOL_EXHAUSTED",
    "STOCKOUT",
    "does not have enough resources",
    "resource availability",
    "no capacity",
    "insufficient capacity",
)
_QUOTA_WORDS = (
    "quota exceeded",
    "exceeded quota",
    "QUOTA_EXCEEDED",
    "quota violated",
    "exceed quota",
    "gpu quota",
    "allowed quota",
)
_RATE_WORDS = ("per minute", "rate limit", "RATE_LIMIT_EXCEEDED", "too many requests", "per second")
_API_OFF = ("SERVICE_DISABLED", "has not been used in project", "it is disabled", "is not enabled")


@contextmanager
def gcp_errors(action: str = "", secrets: Iterable[str] = ()) -> Iterator[None]:
    """Run a block of Google SDK calls; anything they raise leaves as a ProviderError."""
    import requests
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError

    try:
        yield
    except ProviderError as error:
        error.hide(secrets)
        raise
    except GoogleAuthError as error:
        raise _hidden(_from_auth(error), secrets) from None
    except GoogleAPIError as error:
        raise _hidden(_from_api(error, action), secrets) from None
    except requests.RequestException as error:
        raise _hidden(_from_requests(error), secrets) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # json_format.ParseError and json.JSONDecodeError are ValueErrors or wrap them.
        raise _hidden(
            BadAnswer("Google gave an answer that is not Google's: a web page or half a document.", detail=repr(error)),
            secrets,
        ) from None
    except Exception as error:
        if type(error).__module__.startswith("google.protobuf"):
            raise _hidden(
                BadAnswer("Google gave an answer without the expected fields.", detail=repr(error)), secrets
            ) from None
        raise


def _hidden(error: ProviderError, secrets: Iterable[str]) -> ProviderError:
    error.hide(secrets)
    return error


def _from_auth(error: Any) -> ProviderError:
    from google.auth import exceptions as x

    detail = str(error)
    low = detail.lower()
    if isinstance(error, x.TransportError):
        if "timed out" in low or "timeout" in low:
            return TimedOut("Google's sign-in service did not answer in time.", detail=detail)
        return Unreachable("Google's sign-in service cannot be reached.", detail=detail)
    if isinstance(error, x.RefreshError):
        if "<html" in low or "<!doctype" in low:
            return BadAnswer(
                "Google gave an answer that is not Google's: a web page or half a document.", detail=detail
            )
        if "account not found" in low:
            return AuthenticationFailed(
                "Google does not know this service account any more.",
                code="unknown_client",
                detail=detail,
                next_step="Create the service account again, or connect another one.",
            )
        if "invalid_grant" in low or "invalid_client" in low or "unauthorized_client" in low:
            return AuthenticationFailed(
                "Google does not accept this service-account key.",
                code="wrong_credentials",
                detail=detail,
                next_step="Create a new JSON key for the service account and connect again.",
            )
        if getattr(error, "retryable", False):
            return Unreachable(
                "Google's sign-in service reports a fault of its own.", code="provider_fault", detail=detail
            )
        return BadAnswer("Google gave an answer that is not Google's: a web page or half a document.", detail=detail)
    return InvalidRequest(
        "The service-account key is not usable.",
        code="bad_key_file",
        detail=detail,
        next_step="Create a new JSON key for the service account and paste the whole file.",
    )


def _from_requests(error: Any) -> ProviderError:
    import requests

    detail = str(error)
    if isinstance(error, requests.Timeout) or "timed out" in detail.lower():
        return TimedOut("Google did not answer in time.", detail=detail)
    if isinstance(error, requests.exceptions.JSONDecodeError | requests.exceptions.ContentDecodingError):
        return BadAnswer("Google gave an answer that is not Google's: a web page or half a document.", detail=detail)
    return Unreachable("Google cannot be reached.", detail=detail)


def _from_api(error: Any, action: str) -> ProviderError:
    from google.api_core import exceptions as x

    if isinstance(error, x.RetryError):
        return TimedOut("Google did not answer in time.", detail=str(error))
    response = getattr(error, "response", None)
    headers = getattr(response, "headers", None) or {}
    status = int(getattr(error, "code", 0) or 0)
    said = str(getattr(error, "message", "") or error)
    kind = str(headers.get("Content-Type", "")) if hasattr(headers, "get") else ""
    if "html" in kind or said.lstrip().lower().startswith(("<html", "<!doctype")):
        return BadAnswer(
            "Google gave an answer that is not Google's: a web page or half a document.", detail=f"HTTP {status} {kind}"
        )
    retry = headers.get("Retry-After") if hasattr(headers, "get") else None
    reasons = " ".join(
        str(item) for item in (getattr(error, "reason", "") or "", *(getattr(error, "details", None) or ()))
    )
    return from_status(status, said, reasons=reasons, retry_after=retry, action=action)


def from_status(
    status: int, said: str, *, reasons: str = "", retry_after: str | None = None, action: str = ""
) -> ProviderError:
    """Turn an HTTP status and Google's words into a ProviderError; also for errors inside operations."""
    text = f"{said} {reasons}"
    low = text.lower()
    detail = f"{status}: {said}"
    if any(word.lower() in low for word in _CAPACITY_WORDS):
        return CapacityUnavailable(
            "Google has no free capacity for this machine in its zone at the moment.", detail=detail
        )
    if any(word.lower() in low for word in _QUOTA_WORDS) and not any(word.lower() in low for word in _RATE_WORDS):
        return QuotaExceeded(
            "A quota of the Google project is reached.",
            detail=detail,
            next_step="Stop another service of this kind, or ask for a higher quota in the Google Cloud console.",
        )
    if status == 429:
        return Throttled("Google asks for fewer requests.", retry_after=_seconds(retry_after), detail=detail)
    if status == 401:
        return AuthenticationFailed(
            "Google does not accept the credentials.",
            code="wrong_credentials",
            detail=detail,
            next_step="Create a new JSON key for the service account and connect again.",
        )
    if status == 403:
        return _denied(text, action, detail)
    if status in {404, 410}:
        return NotFound("Google does not know this resource.", detail=detail)
    if status in {409, 412}:
        return Conflict("The service is in the middle of another change.", detail=detail)
    if status in {408, 504}:
        return TimedOut("Google did not answer in time.", detail=detail)
    if status >= 500:
        return Unreachable("Google reports a fault of its own.", code="provider_fault", detail=detail)
    return InvalidRequest(f"Google refused the request: {said}", detail=detail)


def _denied(text: str, action: str, detail: str) -> ProviderError:
    if any(word in text for word in _API_OFF):
        return PermissionDenied(
            "The Cloud Run API is not enabled in this project.",
            code="api_disabled",
            permission="run.googleapis.com",
            next_step="Enable the Cloud Run Admin API in the Google Cloud console, then try again.",
            detail=detail,
        )
    found = _PERMISSION.search(text)
    permission = found[1] if found else action
    words = (
        f"The service account lacks the permission {permission}."
        if permission
        else "The service account lacks a permission."
    )
    return PermissionDenied(
        words,
        permission=permission,
        detail=detail,
        next_step="Give the service account the role Cloud Run Developer in this project.",
    )


def _seconds(value: str | None) -> float | None:
    try:
        return float(value) if value else None
    except ValueError:
        return None
