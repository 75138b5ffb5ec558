"""What the page of a cluster's sleep shows, read in a few queries and made plain."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from clusters.enums import RESOURCE
from clusters.models import Cluster
from clusters.sleeping import gateway, services
from clusters.sleeping.kinds import PHASE_WORDS, Phase
from clusters.sleeping.look import LOOK
from clusters.sleeping.look import RESOURCE as LOOKS
from clusters.sleeping.models import SleepFight, SleepRules, SleepSnapshot
from clusters.sleeping.sleepable import state_of
from core import clock
from core.actor import Actor
from core.sleepable import SleepState
from operations.enums import ACTIVE, Status
from operations.models import Operation

FRESH = timedelta(minutes=10)
MOST_KEPT, MOST_FIGHTS, MOST_PAST = 60, 12, 10
HOURS = Decimal(730)
_WHY = {
    "system": "Kubernetes itself",
    "control_plane": "The control plane",
    "platform": "Network, name service and certificates",
    "agent": "Curfew's agent",
    "webhook": "Webhooks that would refuse changes",
    "deadlock": "Webhooks that would refuse changes",
    "critical": "Critical namespaces",
    "excluded": "Marked to be kept",
    "budget": "Budgets that never give way",
    "do_not_disrupt": "Marked do-not-disrupt",
    "local_volume": "Volumes on a node's own disk",
    "bare_pod": "Pods that nothing would start again",
    "job": "Running jobs",
    "controller": "Controllers that Curfew does not know",
    "group": "Beside something that stays",
    "scope": "Groups that you keep running",
    "unknown": "Nodes of no known group",
}


@dataclass(frozen=True, slots=True)
class Stay:
    """One reason for staying, and what stays for it."""

    label: str
    items: tuple[tuple[str, str], ...]
    more: int = 0


@dataclass(frozen=True, slots=True)
class StepLine:
    """One step of an order, for the list: `state` is done, doing or ""."""

    label: str
    state: str


@dataclass(frozen=True, slots=True)
class Past:
    """A sleep or wake that was ordered, and the seconds that each of its steps took."""

    operation: Operation
    steps: list[tuple[str, float]]


@dataclass(slots=True)
class SleepFacts:
    """Everything for the page and for the strip on the cluster's own page."""

    state: str
    reachable: bool
    operation: Operation | None = None
    steps: list[StepLine] = field(default_factory=list)
    snapshot: SleepSnapshot | None = None
    objects: int = 0
    groups: int = 0
    nodes_left: int = 0
    saving: Decimal | None = None
    saved_so_far: Decimal | None = None
    trouble: str = ""
    contested: str = ""
    looking: Operation | None = None
    look: dict[str, Any] | None = None
    look_at: datetime | None = None
    look_failed: str = ""
    stays: list[Stay] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rules: SleepRules | None = None
    fights: list[SleepFight] = field(default_factory=list)
    history: list[Past] = field(default_factory=list)

    @property
    def may_sleep(self) -> bool:
        return self.reachable and self.operation is None and self.state not in (SleepState.ASLEEP, SleepState.FALLING)

    @property
    def may_wake(self) -> bool:
        return self.snapshot is not None and self.operation is None


def strip_of(*, actor: Actor, cluster: Cluster) -> SleepFacts:
    """What the cluster's own page shows: three queries."""
    rows = Operation.objects.visible_to(actor).filter(resource_kind=RESOURCE, resource_id=cluster.id)
    operation = rows.filter(status__in=ACTIVE).first()
    open_ones = SleepSnapshot.objects.visible_to(actor).filter(restored_at=None, handed_over_at=None)
    snapshot = open_ones.filter(cluster_id=cluster.id).first()
    facts = SleepFacts(str(state_of(cluster, operation, snapshot)), gateway.has_way(cluster))
    if operation is not None and operation.kind in (services.SLEEP, services.WAKE):
        facts.operation, facts.steps = operation, steps_of(operation)
    if snapshot is not None:
        _add_snapshot(facts, cluster, snapshot)
    return facts


