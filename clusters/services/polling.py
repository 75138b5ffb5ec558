"""Clusters without an agent: their API server is read with the sealed credentials, on the same way into the tables."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from django.db.models import Q

from accounts import vault
from clusters.enums import Method, State
from clusters.inventory import ingest
from clusters.inventory.poll import Polled, PollFailed, poll
from clusters.models import Cluster
from clusters.providers import api_client, kubeconfig
from clusters.providers.eks import EksClusters
from clusters.services import reports
from clusters.services.heartbeats import REPORTING, refuse_other
from clusters.services.moves import WATCHER, move
from core import clock, encryption
from core.actor import Actor
from core.providers import InvalidRequest, ProviderError
from core.tasks import send_on_commit

log = logging.getLogger(__name__)
EVERY = timedelta(seconds=60)
LONGEST_PAUSE = timedelta(minutes=30)


def poll_due() -> int:
    """Claim polled clusters that are due and hand each to a worker; returns how many."""
    now = clock.now()
    rows = Cluster.objects.all_orgs().exclude(method=Method.AGENT).exclude(state=State.ASLEEP)
    claimed = 0
    for cluster in rows.filter(Q(polled_at=None) | Q(polled_at__lt=now - EVERY)).only(
        "id", "organization_id", "polled_at", "poll_failures"
    )[:500]:
        pause = min(LONGEST_PAUSE, EVERY * 2 ** min(cluster.poll_failures, 8))
        if cluster.polled_at is not None and cluster.polled_at > now - pause:
            continue
        mine = Cluster.objects.for_org(cluster.organization_id).filter(id=cluster.id, polled_at=cluster.polled_at)
        if mine.update(polled_at=now):
            claimed += 1
            send_on_commit("clusters.poll_one", cluster_id=str(cluster.id))
    return claimed


def poll_cluster(*, cluster_id: UUID) -> bool:
    """Read one cluster and store what it says; False when it could not be read (the cause is on the cluster)."""
    rows = Cluster.objects.all_orgs().exclude(method=Method.AGENT).select_related("account")
    cluster = rows.filter(id=cluster_id).first()
    if cluster is None:
        return False
    try:
        with opened(cluster) as api:
            found = poll(api, name=cluster.name)
    except (PollFailed, ProviderError, encryption.CannotDecrypt) as failure:
        note_failure(cluster, failure)
        return False
    return _take(cluster, found)


@contextmanager
def opened(cluster: Cluster) -> Iterator[Any]:
    """A Kubernetes client for the cluster; certificates stand in a private folder while it is open."""
    access = access_of(cluster)
    judged = kubeconfig.refuse_resolved(access.server)
    with (
        tempfile.TemporaryDirectory(prefix="curfew-kube-") as folder,
        api_client.client(access, Path(folder), judged) as api,
    ):
        yield api


def access_of(cluster: Cluster) -> kubeconfig.KubeAccess:
    """Address, authority and credentials. Of an EKS cluster the token is made anew each time, and its address and
    authority are asked of AWS at first and whenever the last look failed. Raises ProviderError, CannotDecrypt."""
    known: dict[str, str] = {}
    if cluster.credentials:
        known = encryption.unseal(cluster.credentials, bound_to=cluster.seal_name)
    if cluster.method != Method.EKS:
        return kubeconfig.KubeAccess(**known)
    if cluster.account is None:
        raise InvalidRequest(
            "The cloud account that it was read through is disconnected.",
            code="account_gone",
            next_step="Connect the account again, then the cluster, or install the agent.",
        )
    region, name = place_of(cluster.external_id)
    connection: Any = vault.connection_of(cluster.account)
    eks = EksClusters(connection)
    if known and not cluster.poll_failures:
        access = kubeconfig.KubeAccess(**known)
    else:
        access = eks.access(region, name)
        Cluster.objects.for_org(cluster.organization_id).filter(id=cluster.id).update(
            credentials=encryption.seal(access.values(), bound_to=cluster.seal_name), server=access.server[:300]
        )
    return replace(access, token=eks.token(region, name))


def place_of(arn: str) -> tuple[str, str]:
    """Region and name of `arn:aws:eks:eu-west-1:111122223333:cluster/lark`."""
    parts = arn.split(":", 5)
    return (parts[3], parts[5].partition("/")[2]) if len(parts) == 6 else ("", "")


def _take(cluster: Cluster, found: Polled) -> bool:
    now = clock.now()
    typed = found.snapshot()
    told = typed.cluster
    refused = refuse_other(cluster, told.uid)
    if refused:
        note_failure(cluster, PollFailed("error", str(refused[1]["detail"])))
        return False
    message = ingest.Message(
        kind=ingest.FULL,
        session=uuid4().hex,
        sequence=1,
        digest=ingest.State.of(found.records).digest,
        at=now,
        cluster=told,
        sources=typed.sources,
        records=found.records,
        samples=(replace(found.sample, number=1),) if found.sample else (),
    )
    prepared = reports.prepare(cluster, message, now)
    done = prepared is not None and reports.store(cluster, message, prepared, now)
    if done:
        Cluster.objects.for_org(cluster.organization_id).filter(id=cluster.id).update(poll_failures=0)
    return done


def note_failure(cluster: Cluster, failure: Exception) -> None:
    """A look failed: the cluster shows the cause, and the pause before the next one grows."""
    words = getattr(failure, "message", "") or getattr(failure, "detail", "") or str(failure)
    log.warning("cluster_poll_failed", extra={"cluster_id": str(cluster.id), "reason": words[:200]})
    actor = Actor.system(WATCHER, cluster.organization_id)
    lost = getattr(failure, "transient", False) and cluster.reported_at is not None
    move(
        actor=actor,
        cluster=cluster,
        to=State.LOST if lost else State.ERROR,
        at=clock.now(),
        cause=f"Its API server could not be read: {words[:400]}",
        allowed=REPORTING,
        poll_failures=cluster.poll_failures + 1,
    )
