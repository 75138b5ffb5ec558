"""Errors that every provider (cloud, Docker, GPU market) speaks, and the redaction of secrets.

A provider never lets an exception of its SDK escape: it raises one of the classes below. Each
carries words for a person, whether trying again may help (`transient`), what to do next, and the
provider's own words with secrets removed. What to do next is what a person can do: a provider does
not know whether its call will be repeated, so whoever repeats it (an operation, a poll) says so.
The module imports neither Django nor an SDK, so pure provider code and agents may use it. Instances
survive pickling and `to_dict`/`from_dict`, so an error can be stored on an Operation row and shown
after a restart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "[hidden]"
DETAIL_LIMIT = 1000
# Shorter values (a port, "eu", a choice) would blank out ordinary words.
MIN_SECRET_LENGTH = 6

_SENSITIVE_NAMES = (
    r"secret[_-]?access[_-]?key|aws_secret_key|session[_-]?token|security[_-]?token|client[_-]?secret"
    r"|private[_-]?key(?:[_-]id)?|access[_-]?token|refresh[_-]?token|id[_-]?token|api[_-]?key|password|passwd"
    r"|pwd|secret|sas[_-]?token|sig|signature|x-amz-signature|x-amz-security-token|x-amz-credential"
    r"|client[_-]?assertion|assertion|external[_-]?id"
)
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)", re.DOTALL), MASK),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,124}\b"), MASK),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]*)?"), MASK),
    (re.compile(r"\bya29\.[\w.-]{10,}"), MASK),
    (re.compile(r"(?i)\b(bearer|basic|api-key|agent)\s+[\w.~+/=-]{12,}"), rf"\1 {MASK}"),
    (re.compile(r"(?i)\bCredential=[^,\s]+"), f"Credential={MASK}"),
    (re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://)[^/\s:@]+:[^/\s@]+@"), rf"\1{MASK}@"),
    (
        re.compile(rf"(?i)(['\"]?(?:{_SENSITIVE_NAMES})['\"]?\s*[=:]\s*)(\"(?:[^\"\\]|\\.)*\"|'[^']*'|[^\s,;&}}\"']+)"),
        rf"\1{MASK}",
    ),
)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` without secrets.

    Values given in `secrets` are removed wherever they stand, also percent-encoded or as a JSON
    string; after that, anything that looks like a key, token, signature or private key is removed.
    """
    for secret in sorted({s for s in secrets if len(s) >= MIN_SECRET_LENGTH}, key=len, reverse=True):
        for form in (secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]):
            text = text.replace(form, MASK)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


@dataclass(eq=False)
class ProviderError(Exception):
    """Something a provider refused or could not do, in clear words.

    `message` is for a person; `code` is stable and for programs; `transient` says whether the same
    call may succeed later without anybody changing anything; `next_step` says what the person can
    do; `detail` is the provider's own words. Message, step and detail are redacted on creation.
    """

    message: str = "The provider reported an error."
    code: str = "provider_error"
    transient: bool = False
    next_step: str = ""
    detail: str = ""

    def __post_init__(self) -> None:
        self.message = redact(self.message)
        self.next_step = redact(self.next_step)
        self.detail = redact(self.detail)[:DETAIL_LIMIT]
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message

    def hide(self, secrets: Iterable[str]) -> None:
        """Remove the given values from every text of this error."""
        values = list(secrets)
        self.message = redact(self.message, values)
        self.next_step = redact(self.next_step, values)
        self.detail = redact(self.detail, values)
        self.args = (self.message,)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe dict; `from_dict` builds an equal error of the same class again."""
        return {"kind": type(self).__name__, **asdict(self)}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> ProviderError:
        """Build the error that `to_dict` described; unknown kinds become a plain ProviderError."""
        cls = ERROR_CLASSES.get(str(data.get("kind", "")), ProviderError)
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        return cls(**known)


@dataclass(eq=False)
class AuthenticationFailed(ProviderError):
    """The credentials are wrong, expired, revoked or may not be assumed."""

    message: str = "The provider did not accept the credentials."
    code: str = "authentication_failed"
    next_step: str = "Check the credentials and connect the account again."


@dataclass(eq=False)
class PermissionDenied(ProviderError):
    """The credentials are good, but a right is missing; `permission` names it where known."""

    message: str = "The credentials lack a permission."
    code: str = "permission_denied"
    next_step: str = "Grant the missing permission to the connected identity, then try again."
    permission: str = ""


@dataclass(eq=False)
class NotFound(ProviderError):
    """The thing asked for does not exist (any more)."""

    message: str = "The provider does not know this resource."
    code: str = "not_found"
    next_step: str = "Refresh the list: it may have been deleted at the provider."


@dataclass(eq=False)
class CapacityUnavailable(ProviderError):
    """The provider has no machine of this kind free at the moment."""

    message: str = "The provider has no capacity for this machine at the moment."
    code: str = "capacity_unavailable"
    transient: bool = True
    next_step: str = "Try again in a few minutes, or use another GPU tier, zone or provider."


@dataclass(eq=False)
class QuotaExceeded(ProviderError):
    """An account limit forbids it; waiting does not help."""

    message: str = "A limit of the cloud account forbids this."
    code: str = "quota_exceeded"
    next_step: str = "Stop another machine of this kind, or ask the provider for a higher limit."


@dataclass(eq=False)
class Throttled(ProviderError):
    """Too many calls; `retry_after` is in seconds, None when the provider gave no figure."""

    message: str = "The provider asks for fewer requests."
    code: str = "throttled"
    transient: bool = True
    next_step: str = "Wait a minute, then try again."
    retry_after: float | None = None


@dataclass(eq=False)
class Unreachable(ProviderError):
    """No connection: refused, name not found, TLS failure, no route."""

    message: str = "The provider cannot be reached."
    code: str = "unreachable"
    transient: bool = True
    next_step: str = "Check the network, the address and the firewall, then try again."


@dataclass(eq=False)
class TimedOut(ProviderError):
    """The provider took the connection but did not answer in time; the outcome is not known."""

    message: str = "The provider did not answer in time."
    code: str = "timed_out"
    transient: bool = True
    next_step: str = "Wait a minute, then try again: the state is read again before anything is repeated."


@dataclass(eq=False)
class BadAnswer(ProviderError):
    """The answer is not what this API speaks: HTML, half a JSON, an unknown shape."""

    message: str = "The provider gave an answer that cannot be understood."
    code: str = "bad_answer"
    transient: bool = True
    next_step: str = "Check that no proxy or login page stands in between, then try again."


@dataclass(eq=False)
class InvalidRequest(ProviderError):
    """What was asked cannot be right: a malformed number, an unknown region, a bad document."""

    message: str = "The provider refused the request as invalid."
    code: str = "invalid_request"
    next_step: str = "Correct the values and try again."


@dataclass(eq=False)
class Conflict(ProviderError):
    """The resource is in the middle of something else."""

    message: str = "The resource is busy with another change."
    code: str = "conflict"
    transient: bool = True
    next_step: str = "Wait until the running change has ended, then try again."


ERROR_CLASSES: dict[str, type[ProviderError]] = {
    cls.__name__: cls
    for cls in (
        ProviderError,
        AuthenticationFailed,
        PermissionDenied,
        NotFound,
        CapacityUnavailable,
        QuotaExceeded,
        Throttled,
        Unreachable,
        TimedOut,
        BadAnswer,
        InvalidRequest,
        Conflict,
    )
}
