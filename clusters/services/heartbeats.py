"""Signs of life: what an agent's heartbeat changes, and what silence means."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from accounts.models import AgentToken
from clusters import pace
from clusters.enums import Method, State
from clusters.inventory import ingest
from clusters.models import Cluster
from clusters.orders import delivery
from clusters.services import history
from clusters.services.moves import WATCHER, move
from core import clock
from core.actor import Actor
from core.live import publish

log = logging.getLogger(__name__)
Answer = tuple[int, dict[str, Any]]
REPORTING = (State.CONNECTING, State.LIVE, State.LOST, State.ERROR)
# What a heartbeat or a report reads of a cluster's row; the figures stay in the database.
HELD_FIELDS = (
    "id",
    "organization_id",
    "name",
    "uid",
    "method",
    "state",
    "cause",
    "agent_version",
    "api_ms",
    "session",
    "sequence",
    "digest",
    "digest_total",
    "last_sample",
    "former_sessions",
    "report_heard_at",
    "reported_at",
    "sync_wanted_at",
    "agent_can",
    "rules_version",
    "orders_wanted_at",
    "enrolment_id",
    "node_count",
)


def cluster_of(token: AgentToken) -> Cluster | None:
    """The cluster that a token reports for, with what reports need of it."""
    if token.kind != "cluster" or token.resource_id is None:
        return None
    rows = Cluster.objects.for_org(token.organization_id).filter(id=token.resource_id)
    found: Cluster | None = rows.only(*HELD_FIELDS).first()
    return found


def held_of(cluster: Cluster) -> ingest.Held:
    """Where the cluster's report stands."""
    return ingest.Held(
        session=cluster.session,
        sequence=cluster.sequence,
        digest=cluster.digest,
        sample=cluster.last_sample,
        former=tuple(cluster.former_sessions),
        heard_at=cluster.report_heard_at,
    )


def record_heartbeat(*, token: AgentToken, body: bytes) -> Answer:
    """Note a sign of life and answer it: status and body. Two queries when nothing has changed.

    A standby agent's heartbeat is answered but changes nothing. An agent of another cluster is refused (403).
    """
    cluster = cluster_of(token)
    if cluster is None:
        return 404, {"code": "not_found", "detail": "The cluster of this token was disconnected."}
    try:
        beat = ingest.read_heartbeat(body)
    except ingest.BadMessage as bad:
        note_unreadable(cluster, bad)
        return ingest.refusal(bad)
    refused = refuse_other(cluster, beat.cluster_uid)
    if refused:
        return refused
    now = clock.now()
    held = held_of(cluster)
    told = pace.intervals()
    wanted = cluster.sync_wanted_at is not None
    reply = ingest.heartbeat_reply(held, beat, now, pace.lost_after(), intervals=told, sync_now=wanted, orders=[])
    if reply["standby"]:
        return 200, reply
    if beat.order_results:
        delivery.take_results(cluster, beat.order_results)
    added = delivery.outgoing(cluster, beat)
    if "closer" in added:
        reply["intervals"] = {**told, "heartbeat": added.pop("closer")}
    reply |= added
    if beat.raw.get("usage_until") == "wanted":  # once, after the start of an agent with a Prometheus
        reply["usage_until"] = history.usage_until(cluster)
    state, cause = judge(beat)
    fields = _fields(cluster, held, beat, now)
    if cluster.state == State.ASLEEP:
        state, cause = State.ASLEEP, cluster.cause
    quiet = (cluster.state, cluster.cause) == (state, cause)
    rows = Cluster.objects.for_org(cluster.organization_id).filter(id=cluster.id, state=cluster.state)
    if not (quiet and rows.update(**fields)):
        actor = Actor.system(WATCHER, cluster.organization_id)
        move(actor=actor, cluster=cluster, to=state, at=now, cause=cause, allowed=REPORTING, **fields)
    return 200, reply


def refuse_other(cluster: Cluster, uid: str) -> Answer | None:
    """The answer to an agent that runs in another cluster than the one its token is for; learns the uid at first."""
    if not uid or cluster.uid == uid:
        return None
    if not cluster.uid:
        try:
            with transaction.atomic():
                Cluster.objects.for_org(cluster.organization_id).filter(id=cluster.id, uid="").update(uid=uid)
        except IntegrityError:
            other = Cluster.objects.for_org(cluster.organization_id).filter(uid=uid).first()
            name = other.name if other else "another name"
            return _other(f"This cluster is connected already, as {name}. Disconnect one of the two.")
        cluster.uid = uid
        return None
    return _other(f"This token belongs to {cluster.name}, which is another cluster.")


