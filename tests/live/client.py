"""A program that uses Curfew over HTTP as anybody would: signs up, connects a cloud, switches nodes, watches operations."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

import httpx

from tests.live.processes import TookTooLong

PASSWORD = "a long walk at dusk 7"
NODES = "/budgetguard/api/cloud-nodes"
FINAL = {"succeeded", "failed", "cancelled"}


@dataclass(frozen=True)
class Node:
    """One cell of the grid as the API tells it."""

    node_type: str
    tier: str
    provider: str
    name: str
    status: str
    facts: dict[str, Any]


class Api:
    """A signed-in program. Answers are given back as they are; only an expired access token is renewed silently."""

    def __init__(self, base_url: str, *, timeout: float = 30.0) -> None:
        self.base_url = base_url
        self.http = httpx.Client(base_url=base_url, timeout=timeout, headers={"User-Agent": "curfew-trial"})
        self.email = ""
        self._refresh = ""

    def close(self) -> None:
        self.http.close()

    def request(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """One request; a 401 is answered with one renewal and one repetition."""
        answer = (
            self.http.request(method, path, json=body, **options)
            if body is not None
            else self.http.request(method, path, **options)
        )
        if answer.status_code == 401 and self._refresh and not path.startswith("/api/auth/"):
            self._renew()
            answer = (
                self.http.request(method, path, json=body, **options)
                if body is not None
                else self.http.request(method, path, **options)
            )
        return answer

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return self.request("POST", path, {} if body is None else body, **options)

    def sign_up(self, organization: str, email: str) -> dict[str, Any]:
        """Make an organization with its first person, and act as that person from now on."""
        answer = self.post("/api/auth/signup", {"organization": organization, "email": email, "password": PASSWORD})
        assert answer.status_code == 201, f"sign-up: {answer.status_code} {answer.text}"
        self.email = email
        return self._hold(answer)

    def sign_in(self, email: str) -> dict[str, Any]:
        """Act as somebody who signed up before."""
        answer = self.post("/api/auth/token", {"email": email, "password": PASSWORD})
        assert answer.status_code == 200, f"sign-in: {answer.status_code} {answer.text}"
        self.email = email
        return self._hold(answer)

    def _hold(self, answer: httpx.Response) -> dict[str, Any]:
        body: dict[str, Any] = answer.json()
        self._refresh = body["refresh"]
        self.http.headers["Authorization"] = f"Bearer {body['access']}"
        return body

    def _renew(self) -> None:
        self.http.headers.pop("Authorization", None)
        answer = self.http.post("/api/auth/token/refresh", json={"refresh": self._refresh})
        if answer.status_code == 200:
            self.http.headers["Authorization"] = f"Bearer {answer.json()['access']}"
            self._refresh = answer.json().get("refresh", self._refresh)
        else:  # a rotation whose answer was lost with a killed server ends the family: sign in anew
            self.sign_in(self.email)

    def connect_keys(self, keys: dict[str, str], *, name: str = "Sandbox AWS", **changes: Any) -> httpx.Response:
        """Connect an AWS account by access keys."""
        body = {
            "provider": "aws",
            "method": "keys",
            "name": name,
            "region": keys["region"],
            "access_key_id": keys["access_key_id"],
            "secret_access_key": keys["secret_access_key"],
            **changes,
        }
        return self.post("/api/client/accounts/connect", {k: v for k, v in body.items() if v is not None})

    def accounts(self) -> list[dict[str, Any]]:
        answer = self.get("/api/client/accounts")
        assert answer.status_code == 200, answer.text
        body = answer.json()
        return list(body["results"] if isinstance(body, dict) else body)

    def scanned(self, account_id: str, *, seconds: float = 60) -> dict[str, Any]:
        """Wait until an account's scan has ended, well or not, and return its status."""
        deadline = time.monotonic() + seconds
        while True:
            answer = self.get(f"/api/client/accounts/{account_id}/status")
            assert answer.status_code == 200, answer.text
            body: dict[str, Any] = answer.json()
            if body["status"] in {"active", "error"}:
                return body
            if time.monotonic() > deadline:
                raise TookTooLong(f"the scan has not ended: {body}")
            time.sleep(0.3)

    def nodes(self) -> list[Node]:
        """Every node of the grid."""
        answer = self.get(f"{NODES}/status")
        assert answer.status_code == 200, f"{answer.status_code} {answer.text[:500]}"
        return [
            Node(node_type, tier, provider, facts["instance_name"], facts["status"], facts)
            for node_type, tiers in answer.json()["cloud_nodes"].items()
            for tier, providers in tiers.items()
            for provider, facts in providers.items()
        ]

    def switch(self, verb: str, node: str, *, provider: str = "aws", key: str = "") -> httpx.Response:
        """`start` or `stop` a node by its name."""
        headers = {"Idempotency-Key": key} if key else {}
        return self.post(f"{NODES}/{verb}", {"provider": provider, "instance_name": node}, headers=headers)

    def operation(self, operation_id: str) -> dict[str, Any]:
        answer = self.get(f"/api/operations/{operation_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def ended(self, operation_id: str, *, seconds: float = 60) -> dict[str, Any]:
        """Wait for an operation's end and return it."""
        deadline = time.monotonic() + seconds
        while True:
            operation = self.operation(operation_id)
            if operation["status"] in FINAL:
                return operation
            if time.monotonic() > deadline:
                raise TookTooLong(f"the operation has not ended: {operation}")
            time.sleep(0.2)


class Browser:
    """A signed-in browser session without scripts: cookies and forms, as the log-in page makes them."""

    def __init__(self, base_url: str) -> None:
        self.http = httpx.Client(base_url=base_url, timeout=30, follow_redirects=True, headers={"Origin": base_url})

    def close(self) -> None:
        self.http.close()

    def sign_in(self, email: str) -> None:
        """Fill in the log-in form and send it to where its action says."""
        page = self.http.get("/login")
        assert page.status_code == 200, f"log-in page: {page.status_code}"
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert token, "the log-in page has no form"
        fields = {"login": email, "password": PASSWORD, "csrfmiddlewaretoken": token[1]}
        answer = self.http.post(str(page.url), data=fields)
        assert answer.status_code == 200, f"log-in: {answer.status_code}"
        assert "sessionid" in self.http.cookies, "the log-in made no session"

    @property
    def cookie(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.http.cookies.items())
