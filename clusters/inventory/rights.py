"""What our identity may read in a cluster, asked of its API server beforehand (SelfSubjectAccessReview)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.wire.resources import METRICS_GROUP, RESOURCES
from clusters.providers.permissions import Right
from core.providers import PermissionDenied, Unreachable

if TYPE_CHECKING:
    from kubernetes.client import ApiClient


def cluster_rights(api: ApiClient, *, timeout: float = 15.0) -> list[Right]:
    """Every right that reading a cluster needs, judged by its API server (SelfSubjectAccessReview) for our identity.

    Raises PermissionDenied when the API server does not accept the identity at all, Unreachable when it does not answer.
    """
    rights = [_review(api, resource.group, resource.name, timeout) for resource in RESOURCES]
    rights += [_review(api, METRICS_GROUP, name, timeout) for name in ("nodes", "pods")]
    return rights


def _review(api: ApiClient, group: str, resource: str, timeout: float) -> Right:
    from kubernetes import client
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    attributes = client.V1ResourceAttributes(group=group, resource=resource, verb="list")
    body = client.V1SelfSubjectAccessReview(spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes))
    name = f"list {resource}{'.' + group if group else ''}"
    try:
        answer = client.AuthorizationV1Api(api).create_self_subject_access_review(body, _request_timeout=timeout)
    except ApiException as refused:
        if refused.status in (401, 403):
            raise PermissionDenied(
                "The API server does not accept this identity.",
                detail=f"{refused.status} {refused.reason}",
                next_step="Give the identity access to the cluster (an EKS access entry, or a role binding).",
            ) from None
        raise Unreachable(f"The API server answered {refused.status}.", detail=str(refused.reason)) from None
    except (HTTPError, OSError) as problem:
        raise Unreachable("The API server does not answer.", detail=f"{type(problem).__name__}: {problem}") from None
    status = answer.status
    return Right(name, "read the cluster", bool(status and status.allowed), str(getattr(status, "reason", "") or ""))
