"""Translate what botocore raises into Curfew's error set."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
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

_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
_WRONG_KEYS = {
    "AuthFailure",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
    "InvalidAccessKeyId",
    "MissingAuthenticationToken",
    "IncompleteSignature",
    "InvalidToken",
    "InvalidSignatureException",
}
_DENIED = {"UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "AuthorizationError", "Forbidden", "403"}
_NO_CAPACITY = {
    "InsufficientInstanceCapacity",
    "InsufficientCapacity",
    "InsufficientHostCapacity",
    "InsufficientCapacityOnHost",
    "InsufficientReservedInstanceCapacity",
    "InsufficientCapacityException",
    "ReservationCapacityExceeded",
}
_QUOTA = {
    "VcpuLimitExceeded",
    "InstanceLimitExceeded",
    "MaxSpotInstanceCountExceeded",
    "ResourceLimitExceeded",
    "LimitExceeded",
    "LimitExceededException",
    "ServiceQuotaExceededException",
    "VolumeLimitExceeded",
}
_THROTTLED = {
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "EC2ThrottledException",
    "BandwidthLimitExceeded",
    "PriorRequestNotComplete",
    "429",
}
_BUSY = {
    "IncorrectInstanceState",
    "IncorrectState",
    "ResourceInUseException",
    "ResourceInUse",
    "ScalingActivityInProgress",
    "DependencyViolation",
    "ResourceContention",
}
_FAULT = {
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "ServiceUnavailable",
    "Unavailable",
    "ServiceFailure",
    "InternalException",
    "ServiceException",
    "500",
    "502",
    "503",
    "504",
    "ServiceUnavailableException",
}
_PERMISSION = re.compile(r"not authorized to perform:?\s+([a-z0-9-]+:[A-Za-z0-9*]+)")
_ENCODED = re.compile(r"Encoded authorization failure message:\s*\S+")


@contextmanager
def aws_errors(action: str = "", secrets: Iterable[str] = ()) -> Iterator[None]:
    """Run a block of boto3 calls; anything botocore raises leaves as a ProviderError.

    `action` ("ec2:StartInstances") names the permission when AWS does not; `secrets` are hidden.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ProviderError as error:
        error.hide(secrets)
        raise
    except ClientError as error:
        mapped = from_client_error(error.response, action)
        mapped.hide(secrets)
        raise mapped from None
    except ResponseParserError as error:
        raise _hidden(
            BadAnswer("AWS gave an answer that is not AWS's: a web page or half a document.", detail=str(error)),
            secrets,
        ) from None
    except BotoCoreError as error:
        raise _hidden(_from_botocore(error), secrets) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # botocore's parsers assume well-formed bodies and trip over foreign ones in these ways.
        raise _hidden(
            BadAnswer("AWS gave an answer without the expected fields.", detail=repr(error)), secrets
        ) from None


def need(answer: Mapping[str, Any], key: str) -> Any:
    """Return `answer[key]`; raises BadAnswer when it is absent, as in a page that happens to parse."""
    if key not in answer:
        raise BadAnswer("AWS gave an answer without the expected fields.", detail=f"no {key} in the answer")
    return answer[key]


def from_client_error(response: Mapping[str, Any], action: str = "") -> ProviderError:
    """Turn an AWS error body into the matching ProviderError."""
    error = response.get("Error", {})
    code = str(error.get("Code", "")).removeprefix("Client.").removeprefix("Server.")
    said = _ENCODED.sub("", str(error.get("Message", ""))).strip()
    detail = f"{code}: {said}"
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    if code in _DENIED:
        return _denied(said, action, detail)
    for codes, make in _TABLE:
        if code in codes:
            return make(detail)
    if code.endswith(("NotFound", "NotFoundException")) or code in {"NoSuchEntity", "404"}:
        return NotFound("AWS does not know this resource.", detail=detail)
    if status == 429:
        return Throttled("AWS asks for fewer requests.", detail=detail)
    if status >= 500:
        return Unreachable("AWS reports a fault of its own.", code="provider_fault", detail=detail)
    if not code or code.isdigit():
        return BadAnswer("AWS gave an answer that is not AWS's: a web page or half a document.", detail=detail)
    return _particular(code, said, detail)


