"""Changes of a cluster's state, each by a conditional update, with its audit line, its alert and its live update."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.urls import reverse

from audit import services as audit
from clusters.enums import Severity, State
from clusters.models import Alert, Cluster
from core import hooks
from core.actor import Actor
from core.live import publish

TOPIC = "clusters"
WATCHER = "cluster_watcher"
_VERBS = {State.LIVE: "cluster.live", State.LOST: "cluster.lost", State.ERROR: "cluster.error"}


def move(
    *, actor: Actor, cluster: Cluster, to: str, at: datetime, cause: str = "", allowed: Collection[str], **fields: Any
) -> bool:
    """Bring the cluster into a state unless it is in none of `allowed` any more. False when nothing was changed.

    A mere change of cause is written too, but only a change of state is audited.
    """
    with transaction.atomic():
        rows = Cluster.objects.for_org(cluster.organization_id).filter(id=cluster.id, state__in=list(allowed))
        before = rows.select_for_update().values_list("state", flat=True).first()
        if before is None:
            return False
        since = {"state_since": at} if before != to else {}
        rows.update(state=to, cause=cause[:500], **since, **fields)
        if before != to:
            _tell(actor, cluster, before, to, cause, at)
        publish(cluster.organization_id, TOPIC, [cluster.id])
    cluster.state, cluster.cause = to, cause[:500]
    return True


def _tell(actor: Actor, cluster: Cluster, before: str, to: str, cause: str, at: datetime) -> None:
    verb = _VERBS.get(State(to))
    if verb:
        audit.record(
            actor=actor,
            verb=verb,
            target=cluster,
            organization_id=cluster.organization_id,
            changes={"state": [before, to]},
            detail=cause,
        )
    if to == State.LOST:
        raise_alert(cluster, "lost", "", Severity.CRITICAL, f"{cluster.name} was lost", cause, at)
    elif to == State.ERROR:
        raise_alert(cluster, "unreadable", "", Severity.CRITICAL, f"{cluster.name} cannot be read", cause, at)
    if to != State.LOST:
        end_alerts(cluster, ["lost"], at)
    if to != State.ERROR:
        end_alerts(cluster, ["unreadable"], at)


def raise_alert(
    cluster: Cluster, kind: str, subject: str, severity: str, title: str, detail: str, at: datetime
) -> None:
    """Open an alert, or bring the words of the open one of that kind and subject up to date."""
    _, is_new = Alert.objects.for_org(cluster.organization_id).update_or_create(
        cluster_id=cluster.id,
        kind=kind,
        subject=subject[:200],
        ended_at=None,
        defaults={"severity": severity, "title": title[:200], "detail": detail[:1000]},
        create_defaults={
            "organization_id": cluster.organization_id,
            "severity": severity,
            "title": title[:200],
            "detail": detail[:1000],
            "since": at,
        },
    )
    if is_new:
        hooks.notice.emit(
            event="cluster.alert",
            subject=f"{cluster.name}: {title}",
            body=detail,
            url=settings.CURFEW_BASE_URL + reverse("clusters:detail", args=[cluster.id]),
            organization_id=cluster.organization_id,
        )


def end_alerts(cluster: Cluster, kinds: Collection[str], at: datetime, keep: Collection[UUID] = ()) -> None:
    """Close the open alerts of these kinds, except some."""
    rows = Alert.objects.for_org(cluster.organization_id).filter(
        cluster_id=cluster.id, kind__in=list(kinds), ended_at=None
    )
    rows.exclude(id__in=list(keep)).update(ended_at=at)
