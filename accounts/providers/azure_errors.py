"""Translate what azure-core and azure-identity raise into Curfew's error set."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
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

_DENIED = {"AuthorizationFailed", "LinkedAuthorizationFailed"}
_PERMISSION = re.compile(r"perform action '([^']+)'")
_AADSTS = re.compile(r"AADSTS(\d+)")
_NO_CONNECTION = (
    "failed to establish a new connection",
    "failed to resolve",
    "connection refused",
    "name or service not known",
    "connection reset",
    "connection aborted",
    "ssl: ",
)
_SIGN_IN: dict[str, tuple[str, str, str]] = {
    "7000215": (
        "wrong_credentials",
        "Azure does not accept the client secret.",
        "Copy the secret's value (not its ID) from the app registration.",
    ),
    "7000222": (
        "credentials_expired",
        "The client secret has expired.",
        "Create a new client secret in the app registration and connect again.",
    ),
    "700016": (
        "unknown_client",
        "Azure does not know this client ID in this tenant.",
        "Check the application (client) ID and the tenant.",
    ),
    "90002": ("unknown_tenant", "Azure does not know this tenant.", "Check the tenant (directory) ID."),
    "900023": ("unknown_tenant", "Azure does not know this tenant.", "Check the tenant (directory) ID."),
    "7000112": (
        "app_disabled",
        "The app registration is disabled.",
        "Enable the enterprise application again in Entra ID.",
    ),
    "53003": (
        "blocked_by_policy",
        "A conditional-access policy blocks this sign-in.",
        "Exclude the service principal from the policy.",
    ),
}


@contextmanager
def azure_errors(action: str = "", secrets: Iterable[str] = ()) -> Iterator[None]:
    """Run a block of Azure SDK calls; anything they raise leaves as a ProviderError."""
    from azure.core import exceptions as x

    try:
        yield
    except ProviderError as error:
        error.hide(secrets)
        raise
    except x.AzureError as error:
        mapped = _from_azure(error, action)
        mapped.hide(secrets)
        raise mapped from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        bad = BadAnswer("Azure gave an answer without the expected fields.", detail=repr(error))
        bad.hide(secrets)
        raise bad from None


def _from_azure(error: Exception, action: str) -> ProviderError:
    from azure.core import exceptions as x

    detail = str(error)
    if isinstance(error, x.ServiceRequestTimeoutError | x.ServiceResponseTimeoutError) or _is_timeout(error):
        return TimedOut("Azure did not answer in time.", detail=detail)
    if isinstance(error, x.DecodeError):
        return BadAnswer("Azure gave an answer that is not Azure's: a web page or half a document.", detail=detail)
    if isinstance(error, x.ServiceResponseError):
        return Unreachable("The connection to Azure broke off.", detail=detail)
    if isinstance(error, x.ServiceRequestError):
        return Unreachable("Azure cannot be reached.", detail=detail)
    if isinstance(error, x.HttpResponseError):
        # azure-identity wraps what went wrong on the way in an authentication error without a response.
        if error.response is None and any(words in detail.lower() for words in _NO_CONNECTION):
            return Unreachable("Azure's sign-in service cannot be reached.", detail=detail)
        return _from_response(error, action)
    return ProviderError("Azure could not be asked.", code="azure_error", detail=detail)


def _is_timeout(error: Exception) -> bool:
    """Say whether no answer came in time; an answer that speaks of a timeout is not meant."""
    if getattr(error, "response", None) is not None:
        return False
    words = f"{error!r} {getattr(error, 'inner_exception', '')!r}".lower()
    return "timed out" in words or "timeout" in words


def _from_response(error: Any, action: str) -> ProviderError:
    refused = from_sign_in(str(error))
    if refused is not None:
        return refused
    response = getattr(error, "response", None)
    headers = getattr(response, "headers", None) or {}
    body = getattr(error, "error", None)
    code, said = str(getattr(body, "code", "") or ""), str(getattr(body, "message", "") or "")
    status = int(getattr(error, "status_code", 0) or 0)
    return from_code(code, said, status=status, retry_after=headers.get("Retry-After"), action=action, raw=str(error))


def from_sign_in(words: str) -> AuthenticationFailed | None:
    """Turn an answer of the sign-in service with an AADSTS number; None when there is no such number in it."""
    number = _AADSTS.search(words)
    if not number:
        return None
    default = ("authentication_failed", "Azure refused the sign-in.", "Check tenant, client ID and secret.")
    code, message, step = _SIGN_IN.get(number[1], default)
    return AuthenticationFailed(message, code=code, next_step=step, detail=words.split("Trace ID")[0])


def from_code(
    code: str, said: str, *, status: int = 0, retry_after: str | None = None, action: str = "", raw: str = ""
) -> ProviderError:
    """Turn an ARM error (code, message, HTTP status), from a response or a failed operation.

    Without a code the words are not ARM's, so a bare 404 or 403 proves nothing about a machine.
    """
    detail = f"{code}: {said}" if code else raw
    if status == 429 or code == "TooManyRequests":
        return Throttled("Azure asks for fewer requests.", retry_after=seconds(retry_after), detail=detail)
    if code in _CODES:
        return _CODES[code](detail)
    if "quota" in code.lower() or (code == "OperationNotAllowed" and "quota" in said.lower()):
        return QuotaExceeded(
            "The core quota of the Azure subscription is reached.",
            detail=detail,
            next_step="Deallocate another VM of this family, or ask for more quota in the Azure portal.",
        )
    if code in _DENIED or (code and status == 403):
        return _denied(said, action, detail)
    return _from_status(code, said, status, detail)


def _from_status(code: str, said: str, status: int, detail: str) -> ProviderError:
    if status >= 500:
        return _fault(detail)
    if not code:
        return BadAnswer("Azure gave an answer that is not Azure's: a web page or half a document.", detail=detail)
    if status == 401:
        return _wrong(detail)
    if status == 404 or code.endswith("NotFound"):
        return NotFound("Azure does not know this resource.", detail=detail)
    if status in {409, 412}:
        return _busy(detail)
    return InvalidRequest(f"Azure refused the request: {said or code}", detail=detail)


def _fault(detail: str) -> ProviderError:
    return Unreachable("Azure reports a fault of its own.", code="provider_fault", detail=detail)


def _wrong(detail: str) -> ProviderError:
    return AuthenticationFailed("Azure does not accept the credentials.", code="wrong_credentials", detail=detail)


def _expired(detail: str) -> ProviderError:
    return AuthenticationFailed("The Azure session has expired.", code="credentials_expired", detail=detail)


def _busy(detail: str) -> ProviderError:
    return Conflict("The VM is in the middle of another change.", detail=detail)


def _full(detail: str) -> ProviderError:
    return CapacityUnavailable("Azure has no free capacity for this VM size in its zone at the moment.", detail=detail)


_CODES: dict[str, Callable[[str], ProviderError]] = {
    "AllocationFailed": _full,
    "ZonalAllocationFailed": _full,
    "OverconstrainedAllocationRequest": _full,
    "OverconstrainedZonalAllocationRequest": _full,
    "AllocationTimeout": _full,
    "SkuNotAvailable": _full,
    "ExpiredAuthenticationToken": _expired,
    "InvalidAuthenticationToken": _wrong,
    "AuthenticationFailed": _wrong,
    "InvalidAuthenticationTokenTenant": _wrong,
    "InvalidAuthenticationTokenAudience": _wrong,
    "Conflict": _busy,
    "AnotherOperationInProgress": _busy,
    "OperationPreempted": _busy,
    "InternalServerError": _fault,
    "InternalExecutionError": _fault,
    "ServerTimeout": _fault,
    "SubscriptionNotFound": lambda d: NotFound(
        "Azure does not know this subscription, or the service principal has no role in it.",
        code="unknown_subscription",
        detail=d,
        next_step="Check the subscription ID and give the service principal a role on it.",
    ),
    "ScopeLocked": lambda d: InvalidRequest(
        "A lock on the VM or its resource group forbids changes.",
        code="protected",
        detail=d,
        next_step="Remove the read-only lock in the Azure portal.",
    ),
    "ReadOnlyDisabledSubscription": lambda d: PermissionDenied(
        "The Azure subscription is disabled.",
        code="account_not_activated",
        detail=d,
        next_step="Reactivate the subscription in the Azure portal.",
    ),
}


def _denied(said: str, action: str, detail: str) -> ProviderError:
    found = _PERMISSION.search(said)
    permission = found[1] if found else action
    words = (
        f"The service principal lacks the permission {permission}."
        if permission
        else "The service principal lacks a permission."
    )
    return PermissionDenied(
        words,
        permission=permission,
        detail=detail,
        next_step="Give the service principal the role Virtual Machine Contributor on the subscription.",
    )


def seconds(value: str | None) -> float | None:
    """Return a Retry-After header as seconds; None when absent or a date."""
    try:
        return float(value) if value else None
    except ValueError:
        return None
