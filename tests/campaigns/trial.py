"""What the trials of bad input share: a live server, its cloud, people, and the search for secrets that were typed in."""

from __future__ import annotations

import re
import secrets
from typing import Any

import httpx

from tests.live.client import Api
from tests.live.cloud import WatchedCloud
from tests.live.server import Curfew

CONNECT = "/api/client/accounts/connect"
READ_TIMEOUT = 10.0
ATTEMPTS = 2
SPARE_OWNERS = 5


class Trial:
    """A live server, its cloud, an owner, and every secret that was ever typed in."""

    def __init__(self, curfew: Curfew, cloud: WatchedCloud) -> None:
        self.curfew, self.cloud = curfew, cloud
        self.planted: list[str] = []
        self._made = 0
        self._free: list[Api] = []

    def member(self) -> Api:
        """The owner of an organization that has connected nothing; sign-ups and connects are limited, so by turns."""
        if len(self._free) < SPARE_OWNERS:
            self._free.append(self.owner())
        else:
            self._free.append(self._free.pop(0))
        return self._free[-1]

    def owner(self) -> Api:
        """The owner of an organization of its own, for a test that connects something."""
        self._made += 1
        return self.curfew.member(f"House {self._made}", f"owner{self._made}@house.test")

    def plant(self, text: str) -> str:
        """Remember a secret; `no_secret_left` looks for it."""
        self.planted.append(text)
        return text

    def wrong_keys(self, **changes: str) -> dict[str, Any]:
        """A connect form whose keys are well-formed, and wrong."""
        return {
            "provider": "aws",
            "method": "keys",
            "name": "Render farm",
            "region": "us-east-1",
            "access_key_id": self.plant("AKIA" + secrets.token_hex(8).upper()),
            "secret_access_key": self.plant(secrets.token_urlsafe(30)),
            **changes,
        }

    def no_secret_left(self) -> None:
        """Not in the database (sealed values apart), not in the audit log, not in any log file."""
        places = {"the database": self.curfew.inspector.dump(), "the logs": self.curfew.log_text()}
        for name, text in places.items():
            found = [s[:6] + "…" for s in self.planted if s in text]
            assert not found, f"{name} hold {found}"


def problem(trial: Trial, answer: httpx.Response, status: int, code: str = "", says: str = "") -> dict[str, Any]:
    """Check that an answer is a problem with words for a person and without any secret; returns its body."""
    assert answer.status_code == status, f"{answer.status_code} {answer.text}"
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    body: dict[str, Any] = answer.json()
    words = " ".join([body["title"], body["detail"], *(w for each in body.get("errors", {}).values() for w in each)])
    assert len(words) > 15, f"hardly words for a person: {body}"
    assert re.search(says, words, re.IGNORECASE), words
    assert not re.search(r"Traceback|<html|<!DOCTYPE|botocore|\bException\b|ClientError", answer.text, re.IGNORECASE), (
        answer.text
    )
    assert not code or body["code"] == code, body
    assert body["request_id"]
    assert body["status"] == status
    if status == 503:
        assert int(answer.headers["Retry-After"]) > 0
    leaked = [s for s in trial.planted if s in answer.text or s in str(answer.headers)]
    assert not leaked
    return body
