"""The engine behind the planner's protocol: policies become its settings, the catalogue becomes what can be bought. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

from clusters.analysis.facts import ARCH, CAPACITY_TYPE, INSTANCE_TYPE, MIB, ClusterFacts, Lifecycle, Resources
from clusters.analysis.packing import NodeOffer
from policies.blueprint import Blueprint
from policies.catalogue import InstanceType, catalogue
from policies.enforcing.planning import Purchase, Removal, Thought
from policies.engine.actions import Action
from policies.engine.budgets import allowance
from policies.engine.consolidation import consolidate
from policies.engine.due import select_due
from policies.engine.from_policy import consolidation_settings, provisioning_settings, template_of
from policies.engine.launching import Launch, Offering, Option, choose_launches
from policies.engine.memory import Chain, Memory
from policies.engine.odds import BANDS, Odds
from policies.engine.settings import Provisioning
from policies.engine.template import Template
from policies.providers.machines import Pool
from policies.selectors import Applied

MOST_SPOT_POOLS, MOST_ON_DEMAND_POOLS = 15, 5
MOST_VCPU = 48  # without a template
LIFECYCLE = "lifecycle"
_BANDS = tuple(BANDS)


class EnginePlanner:
    """`planning.Planner`."""

    def purchases(
        self, facts: ClusterFacts, policy: Applied, *, region: str, refused: Collection[str], now: datetime
    ) -> tuple[Sequence[Purchase], Mapping[str, str]]:
        options = options_for(policy.template, region, zones_of(facts, policy.template))
        settings = provisioning_settings(policy.document.autoscaling)
        template = template_of(policy.template) if policy.template else Template()
        gone = {_offering(Pool.of(key)): now + timedelta(hours=1) for key in refused}
        found = choose_launches(facts, options, settings, template, now, no_capacity=gone)
        launches, refusals = list(found.launches), dict(found.refusals)
        if settings.fall_back and refusals:
            left = replace(facts, pods=tuple(p for p in facts.pods if p.node is not None or p.key in refusals))
            again = choose_launches(left, options, settings, template, now, no_capacity=gone, fallen_back=True)
            launches += again.launches
            refusals = dict(again.refusals)
        bought = [self._purchase(launch, facts, options, settings, template, gone, now) for launch in launches]
        return bought, {pod: why.words for pod, why in refusals.items()}

    @staticmethod
    def _purchase(
        launch: Launch,
        facts: ClusterFacts,
        options: Sequence[Option],
        settings: Provisioning,
        template: Template,
        gone: Mapping[Offering, datetime],
        now: datetime,
    ) -> Purchase:
        """The choice with what comes after it: the next best pools for the same pods, at last on-demand if allowed."""
        lifecycle = launch.option.offer.lifecycle
        spot = lifecycle is Lifecycle.SPOT
        alike = [o for o in launch.alternatives if o.offer.lifecycle is lifecycle]
        ranked = [launch.option, *alike][: MOST_SPOT_POOLS if spot else MOST_ON_DEMAND_POOLS]
        if spot and settings.fall_back:
            pods = set(launch.pods)
            same = replace(facts, pods=tuple(p for p in facts.pods if p.node is not None or p.key in pods))
            found = choose_launches(same, options, settings, template, now, no_capacity=gone, fallen_back=True)
            if found.launches and set(found.launches[0].pods) == pods:
                last = found.launches[0]
                ranked += [last.option, *last.alternatives][:MOST_ON_DEMAND_POOLS]
        ranked = list({option.key: option for option in ranked}.values())
        prices = {_pool(option.offer).key: option.offer.hourly_price for option in ranked}
        return Purchase(launch.pods, tuple(_pool(o.offer) for o in ranked), prices, launch.because)

    def removals(
        self,
        facts: ClusterFacts,
        policy: Applied,
        *,
        region: str,
        zone: str,
        memory: Mapping[str, Any],
        now: datetime,
        leaving: int = 0,
        not_ready: int = 0,
    ) -> Thought:
        settings = consolidation_settings(policy.document.consolidation, zone)
        options = options_for(policy.template, region, zones_of(facts, policy.template))
        template = template_of(policy.template) if policy.template else Template()
        offers = (
            [o.offer for o in options if not template.why_not(o.offer)]
            if settings.replaces and not policy.template_missing
            else []
        )
        known = memory_of(memory)
        plan = consolidate(facts, settings, now, offers=offers, memory=known)
        due = select_due(plan, facts, settings, now, known, leaving=leaving, not_ready=not_ready)
        holds = {a.nodes: due.refusals[a.nodes[0]].words for a in plan.actions if a not in due.actions}
        allowed = allowance(
            settings.budgets, now, settings.zone, total=len(facts.nodes), leaving=leaving, not_ready=not_ready
        )
        words = allowed.unreadable or f"{allowed.nodes} of {len(facts.nodes)} nodes may be disrupted now"
        return Thought(
            tuple(self._removal(a, holds.get(a.nodes, "")) for a in plan.actions),
            {name: why.words for name, why in plan.refusals.items()},
            values_of(due.memory),
            words + (f" (budget: {allowed.because})" if allowed.because and not allowed.unreadable else ""),
        )

    @staticmethod
    def _removal(action: Action, holds: str) -> Removal:
        instead = None
        if action.new is not None:
            names = action.types or (action.new.instance_type,)
            first = _pool(action.new)
            pools = [first, *(replace(first, instance_type=n) for n in names if n != first.instance_type)]
            instead = Purchase(
                tuple(m.pod for m in action.moves if m.target == action.new_name),
                tuple(pools),
                {first.key: action.new.hourly_price},
            )
        count = len(action.moves)
        pods = "1 pod fits" if count == 1 else f"{count} pods fit"
        empty = "It is empty." if len(action.nodes) == 1 else "They are empty."
        words = empty if action.empty else f"{pods} on other nodes."
        if instead is not None:
            words = f"{pods} on {'one' if len(action.nodes) > 1 else 'a cheaper'} {first_type(instead)}."
        return Removal(
            action.nodes,
            tuple(m.pod for m in action.moves),
            action.savings_hourly,
            instead,
            action.opens_after,
            words,
            holds,
            action.receivers,
        )

    def carried_out(
        self,
        memory: Mapping[str, Any],
        removed: Sequence[str],
        receivers: Sequence[str],
        new: str | None,
        now: datetime,
    ) -> Mapping[str, Any]:
        return values_of(memory_of(memory).done(removed, receivers, new, now))


def first_type(purchase: Purchase) -> str:
    """The type that would be bought."""
    return purchase.pools[0].instance_type if purchase.pools else "node"


# what can be bought


def zones_of(facts: ClusterFacts, blueprint: Blueprint | None) -> tuple[str, ...]:
    """The template's zones, or those that the cluster is in."""
    if blueprint is not None and blueprint.zones:
        return tuple(sorted(blueprint.zones))
    return tuple(sorted({node.zone for node in facts.nodes if node.zone})) or ("",)