def _particular(code: str, said: str, detail: str) -> ProviderError:
    if code in {"OptInRequired", "PendingVerification", "Blocked"}:
        return PermissionDenied(
            "AWS has not activated this account for the service or region.",
            code="account_not_activated",
            next_step="Sign in to the AWS console and complete the activation of the account or region.",
            detail=detail,
        )
    if code == "OperationNotPermitted":
        return InvalidRequest(
            "AWS protects this instance against being stopped or changed.",
            code="protected",
            next_step="Remove the stop protection in the EC2 console, then try again.",
            detail=detail,
        )
    if code == "Unsupported":
        return CapacityUnavailable(
            "AWS does not offer this instance type in this availability zone.",
            code="not_offered",
            transient=False,
            next_step="Use another zone, region or instance type.",
            detail=detail,
        )
    return InvalidRequest(f"AWS refused the request: {said or code}", detail=detail)


def _denied(said: str, action: str, detail: str) -> ProviderError:
    found = _PERMISSION.search(said)
    permission = found[1] if found else action
    words = (
        f"The connected identity lacks the permission {permission}."
        if permission
        else "The connected identity lacks a permission."
    )
    return PermissionDenied(
        words,
        permission=permission,
        detail=detail,
        next_step=f"Add {permission or 'the permission'} to the role (updating the CloudFormation stack does it), then try again.",
    )


def _expired(detail: str) -> ProviderError:
    return AuthenticationFailed(
        "The AWS session has expired.",
        code="credentials_expired",
        detail=detail,
        next_step="Connect the account again with fresh keys; a role renews itself.",
    )


def _wrong_keys(detail: str) -> ProviderError:
    return AuthenticationFailed(
        "AWS does not accept these access keys.",
        code="wrong_credentials",
        detail=detail,
        next_step="Check that both keys were copied whole and that the key is active in IAM.",
    )


_TABLE: tuple[tuple[set[str], Callable[[str], ProviderError]], ...] = (
    (_EXPIRED, _expired),
    (_WRONG_KEYS, _wrong_keys),
    (
        _NO_CAPACITY,
        lambda d: CapacityUnavailable(
            "AWS has no free capacity for this instance type in its zone at the moment.", detail=d
        ),
    ),
    (
        _QUOTA,
        lambda d: QuotaExceeded(
            "The vCPU or instance limit of the AWS account is reached.",
            detail=d,
            next_step="Stop another instance of this family, or ask for a higher limit under Service Quotas in the AWS console.",
        ),
    ),
    (_THROTTLED, lambda d: Throttled("AWS asks for fewer requests.", detail=d)),
    (_BUSY, lambda d: Conflict("The instance is in the middle of another change.", detail=d)),
    (_FAULT, lambda d: Unreachable("AWS reports a fault of its own.", code="provider_fault", detail=d)),
)


def _from_botocore(error: Exception) -> ProviderError:
    from botocore import exceptions as x

    detail = str(error)
    if isinstance(error, (x.NoCredentialsError, x.PartialCredentialsError, x.CredentialRetrievalError)):
        return AuthenticationFailed(
            "This Curfew server has no AWS identity of its own to assume roles with.",
            code="platform_credentials_missing",
            next_step="The operator of this server sets AWS credentials or an instance role for it.",
            detail=detail,
        )
    if isinstance(error, (x.ReadTimeoutError, x.ConnectTimeoutError)):
        return TimedOut("AWS did not answer in time.", detail=detail)
    if isinstance(
        error,
        (x.NoRegionError, x.ParamValidationError, x.UnknownServiceError, x.UnknownEndpointError, x.InvalidRegionError),
    ):
        return InvalidRequest("AWS cannot be asked like this: a value is malformed.", detail=detail)
    if isinstance(error, (x.ResponseStreamingError, x.IncompleteReadError)):
        return BadAnswer("The answer of AWS broke off.", detail=detail)
    if isinstance(error, (x.HTTPClientError, x.ConnectionError)):
        return Unreachable("AWS cannot be reached.", detail=detail)
    return ProviderError("AWS could not be asked.", code="aws_error", detail=detail)


def _hidden(error: ProviderError, secrets: Iterable[str]) -> ProviderError:
    error.hide(secrets)
    return error
