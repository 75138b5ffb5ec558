"""The one place where what a provider says becomes a change of a row, of the ledger and of every open page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from django.db import transaction

from audit import services as audit
from cloudnodes import rules
from cloudnodes.enums import RESOURCE, Desired, ErrorOn, tier_of
from cloudnodes.models import CloudNode
from cloudnodes.providers.base import Instance, InstanceState, Scaling
from cloudnodes.services.pricing import set_node_price
from core.actor import Actor
from core.live import publish
from core.providers import ProviderError
from core.sleepable import SleepState
from costs import services as costs
from costs.enums import Phase
from operations import services as operations
from operations.enums import Status
from operations.models import Operation

OUTSIDE = "outside"
WATCHER = "node_watcher"
# Columns that an observation may change; saved together.
SEEN = (
    "instance_name",
    "gpu_tier",
    "region",
    "zone",
    "instance_type",
    "lifecycle",
    "endpoint",
    "health_endpoint",
    "scaling",
    "managed",
    "tags",
    "owner",
    "team",
    "label_cost",
    "provider_state",
    "still_billing",
    "observed_at",
    "observed_state",
    "state_since",
    "started_at",
    "ready_at",
    "unread_since",
    "missing_since",
    "gone_at",
    "desired_state",
    "cause",
    "cause_label",
    "cause_at",
    "reversals",
    "reversed_at",
    "error_on",
    "error_code",
    "error",
    "next_step",
    "phase",
    "phase_at",
    "phase_seq",
    "hourly_cost",
    "hourly_cost_source",
    "hourly_cost_at",
)
MOST_TAGS = 50


def locked(node_id: UUID) -> CloudNode | None:
    """The row under a lock, with its type; to be called inside a transaction."""
    rows = CloudNode.objects.all_orgs().select_for_update(of=("self",)).select_related("node_type")
    return rows.filter(id=node_id).first()


def label_of(node: CloudNode) -> str:
    """How a node is called in logs, operations and the ledger: "FLUX Dev (flux-dev-aws-1)"."""
    return f"{node.node_type.name} ({node.instance_name})"[:300]


def word_of(node: CloudNode, operation_kind: str, now: datetime) -> SleepState:
    """The word that the row's facts lead to."""
    return rules.state_of(
        rules.Facts(
            provider_state=node.provider_state,
            scaling=node.scaling,
            managed=node.managed,
            missing=node.missing_since is not None,
            unread=node.unread_since is not None,
            operation=operation_kind,
            error_on=node.error_on,
            reversals=node.reversals,
            reversed_at=node.reversed_at,
        ),
        now,
    )


def settle(node: CloudNode, operation_kind: str, now: datetime) -> None:
    """Set the word, and since when it holds."""
    word = word_of(node, operation_kind, now)
    if node.observed_state != word or node.state_since is None:
        node.observed_state, node.state_since = word, now


def forget_error(node: CloudNode) -> None:
    node.error_on, node.error_code, node.error, node.next_step = ErrorOn.NONE, "", "", ""


def observe(*, node_id: UUID, instance: Instance, at: datetime, actor: Actor | None = None) -> bool:
    """Commit one observation, made at `at` (taken before the provider was asked), in one transaction: the row, the
    ledger event, the price, audit of what changed outside Curfew, and the notice to open pages.

    Safe to repeat and to call in any order: an observation older than the last one changes nothing, and the n-th
    change of phase has the same key however often it is committed. Returns whether anything visible changed.
    """
    with transaction.atomic():
        node = locked(node_id)
        if node is None or (node.observed_at is not None and at < node.observed_at):
            return False
        who = actor or Actor.system(WATCHER, node.organization_id)
        instance = as_declared(node, instance)
        before = _visible(node)
        operation = operations.active_operation(RESOURCE, node.id)
        if instance.state is InstanceState.GONE:
            _miss(node, at, who)
        else:
            _see(node, instance, at, operation, who)
        node.unread_since = None
        settle(node, operation.kind if operation else "", at)
        node.observed_at = at
        node.save(update_fields=SEEN)
        changed = _visible(node) != before
        if changed:
            publish(node.organization_id, "nodes", [node.id])
    return changed


def observe_many(*, nodes: Iterable[CloudNode], found: Mapping[str, Instance], at: datetime) -> int:
    """Commit a batch: rows that say the same are stamped with one UPDATE, the others go through `observe`.

    Returns how many changed visibly.
    """
    same: list[UUID] = []
    changed = 0
    for node in nodes:
        instance = found.get(node.provider_id)
        if instance is None:
            continue
        if _says_the_same(node, as_declared(node, instance), at):
            same.append(node.id)
        else:
            changed += observe(node_id=node.id, instance=instance, at=at)
    for start in range(0, len(same), 400):
        CloudNode.objects.all_orgs().filter(id__in=same[start : start + 400], observed_at__lt=at).update(observed_at=at)
    return changed


