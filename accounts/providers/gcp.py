"""Google Cloud projects, by service-account key."""

from __future__ import annotations

import json
import re
import threading
from functools import partial
from typing import Any

from accounts.providers.base import Credentials, Identity, Timeouts
from accounts.providers.gcp_errors import gcp_errors
from core.providers import InvalidRequest

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
TOKEN_URIS = frozenset({"https://oauth2.googleapis.com/token", "https://accounts.google.com/o/oauth2/token"})
_PROJECT = re.compile(r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")
_REGION = re.compile(r"[a-z]+-[a-z]+\d+")
_EMAIL = re.compile(r"[a-z0-9-]+@[a-z0-9.:-]+\.gserviceaccount\.com")
_FORBIDDEN = (
    "credential_source",
    "service_account_impersonation_url",
    "subject_token_type",
    "refresh_token",
    "source_credentials",
)


class GcpConnection:
    """One Google project seen through one service-account key. Safe across threads."""

    def __init__(self, credentials: Credentials, *, timeouts: Timeouts | None = None) -> None:
        self.credentials = credentials
        self.timeouts = timeouts or Timeouts()
        self._lock = threading.RLock()
        self._signer: Any = None
        self._services: Any = None

    @property
    def region(self) -> str:
        """The Cloud Run location of this connection."""
        return self.credentials.region.strip()

    @property
    def project(self) -> str:
        """The project id: the one named, else that of the key."""
        return self.credentials.get("project_id") or str(self.key().get("project_id", ""))

    @property
    def call(self) -> dict[str, Any]:
        """Arguments for every API call: a timeout, and no retries behind our back."""
        return {"timeout": self.timeouts.read, "retry": None}

    def secrets(self) -> list[str]:
        """Return every value that must not appear in any text, the parts of the key included."""
        found = self.credentials.secrets()
        try:
            key = json.loads(self.credentials.get("service_account_json"))
        except ValueError:
            return found
        if isinstance(key, dict):
            found += [str(key[name]) for name in ("private_key", "private_key_id") if key.get(name)]
        return found

    def key(self) -> dict[str, Any]:
        """Return the parsed key; raises InvalidRequest unless it is a plain service-account key of Google.

        Other credential kinds may name files, programs or addresses that the server would then
        read, run or call, so they are refused.
        """
        (raw,) = self.credentials.require("service_account_json")
        try:
            key = json.loads(raw)
        except ValueError as error:
            raise _bad_key(
                "The service-account key is not valid JSON.", f"line {getattr(error, 'lineno', 1)}"
            ) from None
        if not isinstance(key, dict):
            raise _bad_key("The service-account key is not a JSON object.")
        if key.get("type") != "service_account" or any(name in key for name in _FORBIDDEN):
            raise _bad_key("Only keys of the type service_account are accepted.", f"type {key.get('type')!r}")
        missing = [
            n
            for n in ("project_id", "client_email", "private_key", "token_uri")
            if not isinstance(key.get(n), str) or not key[n]
        ]
        if missing:
            raise _bad_key(f"The service-account key lacks {', '.join(missing)}.")
        if not _EMAIL.fullmatch(key["client_email"]):
            raise _bad_key("The key's client_email is not a service account of Google.")
        if key["token_uri"] not in TOKEN_URIS and not self.credentials.endpoints.get("gcp_token"):
            raise _bad_key("The key's token_uri is not Google's.")
        if key.get("universe_domain", "googleapis.com") != "googleapis.com":
            raise _bad_key("The key belongs to another cloud than googleapis.com.")
        return key

    def verify(self) -> Identity:
        """Sign in and list Cloud Run services once, so that the key and the right to read are both proven."""
        if self.credentials.method != "service_account":
            raise InvalidRequest("Google projects are connected by service-account key.", code="unknown_method")
        key = self.key()
        if not _PROJECT.fullmatch(self.project):
            raise InvalidRequest(
                "This is not a Google project ID.",
                code="bad_account_number",
                next_step="A project ID looks like my-project-123; it is not the project's name.",
            )
        if not _REGION.fullmatch(self.region):
            raise InvalidRequest(
                f"Google has no region called {self.region!r}." if self.region else "Choose a Google region.",
                code="unknown_region",
                next_step="Choose a region from the list, for example us-central1.",
            )
        with gcp_errors("run.services.list", self.secrets()):
            services = self.services()
            pages = services.list_services(request={"parent": self.parent, "page_size": 1}, **self.call).pages
            next(iter(pages), None)
        return Identity(account_number=self.project, label=self.project, principal=key["client_email"])

    @property
    def parent(self) -> str:
        """The resource name below which the services of this connection live."""
        return f"projects/{self.project}/locations/{self.region}"

    def services(self) -> Any:
        """Return a Cloud Run ServicesClient whose token renews itself; call it inside `gcp_errors`."""
        from google.cloud import run_v2

        with self._lock:
            if self._services is None:
                options = {"api_endpoint": self.credentials.endpoints.get("gcp") or "https://run.googleapis.com"}
                # REST, not gRPC: gRPC does not survive the fork of a worker process.
                self._services = run_v2.ServicesClient(
                    credentials=self._bearer(), transport="rest", client_options=options
                )
            return self._services

    def _bearer(self) -> Any:
        """Return credentials that get each token with our own timeouts; Google's would wait up to two minutes."""
        from google.auth.credentials import Credentials as GoogleCredentials

        connection = self

        class Bearer(GoogleCredentials):
            def refresh(self, request: Any) -> None:
                self.token, self.expiry = connection._new_token()

        return Bearer()  # type: ignore[no-untyped-call]

    def _new_token(self) -> tuple[str, Any]:
        """Exchange a signed assertion for an access token; returns it with its naive UTC expiry."""
        import requests
        from google.auth.transport.requests import Request
        from google.oauth2 import service_account

        with self._lock, gcp_errors("", self.secrets()):
            if self._signer is None:
                key = dict(self.key())
                key["token_uri"] = self.credentials.endpoints.get("gcp_token") or key["token_uri"]
                make_signer: Any = service_account.Credentials.from_service_account_info
                try:
                    self._signer = make_signer(key, scopes=[SCOPE])
                except (ValueError, TypeError) as error:
                    raise _bad_key(
                        "The private key inside the service-account key cannot be read.", type(error).__name__
                    ) from None
            with requests.Session() as session:
                self._signer.refresh(
                    partial(Request(session=session), timeout=(self.timeouts.connect, self.timeouts.read))
                )
            return str(self._signer.token), self._signer.expiry


def _bad_key(words: str, detail: str = "") -> InvalidRequest:
    return InvalidRequest(
        words,
        code="bad_key_file",
        detail=detail,
        next_step="Create a JSON key for the service account in the Google Cloud console and paste the whole file.",
    )
