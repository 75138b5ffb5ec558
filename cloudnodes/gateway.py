"""The way to an account's provider: opens the sealed credentials, and keeps the connection while they stay the same.

Tests replace `open_provider`.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import OrderedDict
from uuid import UUID

from accounts import vault
from accounts.models import CloudAccount
from accounts.providers.base import Connection, Credentials
from cloudnodes.models import CloudNode
from cloudnodes.providers.base import NodeProvider
from cloudnodes.providers.registry import provider_for

KEEP_SECONDS = 600.0
KEEP_MOST = 200


class _Connections:
    """Connections of this process by account and credentials: SDK clients are costly to make and safe to share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[UUID, str], tuple[float, Connection]] = OrderedDict()

    def get(self, account: CloudAccount) -> Connection:
        credentials = vault.credentials_of(account)
        key = (account.id, _stamp(credentials))
        with self._lock:
            kept = self._kept.get(key)
            if kept and time.monotonic() - kept[0] < KEEP_SECONDS:
                return kept[1]
        connection = vault.connect_with(credentials, is_sandbox=account.is_sandbox)
        with self._lock:
            self._kept[key] = (time.monotonic(), connection)
            while len(self._kept) > KEEP_MOST:
                self._kept.popitem(last=False)
        return connection


def _stamp(credentials: Credentials) -> str:
    """A fingerprint of everything a connection depends on; the values themselves are not kept."""
    told = [
        credentials.provider,
        credentials.method,
        credentials.region,
        dict(credentials.values),
        dict(credentials.endpoints),
    ]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


_connections = _Connections()


def open_provider(account: CloudAccount, region: str = "") -> NodeProvider:
    """The node provider of an account (in a region, where the provider has regions); contacts no real cloud by itself.

    Raises a ProviderError when the credentials cannot be opened or the account has no cloud nodes.
    """
    return provider_for(_connections.get(account), region=region)


def provider_of(node: CloudNode) -> NodeProvider:
    """The provider that this node is started, stopped and described with."""
    return open_provider(node.account, node.region if node.provider == "aws" else "")