def _other(detail: str) -> Answer:
    return 403, {"code": "other_cluster", "detail": detail}


def judge(beat: ingest.Beat) -> tuple[str, str]:
    """State and cause that a heartbeat speaks for: live, or an error whose cause it names."""
    server = beat.raw.get("api_server")
    if isinstance(server, dict) and server.get("problem"):
        return State.ERROR, f"The agent cannot read the API server: {str(server['problem'])[:300]}"
    nodes = beat.sources.get("nodes")
    if nodes is not None and nodes.state in ("unauthorized", "forbidden", "error"):
        what = "The API server fails to list nodes" if nodes.state == "error" else "The agent may not list nodes"
        return State.ERROR, f"{what}: {nodes.detail[:300]}"
    delivery = beat.raw.get("delivery")
    problem = str(delivery.get("problem") or "")[:300] if isinstance(delivery, dict) else ""
    words = missing_words({name: (source.state, source.detail) for name, source in beat.sources.items()})
    if problem:
        words = f"Its last report did not arrive: {problem}. {words}".strip()
    return State.LIVE, words


def note_unreadable(cluster: Cluster, bad: ingest.BadMessage) -> None:
    """The agent speaks, but not as we do: the cluster says so instead of being taken for lost. Noise changes nothing."""
    if bad.code != "unsupported_format" or cluster.state == State.ASLEEP:
        return
    cause = (
        "Its agent speaks a newer format than this server reads: update Curfew, or install the agent that it serves."
    )
    now = clock.now()
    actor = Actor.system(WATCHER, cluster.organization_id)
    move(actor=actor, cluster=cluster, to=State.ERROR, at=now, cause=cause, allowed=REPORTING, heard_at=now)


def missing_words(sources: Mapping[str, tuple[str, str]]) -> str:
    """What of a live cluster cannot be read, in a sentence or two, from state and detail by source; "" when all can."""
    refused = sorted(name for name, (state, _) in sources.items() if state in ("forbidden", "unauthorized"))
    failing = sorted(
        name for name, (state, _) in sources.items() if state == "error" and name not in ("metrics", "prometheus")
    )
    words = f"Not allowed to read: {', '.join(refused)}. " if refused else ""
    if failing:
        words += f"Old, for the API server fails to list them: {', '.join(failing)} ({sources[failing[0]][1][:160]})."
    return words.strip()


def _fields(cluster: Cluster, held: ingest.Held, beat: ingest.Beat, now: datetime) -> dict[str, Any]:
    fields: dict[str, Any] = {"heard_at": now}
    if beat.session == held.session:
        fields["report_heard_at"] = now
    if cluster.sync_wanted_at is not None:
        fields["sync_wanted_at"] = None
    able = delivery.abilities(cluster, beat, now)
    if able is not None:
        fields["agent_can"] = able
        publish(cluster.organization_id, "clusters", [cluster.id])
    agent, server = beat.raw.get("agent"), beat.raw.get("api_server")
    version = str(agent.get("version") or "")[:40] if isinstance(agent, dict) else ""
    if version and version != cluster.agent_version:
        fields["agent_version"] = version
    milliseconds = server.get("milliseconds") if isinstance(server, dict) else None
    if isinstance(milliseconds, int) and 0 <= milliseconds < 1_000_000:
        fields["api_ms"] = milliseconds
    nodes = beat.counts.get("nodes", 0)
    if not cluster.reported_at and nodes != cluster.node_count and nodes < 1_000_000:
        fields["node_count"] = nodes  # until the first report says more
        publish(cluster.organization_id, "clusters", [cluster.id])
    return fields


def mark_lost() -> int:
    """Clusters that were not heard for too long become lost; asleep ones never do. Returns how many."""
    now = clock.now()
    silent = Cluster.objects.all_orgs().filter(
        state__in=[State.LIVE, State.ERROR], heard_at__lt=now - pace.lost_after(), method=Method.AGENT
    )
    lost = 0
    for cluster in silent.only("id", "organization_id", "name", "heard_at").order_by("heard_at")[:2000]:
        actor = Actor.system(WATCHER, cluster.organization_id)
        heard = f"{cluster.heard_at:%Y-%m-%d %H:%M:%S} UTC" if cluster.heard_at else "ever"
        cause = f"Its agent has not been heard since {heard}."
        lost += move(
            actor=actor, cluster=cluster, to=State.LOST, at=now, cause=cause, allowed=(State.LIVE, State.ERROR)
        )
    return lost
