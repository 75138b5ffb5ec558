"""Azure subscriptions, by service principal."""

from __future__ import annotations

import json
import re
import threading
from typing import Any
from urllib.parse import urlsplit

from accounts.providers.azure_errors import azure_errors, from_sign_in
from accounts.providers.base import Credentials, Identity, Timeouts
from core.providers import BadAnswer, InvalidRequest

ARM = "https://management.azure.com"
AUTHORITY = "https://login.microsoftonline.com"
SUBSCRIPTION_API = "2022-12-01"
_GUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_TENANT_NAME = re.compile(r"(?=.{4,253}$)[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")


class AzureConnection:
    """One Azure subscription seen through one service principal. Safe across threads."""

    def __init__(self, credentials: Credentials, *, timeouts: Timeouts | None = None) -> None:
        self.credentials = credentials
        self.timeouts = timeouts or Timeouts()
        self._lock = threading.RLock()
        self._made: dict[str, Any] = {}

    @property
    def subscription_id(self) -> str:
        """The subscription, lower case."""
        return self.credentials.get("subscription_id").lower()

    @property
    def base_url(self) -> str:
        """Azure Resource Manager, or what replaces it."""
        return self.credentials.endpoints.get("azure") or ARM

    def secrets(self) -> list[str]:
        """Return every value that must not appear in any text."""
        return self.credentials.secrets()

    def verify(self) -> Identity:
        """Sign in and read the subscription; raises with words for wrong tenant, client, secret or rights."""
        self._check_values()
        try:
            found = self.get_json(
                f"/subscriptions/{self.subscription_id}?api-version={SUBSCRIPTION_API}",
                action="Microsoft.Resources/subscriptions/read",
            )
        except BadAnswer:
            # The SDK drops the sign-in service's words about the tenant: ask for them.
            self._check_tenant()
            raise
        number = str(found.get("subscriptionId", "")).lower()
        if number != self.subscription_id:
            raise BadAnswer(
                "Azure gave an answer without the expected fields.", detail="the subscription's id is missing"
            )
        return Identity(
            account_number=number,
            label=str(found.get("displayName") or number),
            principal=self.credentials.get("client_id"),
        )

    def compute(self) -> Any:
        """Return a ComputeManagementClient of this subscription."""

        def make() -> Any:
            from azure.mgmt.compute import ComputeManagementClient

            return ComputeManagementClient(
                self._credential(),
                self.subscription_id,
                base_url=self.base_url,
                credential_scopes=[f"{ARM}/.default"],
                **self._transport(),
            )

        return self._once("compute", make)

    def get_json(self, url: str, *, action: str = "") -> dict[str, Any]:
        """GET a path or absolute URL of Azure Resource Manager and return its JSON object.

        Refuses addresses of any other host, since the bearer token travels with the request.
        """
        from azure.core.rest import HttpRequest

        if not url.startswith("/") and urlsplit(url)[:2] != urlsplit(self.base_url)[:2]:
            raise InvalidRequest("This operation was not ordered at this Azure address.", code="foreign_address")
        full = self.base_url.rstrip("/") + url if url.startswith("/") else url
        with azure_errors(action, self.secrets()):
            response = self._arm().send_request(HttpRequest("GET", full))
            response.raise_for_status()
            try:
                body = json.loads(response.text())
            except ValueError as error:
                raise BadAnswer(
                    "Azure gave an answer that is not Azure's: a web page or half a document.", detail=str(error)
                ) from None
        if not isinstance(body, dict):
            raise BadAnswer("Azure gave an answer without the expected fields.")
        return body

    def _check_tenant(self) -> None:
        """Raise AuthenticationFailed when the sign-in service says that it does not know the tenant."""
        from azure.core import PipelineClient
        from azure.core.rest import HttpRequest

        url = f"{self._authority()}/{self.credentials.get('tenant_id')}/v2.0/.well-known/openid-configuration"
        with (
            azure_errors("", self.secrets()),
            PipelineClient(self._authority(), policies=[], **self._transport()) as client,
        ):
            response = client.send_request(HttpRequest("GET", url))
            refused = from_sign_in(response.text()) if response.status_code >= 400 else None
        if refused is not None:
            raise refused

    def _authority(self) -> str:
        return self.credentials.endpoints.get("azure_authority") or AUTHORITY

    def _arm(self) -> Any:
        def make() -> Any:
            from azure.core.pipeline.policies import BearerTokenCredentialPolicy, RetryPolicy, UserAgentPolicy
            from azure.mgmt.core import ARMPipelineClient

            options = self._transport()
            policies = [
                UserAgentPolicy("curfew"),
                RetryPolicy(**_retries()),
                BearerTokenCredentialPolicy(self._credential(), f"{ARM}/.default"),
            ]
            return ARMPipelineClient(self.base_url, policies=policies, **options)

        return self._once("arm", make)

    def _credential(self) -> Any:
        def make() -> Any:
            from azure.identity import ClientSecretCredential

            tenant, client, secret = self.credentials.require("tenant_id", "client_id", "client_secret")
            authority = self._authority()
            return ClientSecretCredential(
                tenant,
                client,
                secret,
                authority=authority,
                disable_instance_discovery=authority != AUTHORITY,
                **self._transport(),
            )

        return self._once("credential", make)

    def _transport(self) -> dict[str, Any]:
        return {
            "connection_timeout": self.timeouts.connect,
            "read_timeout": self.timeouts.read,
            "connection_verify": self.credentials.endpoints.get("azure_ca") or True,
            **_retries(),
        }

    def _once(self, name: str, make: Any) -> Any:
        with self._lock:
            if name not in self._made:
                with azure_errors(name, self.secrets()):
                    self._made[name] = make()
            return self._made[name]

    def _check_values(self) -> None:
        if self.credentials.method != "service_principal":
            raise InvalidRequest("Azure subscriptions are connected by service principal.", code="unknown_method")
        tenant, client, _, subscription = self.credentials.require(
            "tenant_id", "client_id", "client_secret", "subscription_id"
        )
        if not _GUID.fullmatch(subscription):
            raise InvalidRequest(
                "An Azure subscription ID looks like 00000000-0000-0000-0000-000000000000.",
                code="bad_account_number",
                next_step="Copy the subscription ID from the Azure portal.",
            )
        if not _GUID.fullmatch(client):
            raise InvalidRequest(
                "An Azure client ID looks like 00000000-0000-0000-0000-000000000000.", code="bad_client_id"
            )
        if not (_GUID.fullmatch(tenant) or _TENANT_NAME.fullmatch(tenant)):
            raise InvalidRequest(
                "An Azure tenant is a GUID or a domain such as contoso.onmicrosoft.com.", code="bad_tenant"
            )


def _retries() -> dict[str, int]:
    """One more try when no connection came about; answers are judged by the caller, never slept on."""
    return {"retry_total": 1, "retry_connect": 1, "retry_read": 0, "retry_status": 0}
