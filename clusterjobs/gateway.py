"""The way to a cluster's API server for Jobs; tests replace `open_jobs`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clusterjobs.providers.kube import HttpJobs, JobsApi
from clusters.models import Cluster
from clusters.services import polling
from clusters.sleeping.gateway import reaches
from core.encryption import CannotDecrypt
from core.providers import AuthenticationFailed, InvalidRequest

__all__ = ["open_jobs", "reaches"]


@contextmanager
def open_jobs(cluster: Cluster) -> Iterator[JobsApi]:
    """The cluster's API server. Raises ProviderError."""
    if not reaches(cluster):
        raise InvalidRequest(
            "Curfew has no way to this cluster's API server.",
            code="no_access",
            next_step="Connect it with a kubeconfig or through its EKS account.",
        )
    try:
        with polling.opened(cluster) as api:
            yield HttpJobs(api)
    except CannotDecrypt:
        raise AuthenticationFailed("The cluster's credentials cannot be opened with this server's keys.") from None