def _add_snapshot(facts: SleepFacts, cluster: Cluster, snapshot: SleepSnapshot) -> None:
    facts.snapshot = snapshot
    facts.objects, facts.groups = len(snapshot.entries), len((snapshot.decision or {}).get("groups") or ())
    facts.nodes_left = cluster.node_count
    facts.trouble, facts.contested = snapshot.trouble, snapshot.contested
    if snapshot.asleep_at and snapshot.awake_hourly is not None and cluster.hourly_cost is not None:
        facts.saving = max(Decimal(0), snapshot.awake_hourly - cluster.hourly_cost)
        hours = Decimal((clock.now() - snapshot.asleep_at) // timedelta(seconds=1)) / 3600
        facts.saved_so_far = facts.saving * hours
    facts.stays = stays_of(snapshot.kept)
    facts.notes = [str(note) for note in snapshot.notes]


def page_of(*, actor: Actor, cluster: Cluster) -> SleepFacts:
    """The whole page."""
    facts = strip_of(actor=actor, cluster=cluster)
    looks = Operation.objects.visible_to(actor).filter(resource_kind=LOOKS, resource_id=cluster.id, kind=LOOK)
    newest = looks.order_by("-created_at").first()
    if newest is not None and newest.status in ACTIVE:
        facts.looking = newest
    elif newest is not None and newest.finished_at and clock.now() - newest.finished_at < FRESH:
        if newest.status == Status.SUCCEEDED:
            facts.look, facts.look_at = newest.result, newest.finished_at
        else:
            facts.look_failed = f"{newest.error} {newest.next_step}".strip()
    if facts.look is not None and facts.snapshot is None:
        facts.stays, facts.notes = stays_of(facts.look["kept"]), list(facts.look["notes"])
    facts.rules = services.rules_of(cluster)
    if facts.snapshot is not None:
        fights = SleepFight.objects.visible_to(actor).filter(snapshot_id=facts.snapshot.id)
        facts.fights = list(fights.order_by("-seen_at", "-id")[:MOST_FIGHTS])
    past = Operation.objects.visible_to(actor).filter(resource_kind=RESOURCE, resource_id=cluster.id)
    orders = past.filter(kind__in=[services.SLEEP, services.WAKE]).order_by("-created_at")[:MOST_PAST]
    facts.history = [Past(order, durations_of(order)) for order in orders]
    return facts


def stays_of(kept: list[dict[str, str]]) -> list[Stay]:
    """What stays, by reason, workloads and groups before nodes; long lists are cut and counted."""
    by_why: dict[str, list[tuple[str, str]]] = {}
    for one in kept:
        by_why.setdefault(_WHY.get(one["why"], "Other"), []).append((one["what"], one["words"]))
    count = Counter({label: len(items) for label, items in by_why.items()})
    each = max(4, MOST_KEPT // max(1, len(by_why)))
    return [
        Stay(
            label,
            tuple(sorted(items, key=lambda i: (i[0].startswith("node/"), i[0]))[:each]),
            max(0, count[label] - each),
        )
        for label, items in sorted(by_why.items(), key=lambda pair: pair[0])
    ]


_SLEEP_STEPS = (
    "Write down what must be restored",
    *(PHASE_WORDS[p] for p in Phase if p is not Phase.NODES),
    "Wait for pods to end",
    PHASE_WORDS[Phase.NODES],
)
_WAKE_STEPS = (
    "Bring nodes back",
    "",
    "Start the node scaler and the system",
    "Wake workloads",
    "Resume cron jobs",
    "Resume autoscalers",
    "Resume GitOps",
)


def steps_of(operation: Operation) -> list[StepLine]:
    """The steps of an order, from the number that it reports."""
    names = _SLEEP_STEPS if operation.kind == services.SLEEP else _WAKE_STEPS
    now = operation.steps_done if operation.steps_total else -1
    return [
        StepLine(name, "done" if number < now else "doing" if number == now else "")
        for number, name in enumerate(names)
        if name
    ]


def durations_of(operation: Operation) -> list[tuple[str, float]]:
    """The steps that an order took, with the seconds from the first begin of each to that of the next; the last one
    to the order's end, or until now."""
    begun = [(datetime.fromisoformat(at), str(words)) for at, words in operation.state.get("begun") or ()]
    ends = [at for at, _ in begun[1:]] + [operation.finished_at or clock.now()]
    return [(words, (end - at).total_seconds()) for (at, words), end in zip(begun, ends, strict=True)]


__all__ = ["Past", "SleepFacts", "durations_of", "page_of", "stays_of", "steps_of", "strip_of"]