def mark_unreadable(*, account_id: UUID, error: ProviderError, at: datetime) -> int:
    """The account's nodes cannot be read: what was not asleep is Lost from now on. The ledger goes on as it was, since
    not knowing is no proof of anything. Returns how many became Lost.
    """
    lost: list[UUID] = []
    with transaction.atomic():
        rows = CloudNode.objects.all_orgs().filter(account_id=account_id, gone_at=None, unread_since=None)
        for node in list(rows.select_for_update(of=("self",)).select_related("node_type").order_by("id")):
            operation = operations.active_operation(RESOURCE, node.id)
            was = node.observed_state
            node.unread_since = at
            settle(node, operation.kind if operation else "", at)
            node.save(update_fields=["unread_since", "observed_state", "state_since"])
            if node.observed_state != was:
                lost.append(node.id)
                audit.record(
                    actor=Actor.system(WATCHER, node.organization_id),
                    verb="node.lost",
                    target=node,
                    target_label=label_of(node),
                    outcome="failed",
                    detail=error.message,
                    changes={"state": [was, str(node.observed_state)]},
                )
                publish(node.organization_id, "nodes", [node.id])
    return len(lost)


def as_declared(node: CloudNode, instance: Instance) -> Instance:
    """The instance with what a person declared of it, where it carries no tag that says so."""
    if not node.declared or instance.state is InstanceState.GONE:
        return instance
    cost = node.declared.get("hourly_cost")
    return replace(
        instance,
        node_type=instance.node_type or str(node.declared.get("node_type", "")),
        hourly_cost=instance.hourly_cost if instance.hourly_cost is not None or cost is None else Decimal(cost),
    )


def _says_the_same(node: CloudNode, instance: Instance, at: datetime) -> bool:
    """Whether committing this observation would change nothing but its time."""
    if node.gone_at is not None and instance.state is InstanceState.GONE:
        return True
    if node.missing_since or node.unread_since or node.observed_at is None or node.hourly_cost_at is None:
        return False
    if instance.state != node.provider_state or instance.state is InstanceState.GONE:
        return False
    if _facts(instance) != {name: getattr(node, name) for name in _facts(instance)}:
        return False
    operation_kind = ""
    if node.observed_state in (SleepState.WAKING, SleepState.FALLING):
        operation = operations.active_operation(RESOURCE, node.id)
        operation_kind = operation.kind if operation else ""
    return word_of(node, operation_kind, at) == node.observed_state


def _visible(node: CloudNode) -> tuple[object, ...]:
    return tuple(getattr(node, name) for name in SEEN if name not in ("observed_at", "phase_at"))


def own_tag(tags: Mapping[str, str], name: str) -> str:
    """One of Curfew's tags in the spelling of any cloud, or a plain tag of that name; "" when there is none."""
    low = {str(key).lower(): str(value).strip() for key, value in tags.items()}
    spellings = (f"curfew:{name}", f"curfew.{name}", f"curfew-{name}", name)
    return next((low[key] for key in spellings if low.get(key)), "")


def _facts(instance: Instance) -> dict[str, object]:
    """What an instance tells beside its state, in the form of the row."""
    tags = {str(k)[:128]: str(v)[:256] for k, v in sorted(instance.tags.items())[:MOST_TAGS]}

    return {
        "instance_name": instance.name[:200],
        "zone": instance.zone[:120],
        "instance_type": instance.instance_type[:200],
        "lifecycle": instance.lifecycle[:12],
        "endpoint": instance.endpoint[:500],
        "health_endpoint": instance.health_endpoint[:500],
        "scaling": str(instance.scaling.value),
        "managed": bool(instance.node_type),
        "tags": tags,
        "owner": own_tag(tags, "owner")[:80],
        "team": own_tag(tags, "team")[:80],
        "label_cost": instance.hourly_cost,
    }


def _see(node: CloudNode, instance: Instance, at: datetime, operation: Operation | None, who: Actor) -> None:
    """The provider knows the node: take over what it says."""
    first = node.observed_at is None
    came_back = node.gone_at is not None
    moment = _exact(node, instance, at, operation)
    for name, value in _facts(instance).items():
        setattr(node, name, value)
    node.region = instance.region[:60] or node.region
    if node.declared and not node.declared.get("gpu_tier"):
        node.gpu_tier = (instance.gpu_tier or tier_of(instance.instance_type))[:40]
    node.missing_since = node.gone_at = None
    if rules.error_is_over(node.error_on, node.error_code, instance.state):
        forget_error(node)
        late = True
    else:
        late = False
    if operation is None and instance.state in rules.UP | rules.DOWN:
        _follow_reality(node, instance, moment, who, known=not (first or came_back), late=late)
    node.provider_state = instance.state
    node.still_billing = instance.state is InstanceState.STOPPED_BILLING
    _clocks(node, instance, moment, operation)
    set_node_price(actor=who, node=node, at=moment)
    phase = rules.phase_of(node.provider, instance.state, node.scaling)
    if phase is not None:
        _enter(node, phase, moment, operation, who)


