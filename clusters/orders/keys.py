"""A cluster's signing key: made when it is first wanted, sealed at rest, never leaves the platform."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from django.db import transaction

from clusters.models import Cluster
from clusters.orders.models import AgentKey
from core import clock, encryption


def public_key(cluster: Cluster) -> str:
    """What the agent of this cluster is installed with, base64. Makes the key when there is none."""
    return _key(cluster).public


def _key(cluster: Cluster) -> AgentKey:
    rows = AgentKey.objects.for_org(cluster.organization_id)
    found: AgentKey | None = rows.filter(cluster_id=cluster.id).first()
    if found is not None:
        return found
    made = Ed25519PrivateKey.generate()
    seed = made.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    row = AgentKey(organization_id=cluster.organization_id, cluster_id=cluster.id, created_at=clock.now())
    row.public = base64.b64encode(made.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
    row.sealed = encryption.seal({"seed": base64.b64encode(seed).decode()}, bound_to=row.seal_name)
    with transaction.atomic():
        # Of two that make one at the same moment, the first counts.
        rows.bulk_create([row], ignore_conflicts=True)
    first: AgentKey = rows.get(cluster_id=cluster.id)
    return first


def signed(cluster: Cluster, context: bytes, body: Mapping[str, Any]) -> dict[str, str]:
    """An envelope {payload, signature} of the body. Raises CannotDecrypt."""
    key = _key(cluster)
    seed = base64.b64decode(encryption.unseal(key.sealed, bound_to=key.seal_name)["seed"])
    payload = json.dumps(dict(body), separators=(",", ":")).encode()
    signature = Ed25519PrivateKey.from_private_bytes(seed).sign(context + payload)
    return {"payload": base64.b64encode(payload).decode(), "signature": base64.b64encode(signature).decode()}
