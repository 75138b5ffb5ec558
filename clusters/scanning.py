"""Operations that look: for the clusters of a cloud account, and for the permissions that a polled cluster needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from accounts import vault
from accounts.models import CloudAccount
from clusters.inventory.rights import cluster_rights
from clusters.models import Cluster
from clusters.providers.permissions import Right, cloud_rights, missing
from clusters.services import connecting, discovering, polling
from core import clock, discovery, encryption
from core.providers import ProviderError
from operations.registry import BaseExecutor, OperationFailed, RunContext


def _told(rights: Sequence[Right]) -> list[dict[str, Any]]:
    return [asdict(right) for right in rights]


class ClusterDiscover(BaseExecutor):
    """Looks through regions of an account. Reads only, so a kill in the middle is mended by looking again."""

    kind = discovering.DISCOVER
    label = "Look for clusters"
    permission = "clusters.manage"
    max_attempts = 3

    def run(self, context: RunContext) -> Mapping[str, Any]:
        """Result: `rights` (see Right), `missing`, `found`, `new`, `problems` in words, `regions`."""
        account = CloudAccount.objects.all_orgs().filter(id=context.operation.resource_id).first()
        if account is None:
            raise OperationFailed("The cloud account was disconnected.", code="account_gone")
        regions = [str(region) for region in context.operation.payload.get("regions", [])]
        connection: Any = vault.connection_of(account)
        context.progress(2, "Checking permissions", done=0, total=len(regions))
        rights = cloud_rights(connection)
        found = new = 0
        problems: list[str] = []
        for number, region in enumerate(regions):
            context.check_cancel()
            context.progress(5 + 90 * number // len(regions), f"Looking in {region}", done=number, total=len(regions))
            at = clock.now()
            seen, wrong = discovering.look(connection, region)
            new += discovering.remember(account=account, found=seen, regions=[] if wrong else [region], at=at)
            found += len(seen)
            problems += wrong
        return {
            "rights": _told(rights),
            "missing": missing(rights),
            "found": found,
            "new": new,
            "problems": problems[:50],
            "regions": regions,
        }


class ClusterPreflight(BaseExecutor):
    """Asks what our identity may do, then takes the first look. Reads only."""

    kind = connecting.PREFLIGHT
    label = "Check permissions"
    permission = "clusters.manage"
    max_attempts = 3

    def run(self, context: RunContext) -> Mapping[str, Any]:
        """Result: `cloud` and `cluster` rights (see Right), `missing`, `read`: whether the first look went well."""
        rows = Cluster.objects.all_orgs().select_related("account")
        cluster = rows.filter(id=context.operation.resource_id).first()
        if cluster is None:
            raise OperationFailed("The cluster was disconnected.", code="cluster_gone")
        cloud: list[Right] = []
        if cluster.account is not None and cluster.account.provider == "aws":
            context.progress(10, "Asking the cloud account")
            connection: Any = vault.connection_of(cluster.account)
            cloud = cloud_rights(connection)
        context.progress(40, "Asking the cluster")
        try:
            with polling.opened(cluster) as api:
                inside = cluster_rights(api)
        except ProviderError as refused:
            polling.note_failure(cluster, refused)
            raise
        except encryption.CannotDecrypt:
            raise OperationFailed("The stored credentials cannot be opened.", code="credentials_unreadable") from None
        context.progress(70, "Reading the cluster")
        read = polling.poll_cluster(cluster_id=cluster.id)
        rights = [*cloud, *inside]
        return {"cloud": _told(cloud), "cluster": _told(inside), "missing": missing(rights), "read": read}


CLUSTERS = discovery.Discoverer("clusters", frozenset({"aws"}), discovering.discover)