@lru_cache(maxsize=64)
def options_for(blueprint: Blueprint | None, region: str, zones: tuple[str, ...]) -> tuple[Option, ...]:
    """Everything that the template allows and the catalogue has a price for in the region, in every zone."""
    known = catalogue()
    found: list[Option] = []
    for kind in known.types.values():
        price = known.price(kind.name, region)
        if price is None or not _allowed(kind, blueprint):
            continue
        ways: list[tuple[Lifecycle, Decimal]] = [(Lifecycle.ON_DEMAND, price.on_demand)]
        if price.spot is not None and kind.spot:
            ways.append((Lifecycle.SPOT, price.spot))
        band = _BANDS[price.interruption] if price.interruption is not None else ""
        for lifecycle, hourly in ways:
            odds = Odds.published(band) if lifecycle is Lifecycle.SPOT else None
            offers = (_offer(kind, blueprint, zone, lifecycle, hourly) for zone in zones)
            found.extend(Option(offer, kind.vcpu, odds) for offer in offers)
    return tuple(found)


def _allowed(kind: InstanceType, blueprint: Blueprint | None) -> bool:
    if kind.allocatable_milli is None or kind.allocatable_mib is None or kind.pods is None:
        return False
    if blueprint is not None:
        return blueprint.allows_type(kind.name, [str(kind.architecture)])
    usual = kind.current and not (kind.burstable or kind.bare_metal or kind.gpus)
    return usual and kind.vcpu <= MOST_VCPU and str(kind.architecture) == "amd64"


def _offer(
    kind: InstanceType, blueprint: Blueprint | None, zone: str, lifecycle: Lifecycle, hourly: Decimal
) -> NodeOffer:
    labels = {
        **dict(blueprint.labels if blueprint else ()),
        ARCH: str(kind.architecture),
        "kubernetes.io/os": "linux",
        INSTANCE_TYPE: kind.name,
        CAPACITY_TYPE: str(lifecycle),
        LIFECYCLE: str(lifecycle),
    }
    return NodeOffer(
        instance_type=kind.name,
        allocatable=Resources(kind.allocatable_milli or 0, (kind.allocatable_mib or 0) * MIB, kind.gpus),
        hourly_price=hourly,
        max_pods=kind.pods or 0,
        zone=zone,
        lifecycle=lifecycle,
        labels=labels,
        taints=blueprint.taints if blueprint else (),
        pool=blueprint.name if blueprint else "",
    )


def _pool(offer: NodeOffer) -> Pool:
    return Pool(offer.instance_type, offer.zone, str(offer.lifecycle))


def _offering(pool: Pool) -> Offering:
    return pool.instance_type, pool.zone, pool.lifecycle


# memory


def memory_of(values: Mapping[str, Any]) -> Memory:
    """The engine's memory from what is stored."""
    return Memory(
        {name: datetime.fromisoformat(at) for name, at in (values.get("since") or {}).items()},
        {n: Chain(int(c[0]), datetime.fromisoformat(c[1])) for n, c in (values.get("chains") or {}).items()},
    )


def values_of(memory: Memory) -> dict[str, Any]:
    """The memory as it is stored."""
    return {
        "since": {name: at.isoformat() for name, at in memory.eligible_since.items()},
        "chains": {name: [chain.steps, chain.last.isoformat()] for name, chain in memory.chains.items()},
    }