def _miss(node: CloudNode, at: datetime, who: Actor) -> None:
    """The provider does not know the node. Once may be a hiccup; the second time it is gone and its interval closes."""
    if node.gone_at is not None:
        return
    if node.missing_since is None:
        node.missing_since = at
    if at - node.missing_since < rules.GONE_AFTER:
        return
    node.gone_at = node.missing_since
    node.provider_state, node.still_billing = InstanceState.GONE, False
    node.desired_state, node.started_at, node.ready_at = Desired.ASLEEP, None, None
    node.endpoint = node.health_endpoint = ""
    forget_error(node)
    _enter(node, Phase.GONE, node.gone_at, None, who)
    audit.record(
        actor=who,
        verb="node.gone",
        target=node,
        target_label=label_of(node),
        organization_id=node.organization_id,
        detail="The provider no longer knows it.",
    )


def _follow_reality(node: CloudNode, instance: Instance, at: datetime, who: Actor, *, known: bool, late: bool) -> None:
    """No order of ours is under way, so what is wanted is what is. A difference was made by somebody outside Curfew."""
    now_up = instance.state in rules.UP
    real = Desired.AWAKE if now_up else Desired.ASLEEP
    was = node.desired_state
    node.desired_state = real
    if not known:
        node.cause, node.cause_at = OUTSIDE, at
        node.cause_label = "It was on when Curfew first saw it" if now_up else "It was off when Curfew first saw it"
        return
    if real == was or not node.managed or node.scaling != Scaling.MANUAL:
        return
    if late:
        node.cause_label, node.cause_at = "Came about after the operation had given up", at
        verb = "node.woke" if now_up else "node.fell_asleep"
    else:
        forget_error(node)
        node.cause, node.cause_at = OUTSIDE, at
        node.cause_label = f"{'Started' if now_up else 'Stopped'} outside Curfew"
        _count_reversal(node, real, at)
        verb = "node.changed_outside"
    audit.record(
        actor=who,
        verb=verb,
        target=node,
        target_label=label_of(node),
        organization_id=node.organization_id,
        detail=node.cause_label + (f": {instance.state_reason}" if instance.state_reason else ""),
        changes={"state": [was, str(real)]},
    )


def _count_reversal(node: CloudNode, real: str, at: datetime) -> None:
    """Somebody undid what an operation of ours did shortly before: twice, and the node is contested."""
    last = (
        Operation.objects.for_org(node.organization_id)
        .filter(
            resource_kind=RESOURCE,
            resource_id=node.id,
            status=Status.SUCCEEDED,
            finished_at__gt=at - rules.CONTEST_WINDOW,
        )
        .order_by("-finished_at")
        .first()
    )
    if last is None or (last.kind == "node.start") == (real == Desired.AWAKE):
        return
    recent = node.reversed_at is not None and at - node.reversed_at < rules.CONTEST_WINDOW
    node.reversals = node.reversals + 1 if recent else 1
    node.reversed_at = at


def _clocks(node: CloudNode, instance: Instance, at: datetime, operation: Operation | None) -> None:
    """Since when it is up, and since when it answers (known without asking only when there is nothing to ask)."""
    if instance.state in rules.UP:
        node.started_at = instance.launched_at or node.started_at or at
        if (
            operation is None
            and node.ready_at is None
            and instance.state is InstanceState.RUNNING
            and not node.health_endpoint
        ):
            node.ready_at = node.started_at
    elif instance.state in rules.DOWN:
        node.started_at = node.ready_at = None


def _exact(node: CloudNode, instance: Instance, at: datetime, operation: Operation | None) -> datetime:
    """When the change happened: what the provider tells, for changes made outside between two looks; else now."""
    told = instance.launched_at
    if operation is None and told and instance.state in rules.UP and node.observed_at and node.observed_at < told <= at:
        return told
    return at


def _enter(node: CloudNode, phase: Phase, at: datetime, operation: Operation | None, who: Actor) -> None:
    """Append a ledger event when the phase changes; the first one of a node that costs nothing is left out."""
    if node.phase == phase or (phase is Phase.GONE and not node.phase):
        return
    moment = rules.billed_until(node.provider, node.phase, node.phase_at, at) if node.phase_at else at
    node.phase, node.phase_at, node.phase_seq = phase, moment, node.phase_seq + 1
    costs.record_event(
        actor=who,
        organization_id=node.organization_id,
        resource_kind=RESOURCE,
        resource_id=node.id,
        resource_label=label_of(node),
        phase=phase,
        at=moment,
        key=f"{node.phase_seq}:{phase.value}",
        source=f"{node.provider}: {node.provider_state}",
        operation_id=operation.id if operation else None,
        cause=str(operation.payload.get("cause", "hand")) if operation else OUTSIDE,
        team=node.team,
        person=operation.actor_label if operation else node.owner,
    )
