"""What a scan of a cloud account looks for: instances that carry a node type."""

from __future__ import annotations

from collections.abc import Mapping

from accounts.models import CloudAccount
from accounts.providers.base import Connection
from cloudnodes import services
from cloudnodes.models import CloudNode
from cloudnodes.providers.registry import NODE_PROVIDERS, provider_for
from core import clock, discovery


def discover(account: CloudAccount, connection: Connection) -> Mapping[str, int]:
    """Look through every region of the account, commit what was found, and ask for known nodes that were not.

    Returns `{"cloud_nodes": found, "new_cloud_nodes": new}`.
    """
    total = {"cloud_nodes": 0, "new_cloud_nodes": 0}
    seen: set[str] = set()
    for region in regions_of(account):
        at = clock.now()
        instances = provider_for(connection, region=region).discover()
        seen.update(instance.provider_id for instance in instances)
        for name, count in services.sync_discovered(account=account, instances=instances, at=at).items():
            total[name] += count
    _ask_for_missing(account, connection, seen)
    return total


def regions_of(account: CloudAccount) -> list[str]:
    """The account's own region and those that were added in its settings; [""] where a provider has none."""
    if account.provider != "aws":
        return [""]
    more = account.settings.get("regions", []) if isinstance(account.settings, dict) else []
    return list(dict.fromkeys([account.region, *(str(r) for r in more)]))


def _ask_for_missing(account: CloudAccount, connection: Connection, seen: set[str]) -> None:
    rows = CloudNode.objects.for_org(account.organization_id).filter(account=account, gone_at=None)
    missing = [node for node in rows.select_related("node_type") if node.provider_id not in seen]
    for region in {node.region if node.provider == "aws" else "" for node in missing}:
        nodes = [n for n in missing if n.provider != "aws" or n.region == region]
        at = clock.now()
        found = provider_for(connection, region=region).describe([n.provider_id for n in nodes])
        services.observe_many(nodes=nodes, found=found, at=at)


NODES = discovery.Discoverer("cloud nodes", frozenset(NODE_PROVIDERS), discover)
