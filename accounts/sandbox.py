"""The sandbox cloud: a simulated AWS run beside the demo, reached over HTTP at the operator's address only.

It keeps everything in memory, so its keys are asked for anew whenever they are needed: what was stored at connection
time would be worthless after its restart.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from core.providers import BadAnswer, NotFound, Unreachable

PROVIDER = "aws"
FRESH_SECONDS = 5.0
READ_SECONDS, CONNECT_SECONDS = 10.0, 2.0


@dataclass(frozen=True, slots=True)
class SandboxAccount:
    """One customer account of the sandbox, with keys that may be used to try Curfew."""

    number: str
    name: str
    access_key_id: str
    secret_access_key: str


@dataclass(frozen=True, slots=True)
class SandboxFacts:
    """What the sandbox says about itself; `platform` are Curfew's own keys inside it."""

    region: str
    platform: Mapping[str, str]
    platform_account: str
    accounts: tuple[SandboxAccount, ...]

    def account(self, number: str) -> SandboxAccount:
        """The account with this number; raises NotFound when the sandbox has none such."""
        for account in self.accounts:
            if account.number == number:
                return account
        raise NotFound(
            "The sandbox has no such account any more.", next_step="Disconnect it and connect the sandbox again."
        )


_lock = threading.Lock()
_known: dict[str, tuple[float, SandboxFacts]] = {}
_stacks: set[tuple[str, str, str]] = set()  # platform key, account, external ID: launched since that sandbox started


def address() -> str:
    """Where the sandbox answers, "" when this server runs without one."""
    return settings.CURFEW_SANDBOX_AWS_ENDPOINT.rstrip("/")


def is_offered() -> bool:
    """True when people of this server may connect the sandbox."""
    return bool(address())


def facts() -> SandboxFacts:
    """Keys and accounts of the sandbox as it runs now. Raises Unreachable or BadAnswer."""
    where = address()
    with _lock:
        known = _known.get(where)
    if known and time.monotonic() - known[0] < FRESH_SECONDS:
        return known[1]
    answer = _ask("GET", "/_sandbox/credentials")
    try:
        fresh = SandboxFacts(
            region=answer["region"],
            platform=dict(answer["platform"]),
            platform_account=answer["platform"]["account_id"],
            accounts=tuple(
                SandboxAccount(a["account_id"], a["name"], a["access_key_id"], a["secret_access_key"])
                for a in answer["accounts"]
            ),
        )
    except (KeyError, TypeError) as odd:
        raise BadAnswer("The sandbox gave an answer without the expected fields.", detail=str(odd)) from None
    with _lock:
        _known[where] = (time.monotonic(), fresh)
    return fresh


def has_begun_anew() -> bool:
    """True when the sandbox that runs now holds nothing of the one before. Raises Unreachable or BadAnswer."""
    return bool(_ask("GET", "/_sandbox/health").get("new", True))


def launch_stack(*, external_id: str, number: str, again: bool = True) -> dict[str, str]:
    """Play the customer who launches the CloudFormation stack; returns role_arn, role_name, account_id and region."""
    key = (facts().platform["access_key_id"], number, external_id)
    with _lock:
        done = key in _stacks
    if done and not again:
        return {}
    answer = _ask("POST", "/_sandbox/role", {"external_id": external_id, "account_id": number})
    with _lock:
        _stacks.add(key)
    return {str(name): str(value) for name, value in answer.items()}


def values_for(*, number: str, method: str, external_id: str, values: Mapping[str, str]) -> dict[str, str]:
    """The credentials of a connected sandbox account as they are valid now.

    A sandbox that was restarted has new keys and no stack: for a role the stack is launched again.
    """
    if method == "keys":
        account = facts().account(number)
        return {**values, "access_key_id": account.access_key_id, "secret_access_key": account.secret_access_key}
    launch_stack(external_id=external_id, number=number, again=False)
    return dict(values)


def _ask(method: str, path: str, body: Mapping[str, str] | None = None) -> dict[str, Any]:
    if not is_offered():
        raise Unreachable(
            "The sandbox cloud is not running here.", next_step="Start Curfew with ./curfew demo.", transient=False
        )
    import httpx  # loads its command line, too

    timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    try:
        answer = httpx.request(method, address() + path, json=body, timeout=timeout, trust_env=False)
        answer.raise_for_status()
        found = answer.json()
    except httpx.HTTPStatusError as refused:
        raise BadAnswer(
            "The sandbox refused.", detail=f"{refused.response.status_code} {refused.response.text[:200]}"
        ) from None
    except httpx.HTTPError as lost:
        raise Unreachable("The sandbox cloud is not answering.", detail=type(lost).__name__) from None
    except ValueError as odd:
        raise BadAnswer("The sandbox gave an answer that is not JSON.", detail=str(odd)) from None
    if not isinstance(found, dict):
        raise BadAnswer("The sandbox gave an answer that is not an object.")
    return found
