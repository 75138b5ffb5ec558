"""The sandbox's clusters report through the ordinary way in, as their agents would: now, and for their past."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta

from accounts.models import AgentToken
from clusters.enums import Method, State
from clusters.models import Cluster, Summary
from clusters.sandbox import reports as simulated
from clusters.sandbox.fleet import Fleet, fleet_named
from clusters.services import reports
from clusters.services.figuring import refigure
from clusters.services.heartbeats import record_heartbeat
from core import clock

log = logging.getLogger(__name__)
SESSION = "sandbox"
REPORT_EVERY = timedelta(minutes=1)


def _token(cluster: Cluster) -> AgentToken | None:
    rows = AgentToken.objects.for_org(cluster.organization_id)
    found: AgentToken | None = rows.filter(
        kind="cluster", resource_id=cluster.id, revoked_at=None, enrolment=False
    ).first()
    return found


def beat_sandbox() -> int:
    """A heartbeat of each simulated cluster that is not asleep, and a report where a minute has passed. Returns how
    many beat."""
    rows = Cluster.objects.all_orgs().filter(account__is_sandbox=True, method=Method.AGENT).exclude(state=State.ASLEEP)
    beats = 0
    for cluster in rows.exclude(external_id=""):
        fleet, token = fleet_named(cluster.external_id), _token(cluster)
        if fleet is None or token is None:
            continue
        now = clock.now()
        if cluster.reported_at is None or cluster.reported_at <= now - REPORT_EVERY:
            report(cluster=cluster, token=token, fleet=fleet, at=now, moments=[now], limits=_limits(cluster))
            cluster.refresh_from_db()
        body = simulated.heartbeat(
            fleet, now, session=SESSION, sequence=cluster.sequence, digest=cluster.digest, nodes=cluster.node_count
        )
        beats += record_heartbeat(token=token, body=body)[0] == 200
    return beats


def _limits(cluster: Cluster) -> dict[str, tuple[int, int]]:
    """Least and most machines of each group as the cloud says; a group scaled to nothing stays there."""
    rows = Summary.objects.for_org(cluster.organization_id).filter(cluster_id=cluster.id)
    groups = rows.values_list("cloud_groups", flat=True).first() or []
    return {
        group["name"]: (0, 0) if group["desired"] == 0 and group["high"] <= 1 else (group["low"], group["high"])
        for group in groups
    }


def report(
    *,
    cluster: Cluster,
    token: AgentToken,
    fleet: Fleet,
    at: datetime,
    moments: list[datetime],
    limits: Mapping[str, tuple[int, int]] | None = None,
    of: datetime | None = None,
) -> bool:
    """One full snapshot of the simulated cluster, as it was at `of` (now), with a usage sample of each of `moments`."""
    state = of or at
    tables = simulated.tables_at(fleet, state, simulated.scaled(fleet, state, limits or {}))
    samples = [simulated.usage_at(fleet, tables, moment, int(moment.timestamp()) // 60) for moment in moments]
    body = simulated.message(
        fleet, at, session=SESSION, sequence=int(at.timestamp()) // 60, tables=tables, usage=samples
    )
    status, answer = reports.ingest_snapshot(token=token, body=body)
    if status != 200:
        log.warning("sandbox_report_refused", extra={"cluster_id": str(cluster.id), "answer": str(answer)[:200]})
    return status == 200


def play_history(*, cluster: Cluster, start: datetime, end: datetime, step: timedelta = timedelta(hours=6)) -> int:
    """Let a simulated cluster have reported since `start`: its state at the beginning of each step, and at its end the
    same state with a usage sample an hour. The clock is moved, nothing else is special. Returns how many reports."""
    fleet, token = fleet_named(cluster.external_id), _token(cluster)
    if fleet is None or token is None:
        return 0
    done, at = 0, start
    while at < end:
        moments = [at + timedelta(minutes=59 + 60 * hour) for hour in range(int(step / timedelta(hours=1)))]
        with clock.at(at):
            done += report(cluster=cluster, token=token, fleet=fleet, at=at, moments=[])
            refigure(cluster_id=cluster.id)
        with clock.at(min(moments[-1], end)):
            seen = [moment for moment in moments if moment <= end]
            done += report(cluster=cluster, token=token, fleet=fleet, at=clock.now(), moments=seen, of=at)
        at += step
    return done
