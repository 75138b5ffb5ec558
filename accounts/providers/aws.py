"""AWS accounts: an assumed role with an external ID, or access keys."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from accounts.providers.aws_errors import aws_errors, need
from accounts.providers.base import Credentials, Identity, Timeouts
from core.providers import AuthenticationFailed, InvalidRequest, PermissionDenied, ProviderError

SESSION_NAME = "curfew"
SESSION_SECONDS = 3600
RENEW_BEFORE_SECONDS = 300
_ARN = re.compile(r"arn:(aws[a-z-]*):iam::([0-9]{12}):role/([\w+=,.@/-]{1,512})")


class AwsConnection:
    """One AWS account in one home region.

    Method `role` assumes `role_arn` with `external_id`, from `platform` keys or, without them,
    from the server's own AWS identity. Method `keys` uses the tenant's access keys and never the
    server's identity. Assumed sessions are renewed before they expire. Safe across threads.
    """

    def __init__(
        self, credentials: Credentials, *, platform: Mapping[str, str] | None = None, timeouts: Timeouts | None = None
    ) -> None:
        self.credentials = credentials
        self.timeouts = timeouts or Timeouts()
        self._platform = dict(platform or {})
        self._lock = threading.RLock()
        self._session: Any = None
        self._expires_at = float("inf")
        self._clients: dict[tuple[str, str], Any] = {}

    @property
    def region(self) -> str:
        """The home region of this connection."""
        return self.credentials.region.strip()

    def secrets(self) -> list[str]:
        """Return every value that must not appear in any text: the tenant's and the platform's."""
        return [*self.credentials.secrets(), *(v for k, v in self._platform.items() if k != "region" and v)]

    def verify(self) -> Identity:
        """Check format, region, keys or role, and that the role insists on the external ID.

        Raises InvalidRequest (malformed number, unknown region, role of another account),
        AuthenticationFailed (wrong keys, role not assumable, external ID not enforced), or a
        transport error.
        """
        self._check_values()
        with aws_errors("sts:GetCallerIdentity", self.secrets()):
            answer = self.client("sts").get_caller_identity()
            account, arn = str(need(answer, "Account")), str(need(answer, "Arn"))
        expected = self._expected_account()
        if expected and account != expected:
            raise InvalidRequest(
                f"These credentials belong to AWS account {account}, not to {expected}.",
                code="wrong_account",
                next_step="Connect with credentials of the account you named, or correct the number.",
            )
        if self.credentials.method == "role":
            self._refuse_open_role()
        return Identity(account_number=account, label=self._alias() or account, principal=arn)

    def client(self, service: str, *, region: str = "") -> Any:
        """Return a boto3 client with Curfew's timeouts and retries; cached while its session lasts."""
        where = region or self.region
        with self._lock:
            if self._session is None or time.time() > self._expires_at - RENEW_BEFORE_SECONDS:
                self._clients.clear()
                self._session = self._new_session()
            key = (service, where)
            if key not in self._clients:
                self._clients[key] = self._client(self._session, service, where)
            return self._clients[key]

    def _client(self, session: Any, service: str, region: str) -> Any:
        from botocore.config import Config

        config = Config(
            connect_timeout=self.timeouts.connect,
            read_timeout=self.timeouts.read,
            user_agent_extra="curfew",
            retries={"total_max_attempts": 2, "mode": "standard"},
            parameter_validation=True,
        )
        with aws_errors(service, self.secrets()):
            return session.client(
                service, region_name=region, endpoint_url=self.credentials.endpoints.get("aws") or None, config=config
            )

    def _new_session(self) -> Any:
        import boto3

        if self.credentials.method == "keys":
            key, secret = self.credentials.require("access_key_id", "secret_access_key")
            self._expires_at = float("inf")
            return boto3.Session(
                aws_access_key_id=key,
                aws_secret_access_key=secret,
                aws_session_token=self.credentials.get("session_token") or None,
                region_name=self.region,
            )
        keys = self._assume(external_id=self.credentials.require("external_id")[0])
        expires = need(keys, "Expiration")
        self._expires_at = expires.timestamp() if isinstance(expires, datetime) else time.time() + SESSION_SECONDS
        return boto3.Session(
            aws_access_key_id=need(keys, "AccessKeyId"),
            aws_secret_access_key=need(keys, "SecretAccessKey"),
            aws_session_token=need(keys, "SessionToken"),
            region_name=self.region,
        )

    def _platform_session(self) -> Any:
        import boto3

        if not self._platform:
            return boto3.Session(region_name=self.region)
        return boto3.Session(
            aws_access_key_id=self._platform.get("access_key_id"),
            aws_secret_access_key=self._platform.get("secret_access_key"),
            aws_session_token=self._platform.get("session_token") or None,
            region_name=self.region,
        )

    def _assume(self, *, external_id: str) -> Mapping[str, Any]:
        """Assume the role; with "" no external ID is sent at all."""
        (arn,) = self.credentials.require("role_arn")
        wanted: dict[str, Any] = {"RoleArn": arn, "RoleSessionName": SESSION_NAME, "DurationSeconds": SESSION_SECONDS}
        if external_id:
            wanted["ExternalId"] = external_id
        try:
            with aws_errors("sts:AssumeRole", self.secrets()):
                sts = self._client(self._platform_session(), "sts", self.region)
                answer = sts.assume_role(**wanted)
                keys: Mapping[str, Any] = need(answer, "Credentials")
        except PermissionDenied as error:
            raise AuthenticationFailed(
                "AWS does not let Curfew assume this role: it was deleted, does not trust Curfew, or expects another external ID.",
                code="role_not_assumable",
                detail=error.detail,
                next_step="Launch the CloudFormation stack again with the external ID shown here, and check the role ARN.",
            ) from None
        return keys

    def _refuse_open_role(self) -> None:
        """Refuse a role that can be assumed without the external ID: others could borrow us for it."""
        try:
            self._assume(external_id="")
        except AuthenticationFailed as error:
            if error.code == "role_not_assumable":
                return
            raise
        raise AuthenticationFailed(
            "The role can be assumed without the external ID, so it is not safe to use.",
            code="external_id_not_enforced",
            next_step="Add the condition StringEquals sts:ExternalId to its trust policy, or launch the CloudFormation stack.",
        )

    def _check_values(self) -> None:
        number = self.credentials.get("aws_account_id")
        if number and not re.fullmatch(r"[0-9]{12}", number):
            raise InvalidRequest(
                "An AWS account number has exactly 12 digits.",
                code="bad_account_number",
                next_step="Copy the account number from the top right corner of the AWS console.",
            )
        partition = partition_of(self.region)
        if self.credentials.method == "keys":
            self.credentials.require("access_key_id", "secret_access_key")
            return
        if self.credentials.method != "role":
            raise InvalidRequest("AWS accounts are connected by role or by keys.", code="unknown_method")
        arn, _ = self.credentials.require("role_arn", "external_id")
        match = _ARN.fullmatch(arn)
        if not match:
            raise InvalidRequest(
                "This is not the ARN of an IAM role.",
                code="bad_role_arn",
                next_step="It looks like arn:aws:iam::123456789012:role/CurfewAccess; copy it from the stack's outputs.",
            )
        if match[1] != partition:
            raise InvalidRequest(
                f"The role is in the AWS partition {match[1]}, the region in {partition}.", code="wrong_partition"
            )
        if number and match[2] != number:
            raise InvalidRequest(
                f"The role belongs to AWS account {match[2]}, not to {number}.",
                code="wrong_account",
                next_step="Use the role that the stack made in the account you named.",
            )

    def _expected_account(self) -> str:
        match = _ARN.fullmatch(self.credentials.get("role_arn")) if self.credentials.method == "role" else None
        return match[2] if match else self.credentials.get("aws_account_id")

    def _alias(self) -> str:
        """Return the account's alias; "" when there is none or it may not be read."""
        try:
            with aws_errors("iam:ListAccountAliases", self.secrets()):
                aliases = self.client("iam").list_account_aliases().get("AccountAliases", [])
                return str(aliases[0]) if aliases else ""
        except ProviderError:
            return ""


@lru_cache(maxsize=1)
def aws_partitions() -> Mapping[str, tuple[str, ...]]:
    """Return every AWS partition with its EC2 regions, from botocore's own list."""
    import botocore.session

    session = botocore.session.Session()
    return {
        p: tuple(session.get_available_regions("ec2", partition_name=p)) for p in session.get_available_partitions()
    }


def aws_regions() -> tuple[str, ...]:
    """Return the regions of the public partition, sorted."""
    return tuple(sorted(aws_partitions().get("aws", ())))


def partition_of(region: str) -> str:
    """Return the partition of a region; raises InvalidRequest when botocore knows no such region."""
    for partition, regions in aws_partitions().items():
        if region in regions:
            return partition
    raise InvalidRequest(
        f"AWS has no region called {region!r}." if region else "Choose an AWS region.",
        code="unknown_region",
        next_step="Choose a region from the list, for example us-east-1.",
    )


def utc(value: datetime | None) -> datetime | None:
    """Return an SDK's time as aware UTC."""
    if value is None:
        return None
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
