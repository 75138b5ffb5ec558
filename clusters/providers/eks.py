"""EKS clusters of one AWS account: what there is in a region, how to reach one, and the token that its API server takes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from accounts.providers.aws import AwsConnection
from accounts.providers.aws_errors import aws_errors, need
from clusters.providers.kubeconfig import KubeAccess, check_server
from core.providers import Conflict

TOKEN_PREFIX = "k8s-aws-v1."  # noqa: S105 - how every such token begins
NAME_HEADER = "x-k8s-aws-id"
TOKEN_SECONDS = 60
READY = ("ACTIVE", "UPDATING")


@dataclass(frozen=True, slots=True)
class EksCluster:
    """One cluster as DescribeCluster tells it. `endpoint` and `ca` (PEM) are "" while it is being made."""

    name: str
    arn: str
    region: str
    version: str = ""
    status: str = ""
    endpoint: str = ""
    ca: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


class EksClusters:
    """Reads EKS through a connected account. Every method raises ProviderError."""

    def __init__(self, connection: AwsConnection) -> None:
        self.connection = connection

    def names(self, region: str) -> list[str]:
        """The names of a region's clusters."""
        with aws_errors("eks:ListClusters", self.connection.secrets()):
            pages = self._client(region).get_paginator("list_clusters").paginate()
            return [str(name) for page in pages for name in need(page, "clusters")]

    def describe(self, region: str, name: str) -> EksCluster:
        """One cluster; NotFound when it was deleted."""
        with aws_errors("eks:DescribeCluster", self.connection.secrets()):
            raw = need(self._client(region).describe_cluster(name=name), "cluster")
            return _cluster(raw, region)

    def access(self, region: str, name: str) -> KubeAccess:
        """Address and authority of a cluster's API server, without a token. Raises Conflict while it is not ready."""
        found = self.describe(region, name)
        if found.status not in READY or not found.endpoint or not found.ca:
            raise Conflict(
                f"The EKS cluster {name} is {found.status.lower() or 'not ready'} and has no API server to ask yet.",
                next_step="Wait until it is ready, then try again.",
            )
        return KubeAccess(server=check_server(found.endpoint), ca=found.ca)

    def token(self, region: str, name: str) -> str:
        """A bearer token for one cluster: a presigned STS request that names it in a signed header. Valid for some
        minutes, made without a call."""
        with aws_errors("sts:GetCallerIdentity", self.connection.secrets()):
            sts = self.connection.client("sts", region=region)
            sts.meta.events.register(
                "provide-client-params.sts.GetCallerIdentity", _take_name, unique_id="curfew-eks-name"
            )
            sts.meta.events.register("before-sign.sts.GetCallerIdentity", _sign_name, unique_id="curfew-eks-header")
            url = sts.generate_presigned_url(
                "get_caller_identity", Params={NAME_HEADER: name}, ExpiresIn=TOKEN_SECONDS, HttpMethod="GET"
            )
        return TOKEN_PREFIX + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")

    def _client(self, region: str) -> Any:
        return self.connection.client("eks", region=region)


def _take_name(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    if NAME_HEADER in params:
        context[NAME_HEADER] = params.pop(NAME_HEADER)


def _sign_name(request: Any, **_: Any) -> None:
    name = request.context.get(NAME_HEADER)
    if name:
        request.headers[NAME_HEADER] = name


def _cluster(raw: Mapping[str, Any], region: str) -> EksCluster:
    authority = str((raw.get("certificateAuthority") or {}).get("data") or "")
    try:
        ca = base64.b64decode(authority).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        ca = ""
    return EksCluster(
        name=str(need(raw, "name")),
        arn=str(need(raw, "arn")),
        region=region,
        version=str(raw.get("version") or ""),
        status=str(raw.get("status") or ""),
        endpoint=str(raw.get("endpoint") or ""),
        ca=ca if "-----BEGIN CERTIFICATE" in ca else "",
        tags={str(key): str(value) for key, value in (raw.get("tags") or {}).items()},
    )
