"""Translate what the Docker SDK and requests raise into Curfew's error set."""

from __future__ import annotations

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
    TimedOut,
    Unreachable,
)


@contextmanager
def docker_errors(secrets: Iterable[str] = ()) -> Iterator[None]:
    """Run a block of Docker calls; anything they raise leaves as a ProviderError."""
    import requests
    from docker.errors import APIError, DockerException

    try:
        yield
    except ProviderError as error:
        error.hide(secrets)
        raise
    except APIError as error:
        raise _hidden(_from_api(error), secrets) from None
    except (DockerException, requests.RequestException, OSError) as error:
        raise _hidden(_from_transport(error), secrets) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _hidden(
            BadAnswer("This address answers, but not like a Docker engine.", detail=repr(error)), secrets
        ) from None


def _hidden(error: ProviderError, secrets: Iterable[str]) -> ProviderError:
    error.hide(secrets)
    return error


def _from_api(error: Any) -> ProviderError:
    status = int(error.status_code or 0)
    said = str(error.explanation or error)
    low = said.lower()
    response = error.response
    kind = str(response.headers.get("Content-Type", "")) if response is not None else ""
    if "html" in kind or low.lstrip().startswith(("<html", "<!doctype")):
        return BadAnswer("This address answers, but not like a Docker engine.", detail=f"HTTP {status} {kind}")
    if "could not select device driver" in low or "nvidia-container-cli" in low:
        return CapacityUnavailable(
            "This Docker host has no usable GPU for the container.",
            code="no_gpu",
            transient=False,
            detail=said,
            next_step="Install the NVIDIA driver and container toolkit on the host, or start the CPU variant.",
        )
    if "port is already allocated" in low or "address already in use" in low:
        return Conflict(
            "The container's port is taken by something else on the host.",
            code="port_taken",
            transient=False,
            detail=said,
            next_step="Stop what uses the port, then try again.",
        )
    if status == 404:
        return NotFound("Docker does not know this container.", detail=said)
    if status in {401, 403}:
        return PermissionDenied(
            "The Docker engine refuses this.", detail=said, next_step="Check the rights of the client certificate."
        )
    if status == 409:
        return Conflict("The container is in the middle of another change.", detail=said)
    if status >= 500:
        return ProviderError(
            "The Docker engine could not do it.",
            code="engine_error",
            transient=True,
            detail=said,
            next_step="Look at the engine's own words below, then try again.",
        )
    return InvalidRequest(f"Docker refused the request: {said}", detail=said)


def _from_transport(error: BaseException) -> ProviderError:
    import requests
    from docker.errors import TLSParameterError

    text = f"{error!r} {error}"
    low = text.lower()
    if isinstance(error, TLSParameterError):
        return InvalidRequest("The TLS certificate files are not usable.", code="bad_certificate", detail=str(error))
    if "certificate_verify_failed" in low or "certificate verify failed" in low:
        return AuthenticationFailed(
            "The Docker host shows a certificate that the given CA did not sign.",
            code="untrusted_host",
            detail=text,
            next_step="Use the CA certificate that signed the host's certificate.",
        )
    if any(
        w in low
        for w in ("certificate required", "bad certificate", "unknown ca", "handshake failure", "certificate unknown")
    ):
        return AuthenticationFailed(
            "The Docker host does not accept the client certificate.",
            code="wrong_credentials",
            detail=text,
            next_step="Use a client certificate signed by the CA that the host trusts.",
        )
    if "permission denied" in low or "permissionerror" in low:
        return PermissionDenied(
            "Curfew may not open the Docker socket.",
            permission="docker.sock",
            detail=text,
            next_step="Add the user that runs Curfew to the group docker, then start Curfew again.",
        )
    if isinstance(error, requests.Timeout) or "timed out" in low or "read timeout" in low:
        return TimedOut("The Docker engine did not answer in time.", detail=text)
    if any(
        w in low
        for w in (
            "jsondecodeerror",
            "badstatusline",
            "expecting value",
            "incompleteread",
            "invalidheader",
            "invalidchunk",
            "unterminated string",
            "invalid response from docker daemon",
            "<html",
            "<!doctype",
        )
    ):
        return BadAnswer("This address answers, but not like a Docker engine.", detail=text)
    if "401 client error" in low or "403 client error" in low:
        return PermissionDenied(
            "The Docker engine refuses this.", detail=text, next_step="Check the rights of the client certificate."
        )
    return Unreachable(
        "The Docker engine cannot be reached.",
        detail=text,
        next_step="Check that Docker runs there and that the address is right.",
    )
