"""HTTP to Vast.ai: one token bucket for each account, plain-text 429s, and what is certain after a failed call."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode

from core.providers import (
    AuthenticationFailed,
    BadAnswer,
    CapacityUnavailable,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ProviderError,
    Throttled,
    TimedOut,
    Unreachable,
)

# Seconds that lie between two calls of the same endpoint, as the provider enforces them.
GAPS: Mapping[str, float] = {
    "create": 4.5,
    "bulk": 4.5,
    "search": 1.0,
    "show": 2.0,
    "list": 1.0,
    "change": 1.0,
    "destroy": 3.0,
    "market": 3.0,
    "bid": 5.5,
    "charges": 1.0,
    "user": 1.0,
}
# No Retry-After comes with a 429.
PENALTY_SECONDS = 12.0
MOST_ATTEMPTS = 4
READ_METHODS = frozenset({"GET"})
GONE_WORDS = frozenset({"no_such_instance"})


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body of an answer."""

    status: int
    body: bytes


class Transport(Protocol):
    """Sends one request. Raises Unreachable before anything was sent, TimedOut when the outcome is open."""

    def send(self, method: str, path: str, body: Mapping[str, Any] | None, token: str) -> Answer: ...


class HttpTransport:
    """The real thing, over httpx; redirects are not followed, so that the key travels to no other host."""

    def __init__(self, base: str, *, connect: float = 5.0, read: float = 30.0) -> None:
        self._base = base.rstrip("/")
        self._timeouts = (connect, read)
        self._client: Any = None
        self._lock = threading.Lock()

    def send(self, method: str, path: str, body: Mapping[str, Any] | None, token: str) -> Answer:
        """One request, no retry."""
        import httpx

        with self._lock:
            if self._client is None:
                connect, read = self._timeouts
                self._client = httpx.Client(timeout=httpx.Timeout(read, connect=connect))
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        try:
            found = self._client.request(method, f"{self._base}{path}", json=body, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as lost:
            raise Unreachable("Vast.ai cannot be reached.", detail=repr(lost)) from None
        except httpx.HTTPError as lost:
            raise TimedOut("Vast.ai did not answer in time.", detail=repr(lost)) from None
        return Answer(found.status_code, found.content)


class Pace:
    """When each endpoint may be called next. One for each account and process: the limits are counted per key."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._next: dict[str, float] = {}
        self._lock = threading.Lock()

    def wait(self, endpoint: str) -> None:
        """Take the next free slot of the endpoint and sleep until it comes."""
        gap = GAPS[endpoint]
        with self._lock:
            now = self._clock()
            slot = max(now, self._next.get(endpoint, 0.0))
            self._next[endpoint] = slot + gap
        if slot > now:
            self._sleep(slot - now)

    def punish(self, endpoint: str, seconds: float = PENALTY_SECONDS) -> None:
        """A 429 came: nobody calls the endpoint for a while."""
        with self._lock:
            self._next[endpoint] = max(self._next.get(endpoint, 0.0), self._clock() + seconds)


class VastApi:
    """Calls with pacing, retries of what is safe to repeat, and errors of our own set."""

    def __init__(self, token: str, transport: Transport, pace: Pace) -> None:
        self._token, self._transport, self._pace = token, transport, pace

    def call(
        self,
        method: str,
        path: str,
        endpoint: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        repeat: bool | None = None,
    ) -> dict[str, Any]:
        """One call. `repeat` says that sending it again does no harm (reads, unless told otherwise).

        A 429 was refused before it had an effect, so it is repeated always.
        """
        again = method in READ_METHODS if repeat is None else repeat
        full = path + (f"?{urlencode({k: _text(v) for k, v in query.items()})}" if query else "")
        last: ProviderError = ProviderError()
        for _ in range(MOST_ATTEMPTS):
            self._pace.wait(endpoint)
            try:
                return self._once(method, full, body)
            except Throttled as refused:
                self._pace.punish(endpoint)
                last = refused
            except ProviderError as failure:
                if not failure.transient or not again or isinstance(failure, CapacityUnavailable):
                    raise
                last = failure
        raise last

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        answer = self._transport.send(method, path, body, self._token)
        found = _parsed(answer.body)
        if answer.status == 429 or (answer.status >= 400 and b"too frequent" in answer.body):
            raise Throttled("Vast.ai asks for fewer requests.", retry_after=PENALTY_SECONDS)
        if answer.status >= 500:
            raise TimedOut(
                "Vast.ai reported an error of its own; whether the request had an effect is not known.",
                code="server_error",
                detail=_words(answer, found),
            )
        if answer.status >= 400 or (found is not None and found.get("success") is False):
            raise refusal(answer, found)
        if found is None:
            raise BadAnswer(
                "Vast.ai gave an answer that is not JSON.", detail=answer.body[:200].decode(errors="replace")
            )
        return found


class Refused(InvalidRequest):
    """A refusal that tells the id of what exists all the same: it has to be destroyed."""

    contract = ""


def refusal(answer: Answer, found: Mapping[str, Any] | None) -> ProviderError:
    """The error of our set for a refusal of Vast.ai."""
    said, code = _words(answer, found), str((found or {}).get("error") or "")
    if code in ("no_such_ask", "no_such_offer") or answer.status == 410:
        return CapacityUnavailable("This offer is gone.", code="offer_gone", transient=False, detail=said)
    if code in GONE_WORDS:
        return NotFound("Vast.ai no longer has this instance.", code="no_such_instance", detail=said)
    if code == "missing_billing" or "credit" in said.lower():
        return PermissionDenied(
            "The Vast.ai account has no credit.", code="no_credit", detail=said, next_step="Add credit at Vast.ai."
        )
    if answer.status in (401, 403) or (answer.status == 404 and not code):
        return AuthenticationFailed(
            "Vast.ai does not accept the API key.", detail=said, next_step="Make a new key at Vast.ai, under Account."
        )
    refused = Refused(f"Vast.ai refused the request: {said}", code=code[:60] or "invalid_request", detail=said)
    contract = (found or {}).get("new_contract")
    refused.contract = str(contract) if contract else ""
    return refused


def _parsed(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _words(answer: Answer, found: Mapping[str, Any] | None) -> str:
    told = (found or {}).get("msg") or (found or {}).get("error") or answer.body[:200].decode(errors="replace")
    return f"{answer.status} {told}"


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else str(value)
