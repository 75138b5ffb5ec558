"""What goes into the answer to a heartbeat, and what is taken from the heartbeat itself."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction

from accounts.models import AgentToken
from clusters.inventory import placement
from clusters.inventory.ingest import Beat
from clusters.models import Cluster
from clusters.orders import keys
from clusters.orders.models import AgentOrder, AgentRules
from clusters.packed import pack, unpack
from core import clock

FIGURES_EVERY = timedelta(seconds=60)
MISSED = timedelta(minutes=5)
CONTEXT = b"curfew-order-v1\n"
# Shorter than the lease of an operation (60 s): what a killed worker asked for is not delivered to its successor's harm.
LIFE = timedelta(seconds=30)
# How long an agent listens closely after an order: longer than a waiting operation pauses (5 s).
ATTENTIVE = timedelta(seconds=8)
KEPT = timedelta(hours=1)
LARGEST_ANSWER = 256 * 1024 * 1024
BUSY_INTERVAL = 1
MOST_AT_ONCE = 5


def ask(cluster: Cluster, calls: list[dict[str, Any]]) -> UUID:
    """Let an order wait for the agent's next heartbeat, and have it listen closely; returns the order's id."""
    now = clock.now()
    rows = AgentOrder.objects.for_org(cluster.organization_id)
    row = AgentOrder(
        organization_id=cluster.organization_id,
        cluster_id=cluster.id,
        calls=pack(calls),
        issued_at=now,
        expires_at=now + LIFE,
    )
    with transaction.atomic():
        rows.filter(cluster_id=cluster.id, expires_at__lt=now - KEPT).delete()
        row.save(force_insert=True)
        Cluster.objects.for_org(cluster.organization_id).filter(id=cluster.id).update(orders_wanted_at=now)
    return row.id


def answer_of(cluster: Cluster, order: UUID) -> AgentOrder | None:
    """The order as it stands; None when it is gone, with its cluster."""
    rows = AgentOrder.objects.for_org(cluster.organization_id).filter(id=order)
    found: AgentOrder | None = rows.defer("calls").first()
    return found


def withdraw(cluster: Cluster, order: UUID) -> None:
    """Nobody waits for it any more: it is not delivered from now on."""
    AgentOrder.objects.for_org(cluster.organization_id).filter(id=order, answered_at=None).update(
        expires_at=clock.now()
    )


def take_answer(*, token: AgentToken, order_id: UUID, body: bytes, gzip: bool) -> tuple[int, dict[str, Any]]:
    """What the agent did about a batch: status and body of the answer. The first answer counts."""
    if token.kind != "cluster" or token.resource_id is None:
        return 404, {"code": "not_found", "detail": "There is no such order."}
    rows = AgentOrder.objects.for_org(token.organization_id).filter(id=order_id, cluster_id=token.resource_id)
    try:
        answer = json.loads(inflated(body, LARGEST_ANSWER) if gzip else body)
        assert isinstance(answer, dict)
        assert isinstance(answer.get("results"), list)
    except (ValueError, AssertionError, RecursionError):
        return 400, {"code": "malformed", "detail": "The answer is not an object with results."}
    done = rows.filter(answered_at=None).update(
        answered_at=clock.now(), status="done", answer=pack({"results": answer["results"]})
    )
    if not done and not rows.exists():
        return 404, {"code": "not_found", "detail": "There is no such order."}
    return 200, {"accepted": bool(done)}


def take_results(cluster: Cluster, results: Sequence[Mapping[str, str]]) -> None:
    """Orders that the agent refused or could not carry out, as its heartbeat says."""
    for one in results:
        try:
            order = UUID(one.get("id", ""))
        except ValueError:
            continue
        AgentOrder.objects.for_org(cluster.organization_id).filter(
            id=order, cluster_id=cluster.id, answered_at=None
        ).update(answered_at=clock.now(), status=one.get("status", "")[:10], detail=one.get("detail", "")[:300])


def set_rules(*, organization_id: UUID, cluster_id: UUID, rules: placement.Rules) -> int:
    """Let a cluster's agent keep these rules (their version is given here); returns the version. The same rules again
    change nothing."""
    with transaction.atomic():
        row = Cluster.objects.for_org(organization_id).select_for_update(of=("self",)).get(id=cluster_id)
        wanted = {**rules.wire(), "version": 0}
        known = AgentRules.objects.for_org(organization_id).filter(cluster_id=cluster_id).first()
        if known is not None and known.rules == wanted:
            return int(known.version)
        version = row.rules_version + 1
        AgentRules.objects.for_org(organization_id).update_or_create(
            cluster_id=cluster_id,
            defaults={
                "organization_id": organization_id,
                "version": version,
                "rules": wanted,
                "set_at": clock.now(),
            },
        )
        Cluster.objects.for_org(organization_id).filter(id=cluster_id).update(rules_version=version)
    return int(version)


def outgoing(cluster: Cluster, beat: Beat) -> dict[str, Any]:
    """What the answer to this heartbeat adds: newer rules. {} nearly always, without a query."""
    added: dict[str, Any] = {}
    told = beat.raw.get("placement")
    version = told.get("version", 0) if isinstance(told, dict) and told else cluster.rules_version
    if version != cluster.rules_version and cluster.uid:
        rules = AgentRules.objects.for_org(cluster.organization_id).filter(cluster_id=cluster.id).first()
        if rules is not None:
            body = {"cluster": cluster.uid, "rules": {**rules.rules, "version": rules.version}}
            added["placement"] = keys.signed(cluster, placement.CONTEXT, body)
    if cluster.orders_wanted_at is not None:
        added |= _orders_for(cluster, deliver=bool(beat.cluster_uid))
    return added


def _orders_for(cluster: Cluster, *, deliver: bool) -> dict[str, Any]:
    """Orders that wait, oldest first, and a closer rhythm while somebody waits. An agent that has just begun and does
    not know its cluster yet would refuse them, for good: for that one they wait."""
    now = clock.now()
    assert cluster.orders_wanted_at is not None
    if now - cluster.orders_wanted_at > ATTENTIVE:
        Cluster.objects.for_org(cluster.organization_id).filter(
            id=cluster.id, orders_wanted_at=cluster.orders_wanted_at
        ).update(orders_wanted_at=None)
        return {}
    if not deliver:
        return {"closer": BUSY_INTERVAL}
    waiting = AgentOrder.objects.for_org(cluster.organization_id).filter(
        cluster_id=cluster.id, answered_at=None, expires_at__gt=now
    )
    orders = []
    for row in waiting.order_by("issued_at", "id")[:MOST_AT_ONCE]:
        body = {
            "id": str(row.id),
            "cluster": cluster.uid,
            "verb": "calls",
            "target": {"kind": "Cluster", "name": cluster.name},
            "args": {"calls": unpack(row.calls)},
            "issued_at": row.issued_at.isoformat(),
            "expires_at": row.expires_at.isoformat(),
        }
        orders.append({"id": str(row.id), **keys.signed(cluster, CONTEXT, body)})
    return {"orders": orders, "closer": BUSY_INTERVAL}


def abilities(cluster: Cluster, beat: Beat, now: datetime) -> dict[str, Any] | None:
    """What the agent can do, as its row should say; None while that is as it was (figures once a minute)."""
    orders, webhook = _orders(beat.raw.get("orders")), _webhook(beat.raw.get("placement"))
    known = cluster.agent_can or {}
    blind = not webhook or (webhook["problem"] and not webhook["replicas"])
    if blind and known.get("webhook") and _age(known, now) < MISSED:
        webhook = known["webhook"]  # an agent that has just begun, or cannot look now, does not know better
        now = datetime.fromisoformat(str(known["at"]))
    same = (known.get("orders"), _standing(known.get("webhook"))) == (orders, _standing(webhook))
    if same and (not webhook or _age(known, now) < FIGURES_EVERY):
        return None
    return {"orders": orders, "webhook": webhook, "at": now.isoformat()} if orders or webhook or known else None


def _age(known: Mapping[str, Any], now: datetime) -> timedelta:
    try:
        return now - datetime.fromisoformat(str(known["at"]))
    except (KeyError, ValueError, TypeError):
        return timedelta.max


def _orders(raw: object) -> dict[str, Any]:
    if not isinstance(raw, dict) or raw.get("allowed") is not True:
        return {}
    verbs = raw.get("verbs")
    return {"verbs": sorted(str(v)[:40] for v in verbs[:40]) if isinstance(verbs, list) else []}


def _webhook(raw: object) -> dict[str, Any]:
    if not isinstance(raw, dict) or not isinstance(raw.get("version"), int):
        return {}
    replicas, softened = raw.get("replicas"), raw.get("softened")
    return {
        "version": raw["version"],
        "problem": str(raw.get("problem") or "")[:200],
        "replicas": [_replica(one) for one in replicas[:20] if isinstance(one, dict)]
        if isinstance(replicas, list)
        else [],
        "softened": {str(k)[:300]: str(v)[:40] for k, v in list(softened.items())[:100]}
        if isinstance(softened, dict)
        else {},
    }


def _replica(raw: Mapping[str, Any]) -> dict[str, Any]:
    counts = raw.get("counts")
    found: dict[str, Any] = {
        "pod": str(raw.get("pod") or "")[:253],
        "at": str(raw.get("at") or "")[:40],
        "problem": str(raw.get("problem") or "")[:200],
        "certificate_until": str(raw.get("certificate_until") or "")[:40],
        "counts": {str(k)[:40]: v for k, v in list(counts.items())[:20] if isinstance(v, int)}
        if isinstance(counts, dict)
        else {},
    }
    for name in ("version", "p50_ms", "p99_ms"):
        if isinstance(raw.get(name), int | float):
            found[name] = raw[name]
    return found


def _standing(webhook: object) -> Any:
    """What of a webhook's report is worth a write at once."""
    if not isinstance(webhook, dict) or not webhook:
        return None
    pods = [(one.get("pod"), one.get("version")) for one in webhook.get("replicas", [])]
    return webhook.get("version"), webhook.get("problem"), pods, sorted(webhook.get("softened", {}))


def inflated(body: bytes, most: int) -> bytes:
    """The text of a gzip body. Raises ValueError when it is none or too long."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        text = unpacker.decompress(body, most)
    except zlib.error as bad:
        raise ValueError(str(bad)) from None
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise ValueError("cut off, or too long")
    return text
