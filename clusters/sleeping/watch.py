"""The watch over sleeping clusters: level-triggered, once a minute, what is awake there that should sleep."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from audit import services as audit
from clusters.enums import RESOURCE, Method
from clusters.models import Cluster
from clusters.sleeping import contest, gateway, services
from clusters.sleeping.contest import Answer, Fight
from clusters.sleeping.hands import Hands
from clusters.sleeping.kinds import Object
from clusters.sleeping.models import SleepFight, SleepSnapshot
from clusters.sleeping.observe import read_objects
from clusters.sleeping.snapshot import Decision, Entry, GroupEntry, read_entries
from clusters.sleeping.world import GroupStep, place_of
from core import clock
from core.actor import Actor
from core.errors import Conflict
from core.live import publish
from core.providers import ProviderError
from core.tasks import send_on_commit
from operations import services as operations

log = logging.getLogger(__name__)
EVERY = timedelta(seconds=55)
# Through an agent each look waits for its heartbeat and holds a worker meanwhile.
EVERY_BY_AGENT = timedelta(minutes=5)
MOST_FIGHTS = 2000


class Busy(Exception):
    """An order began meanwhile; it knows better."""


def watch_due() -> int:
    """Claim sleeping clusters that were not looked at for a minute (five for those that only their agent reaches) and
    hand each to a worker; returns how many."""
    now = clock.now()
    rows = SleepSnapshot.objects.all_orgs().filter(restored_at=None, handed_over_at=None, cluster__isnull=False)
    soon = Q(watched_at__lt=now - EVERY) & ~Q(cluster__method=Method.AGENT, cluster__credentials="")
    due = rows.exclude(asleep_at=None).filter(Q(watched_at=None) | soon | Q(watched_at__lt=now - EVERY_BY_AGENT))
    claimed = 0
    for mark, seen, cluster_id in list(due.order_by("watched_at").values_list("id", "watched_at", "cluster_id")[:500]):
        if rows.filter(id=mark, watched_at=seen).update(watched_at=now):
            claimed += 1
            send_on_commit("clusters.watch_one", cluster_id=str(cluster_id))
    return claimed


def watch_cluster(*, cluster_id: UUID) -> list[Fight]:
    """Look once; put back to sleep what may be, note every fight. Returns the fights. [] when it cannot be read."""
    cluster = Cluster.objects.all_orgs().select_related("account").filter(id=cluster_id).first()
    snapshot = services.open_snapshot(cluster) if cluster is not None else None
    if cluster is None or snapshot is None or snapshot.asleep_at is None or cluster.maintenance_since is not None:
        return []

    def fence() -> None:
        if operations.active_operation(RESOURCE, cluster.id) is not None:
            raise Busy

    try:
        fence()
        with gateway.open_kube(cluster) as kube:
            hands = Hands(kube, gateway.open_groups(cluster), fence)
            return _look(cluster, snapshot, hands)
    except Busy:
        return []
    except ProviderError as failure:
        log.warning("sleep_watch_failed", extra={"cluster_id": str(cluster_id), "reason": failure.message})
        return []


def _look(cluster: Cluster, snapshot: SleepSnapshot, hands: Hands) -> list[Fight]:
    now = clock.now()
    entries = {e.title: e for e in read_entries(snapshot.entries)}
    found = [*_objects(hands, list(entries.values())), *_groups(hands, snapshot)]
    history = _history(snapshot, now)
    answers: list[tuple[Fight, Answer]] = []
    for fight in found:
        answer = contest.answer_to(fight, history[fight.target], now)
        if answer is Answer.REAPPLIED and not _again(hands, snapshot, fight, entries.get(fight.target)):
            continue
        answers.append((fight, answer))
    _note(cluster, snapshot, answers, now)
    return [fight for fight, _ in answers]


def _objects(hands: Hands, entries: Sequence[Entry]) -> list[Fight]:
    kinds = tuple(sorted({e.kind for e in entries}))
    listed: dict[tuple[str, str, str], Object] = {
        (kind, *place_of(obj)): obj for kind, objects in read_objects(hands.kube, kinds).items() for obj in objects
    }
    found = []
    for entry in entries:
        obj = listed.get((entry.kind, entry.namespace, entry.name))
        fight = contest.fight_over(entry, obj) if obj is not None else None
        if fight is not None:
            found.append(fight)
    return found


def _steps(snapshot: SleepSnapshot) -> dict[str, GroupStep]:
    decision = Decision.read(snapshot.decision)
    return {step.key: step for step in decision.groups} if decision else {}


def _groups(hands: Hands, snapshot: SleepSnapshot) -> list[Fight]:
    """Groups with more machines wanted than asleep; who asked for them, the cloud tells in its own words."""
    found = []
    for key, step in _steps(snapshot).items():
        group = hands.groups.read(step.kind, step.name) if hands.groups is not None else None
        if group is not None and hands.groups is not None and group.sizes.desired > step.after.desired:
            cause = hands.groups.cause(group) or "the cloud does not say who"
            found.append(Fight(f"group/{key}", cause[:200], "raised the desired size", str(group.sizes.desired)))
    return found


def _history(snapshot: SleepSnapshot, now: datetime) -> dict[str, list[datetime]]:
    rows = SleepFight.objects.for_org(snapshot.organization_id).filter(
        snapshot=snapshot, outcome=Answer.REAPPLIED, seen_at__gt=now - contest.HOUR
    )
    found: dict[str, list[datetime]] = defaultdict(list)
    for target, at in rows.values_list("target", "seen_at"):
        found[target].append(at)
    return found


def _again(hands: Hands, snapshot: SleepSnapshot, fight: Fight, entry: Entry | None) -> bool:
    """Put it back to sleep; what is remembered of it stays as it was. False when it could not be done now."""
    try:
        if entry is not None:
            hands.sleep_object(entry, str(snapshot.id), again=True)
            return True
        recorded = {g.key: g for g in map(GroupEntry.read, snapshot.groups)}
        step = _steps(snapshot)[fight.target.removeprefix("group/")]
        hands.sleep_group(recorded[step.key], step, str(snapshot.id))
    except (ProviderError, Conflict, KeyError) as failure:
        log.warning("sleep_not_reapplied", extra={"target": fight.target, "reason": str(failure)[:200]})
        return False
    return True


def _note(cluster: Cluster, snapshot: SleepSnapshot, answers: Sequence[tuple[Fight, Answer]], now: datetime) -> None:
    """Write the fights down, each state of one once, and whether the cluster is contested."""
    contested = [fight for fight, answer in answers if answer is Answer.CONTESTED]
    words = contest.summary(contested)
    with transaction.atomic():
        rows = SleepFight.objects.for_org(snapshot.organization_id).filter(snapshot=snapshot)
        newest: dict[str, SleepFight] = {row.target: row for row in rows.order_by("seen_at", "id")}
        fresh = [
            SleepFight(
                organization_id=snapshot.organization_id,
                snapshot=snapshot,
                target=fight.target[:400],
                manager=fight.manager[:200],
                verb=fight.verb[:60],
                value=fight.value,
                changed_at=fight.changed_at,
                seen_at=now,
                outcome=answer,
            )
            for fight, answer in answers
            if answer is Answer.REAPPLIED or not _known(newest.get(fight.target), fight, answer)
        ]
        SleepFight.objects.for_org(snapshot.organization_id).bulk_create(fresh, batch_size=200)
        _mark(cluster, snapshot, words, now)


def _known(row: SleepFight | None, fight: Fight, answer: Answer) -> bool:
    return row is not None and (row.manager, row.value, row.outcome) == (fight.manager[:200], fight.value, answer)


def _mark(cluster: Cluster, snapshot: SleepSnapshot, words: str, now: datetime) -> None:
    mine = SleepSnapshot.objects.for_org(snapshot.organization_id).filter(
        id=snapshot.id, restored_at=None, handed_over_at=None
    )
    if words and snapshot.contested_at is None:
        mine.update(contested_at=now, contested=words)
        audit.record(
            actor=Actor.system("sleep_watch", snapshot.organization_id),
            verb="cluster.contested",
            target=cluster,
            outcome="failed",
            detail=words,
            organization_id=snapshot.organization_id,
        )
    elif words != snapshot.contested:
        mine.update(contested=words, contested_at=snapshot.contested_at if words else None)
    else:
        return
    publish(snapshot.organization_id, "clusters", [cluster.id])
