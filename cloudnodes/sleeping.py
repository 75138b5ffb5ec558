"""Cloud nodes as Sleepables: what schedules, bulk actions and the home page see of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from cloudnodes import automatic, rules, selectors, services
from cloudnodes.enums import RESOURCE, START, provider_words
from cloudnodes.models import CloudNode
from core.actor import Actor
from core.sleepable import SleepableView, SleepState, Standing


class CloudNodeKind:
    """The registered kind of cloud nodes; see `core.sleepable.SleepableKind`."""

    kind = RESOURCE
    label = "Cloud node"
    label_plural = "Cloud nodes"
    icon = "cloud-computing"
    operate = "nodes.operate"

    def list(self, actor: Actor, ids: Collection[UUID] | None = None) -> Sequence[SleepableView]:
        """Living nodes, in three queries; none for an actor that may not see nodes."""
        if not actor.can("nodes.view"):
            return []
        nodes = selectors.list_nodes(actor=actor, ids=ids)
        operations = selectors.active_operations([n.id for n in nodes])
        learned = selectors.learned_seconds(START, [n.subject for n in nodes])
        return [_view(n, operations[n.id].id if n.id in operations else None, learned.get(n.subject)) for n in nodes]

    def standings(self, actor: Actor, ids: Collection[UUID]) -> Sequence[Standing]:
        """What the tick compares, in three narrow queries."""
        return selectors.standings(actor, ids)

    def idle_since(self, actor: Actor, ids: Collection[UUID]) -> dict[UUID, datetime]:
        """Which of the nodes are known to be idle, and since when; what is busy or unknown is left out."""
        mine = [n.id for n in selectors.list_nodes(actor=actor, ids=ids)]
        return automatic.idle_nodes(mine)

    def request_sleep(
        self,
        actor: Actor,
        resource_id: UUID,
        *,
        reason: str,
        options: dict[str, object] | None = None,
    ) -> UUID | None:
        """Order a sleep; `options` may hold `cause` (schedule, idle, hand, budget) and `idempotency_key`."""
        return services.request_stop(actor=actor, node_id=resource_id, reason=reason, **_options(options)).id

    def request_wake(
        self,
        actor: Actor,
        resource_id: UUID,
        *,
        reason: str,
        options: dict[str, object] | None = None,
    ) -> UUID | None:
        """Order a wake; options as for `request_sleep`."""
        return services.request_start(actor=actor, node_id=resource_id, reason=reason, **_options(options)).id


def _options(options: dict[str, object] | None) -> dict[str, str]:
    return {
        name: str(value) for name, value in (options or {}).items() if name in ("cause", "idempotency_key") and value
    }


def _view(node: CloudNode, operation_id: UUID | None, wake_seconds: float | None) -> SleepableView:
    place = node.region or node.zone or node.account.name
    return SleepableView(
        kind=RESOURCE,
        id=node.id,
        organization_id=node.organization_id,
        name=f"{node.node_type.name} on {provider_words(node.provider).label}",
        detail=" · ".join(part for part in (node.gpu_tier.upper(), node.instance_type, place) if part),
        url=node.get_absolute_url(),
        state=SleepState(node.observed_state),
        since=node.state_since,
        hourly_cost=node.hourly_cost,
        tags={str(k): str(v) for k, v in node.tags.items()},
        protections=rules.protections(node.scaling, managed=node.managed),
        wake_seconds=wake_seconds,
        owner=node.owner,
        cause=node.error or node.cause_label,
        operation_id=operation_id,
    )
