"""What a policy would do to one cluster, card by card, from the cluster's last report. Pure; potential, never real.

Each card gets a sentence, and dollars a month where they can be worked out. None means that nobody can say, zero that it
changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from clusters.analysis.facts import HOURS_PER_MONTH, ClusterFacts, Node, Pod
from clusters.analysis.packing import NodeOffer, offers_for
from clusters.analysis.spot_readiness import SpotReadiness
from clusters.analysis.weights import shares
from policies.blueprint import Blueprint
from policies.catalogue import Catalogue
from policies.conflicts import allowed_types
from policies.document import Document
from policies.engine.consolidation import consolidate
from policies.engine.from_policy import consolidation_settings, exempt_pods
from policies.enums import Rightsizing, SpotPreference

CARDS = ("autoscaling", "consolidation", "hibernation", "rightsizing", "placement", "exemptions")
BURSTABLE = ("t2", "t3", "t3a", "t4g")
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known of one cluster. `spot` is the judgement of its workloads; `saved_asleep` what its schedule saves a
    month, None when not known."""

    name: str
    facts: ClusterFacts
    at: datetime | None
    spot: SpotReadiness | None = None
    template: Blueprint | None = None
    schedule: str = ""


@dataclass(frozen=True, slots=True)
class Impact:
    """The effect of one card. `monthly` is dollars saved a month (negative: costs more); `basis` says how it was found."""

    card: str
    words: str
    monthly: Decimal | None = None
    basis: str = ""
    notes: tuple[str, ...] = field(default=())


def impact_of(document: Document, situation: Situation, catalogue: Catalogue) -> dict[str, Impact]:
    """The effect of every card on one cluster."""
    found = (
        autoscaling(document, situation, catalogue),
        consolidation(document, situation),
        hibernation(document, situation),
        rightsizing(document, situation),
        placement(document, situation),
        exemptions(document, situation),
    )
    return {one.card: one for one in found}


def add_up(found: Sequence[Mapping[str, Impact]]) -> dict[str, Impact]:
    """The effect on several clusters together: sums, and the sentences of each."""
    if len(found) == 1:
        return dict(found[0])
    whole = {}
    for card in CARDS:
        rows = [one[card] for one in found if card in one]
        known = [row.monthly for row in rows if row.monthly is not None]
        words = "; ".join(dict.fromkeys(row.words.rstrip(".") for row in rows if row.words))
        whole[card] = Impact(
            card,
            f"{words}." if words else "",
            sum(known, ZERO) if known else None,
            "; ".join(dict.fromkeys(row.basis for row in rows if row.basis)),
            tuple(dict.fromkeys(note for row in rows for note in row.notes))[:6],
        )
    return whole


def exempt(document: Document, pod: Pod) -> bool:
    """Whether no card may touch this pod."""
    return bool(document.exemptions.reason(pod.namespace, pod.labels, _name(pod)))


def autoscaling(document: Document, situation: Situation, catalogue: Catalogue) -> Impact:
    waiting = sum(pod.node is None for pod in situation.facts.pods)
    pods = f"{waiting} pod{'' if waiting == 1 else 's'}"
    if not document.autoscaling.enabled:
        words = f"{pods} wait{'s' if waiting == 1 else ''} for a node and would go on waiting" if waiting else ""
        return Impact("autoscaling", words or "No pod waits; none would get a new node either", ZERO)
    if situation.template is None:
        return Impact("autoscaling", "No node template binds it: any type could be launched", None)
    types = len(allowed_types(situation.template, catalogue))
    words = f"{pods} would get a node now" if waiting else "No pod waits for a node now"
    return Impact("autoscaling", f"{words}; {situation.template.name} allows {types} types", ZERO)


def consolidation(document: Document, situation: Situation) -> Impact:
    """What the engine would plan now; it is the same plan that enforcing begins with."""
    card = document.consolidation
    if not card.enabled:
        return Impact("consolidation", "Off: nodes stay however empty they are", ZERO)
    facts = situation.facts
    offers = [one for one in offers_for(facts.nodes) if _allowed(situation.template, one)]
    plan = consolidate(
        facts,
        consolidation_settings(card, "UTC"),
        situation.at or datetime.now(UTC),
        offers=offers,
        exempt=exempt_pods(document.exemptions, facts.pods),
    )
    gone = sum(len(action.nodes) for action in plan.actions)
    moves = sum(len(action.moves) for action in plan.actions)
    bought = sum(action.new is not None for action in plan.actions)
    words = f"{gone} of {len(facts.nodes)} nodes could go, moving {moves} pods"
    if bought:
        words += f", with {bought} cheaper in their place"
    notes = (f"{len(plan.packing.unpriced)} nodes have no price",) if plan.packing.unpriced else ()
    basis = "the plan of the last report, simulated pod by pod"
    return Impact("consolidation", words, plan.savings_hourly * HOURS_PER_MONTH, basis, notes)


def _allowed(template: Blueprint | None, offer: NodeOffer) -> bool:
    return template is None or template.allows_type(offer.instance_type)


def hibernation(document: Document, situation: Situation) -> Impact:
    if not document.hibernation.schedule:
        follows = f"follows {situation.schedule}" if situation.schedule else "follows no schedule"
        return Impact("hibernation", f"Left as it is: {situation.name} {follows}", ZERO)
    return Impact("hibernation", f"{situation.name} follows this schedule; its page shows what that saves", None)


def rightsizing(document: Document, situation: Situation) -> Impact:
    card = document.rightsizing
    if card.mode is Rightsizing.OFF:
        return Impact("rightsizing", "Off: nothing is recommended", ZERO)
    nodes = {node.name: node for node in situation.facts.nodes}
    factor = 1 + Decimal(card.headroom_percent) / 100
    worth: dict[str, Decimal] = {}
    unknown = 0
    for pod in situation.facts.pods:
        node = nodes.get(pod.node or "")
        if node is None or pod.daemonset or pod.mirror or exempt(document, pod):
            continue
        if pod.usage is None or node.hourly_price is None:
            unknown += 1
            continue
        key = pod.workload or pod.key
        worth[key] = worth.get(key, ZERO) + _spare(pod, node, factor) * HOURS_PER_MONTH
    kept = [amount for amount in worth.values() if amount >= card.minimum_monthly]
    verb = "would be resized" if card.mode is Rightsizing.APPLY else "would be shown a smaller size"
    words = f"{len(kept)} of {len(worth)} workloads {verb}"
    notes = (f"{unknown} pods have no usage or no price",) if unknown else ()
    if not worth:
        return Impact("rightsizing", "No workload has usage to judge by", None, notes=notes)
    basis = f"the last look at usage and {card.headroom_percent} % headroom; recommendations use weeks of it"
    return Impact("rightsizing", words, sum(kept, ZERO), basis, notes)


def _spare(pod: Pod, node: Node, factor: Decimal) -> Decimal:
    """Dollars an hour of what the pod requests beyond its use and the headroom; negative where it asks for too little."""
    usage = pod.usage
    if usage is None or node.hourly_price is None:
        return ZERO
    size = node.allocatable
    cpu, memory, _ = shares(size)
    spare = ZERO
    if size.cpu_milli:
        spare += _part(pod.requests.cpu_milli - usage.cpu_milli * factor, size.cpu_milli) * Decimal(float(cpu))
    if size.memory_bytes:
        spare += _part(pod.requests.memory_bytes - usage.memory_bytes * factor, size.memory_bytes) * Decimal(
            float(memory)
        )
    return spare * node.hourly_price


def _part(amount: Decimal, whole: int) -> Decimal:
    return amount / whole


def placement(document: Document, situation: Situation) -> Impact:
    card = document.placement
    if not card.active:
        return Impact("placement", "Off: pods land where the scheduler puts them", ZERO)
    parts, monthly, notes = [], ZERO if card.spot is SpotPreference.NONE else None, []
    if card.spot is not SpotPreference.NONE and situation.spot is not None:
        free = [w for w in situation.spot.workloads if not _exempt_key(document, situation.facts, w.workload)]
        ready = [w for w in free if w.ready]
        sums = [w.monthly_savings for w in ready if w.monthly_savings is not None]
        monthly = sum(sums, ZERO) if sums or not situation.spot.unknown_prices else None
        parts.append(f"{len(ready)} of {len(free)} workloads are ready for spot")
        if card.spot is SpotPreference.FORCE and len(ready) < len(free):
            notes.append(f"{len(free) - len(ready)} workloads that are not ready would be forced onto spot as well")
    if card.block_burstable:
        burst = {n.name for n in situation.facts.nodes if n.instance_type.partition(".")[0] in BURSTABLE}
        pods = sum(p.node in burst and not exempt(document, p) for p in situation.facts.pods)
        parts.append(f"{pods} pods run on burstable nodes now")
    if card.spread_zones:
        parts.append(f"{_in_one_zone(document, situation.facts)} workloads have all their replicas in one zone now")
    basis = "spot readiness of each workload and spot prices" if monthly is not None and card.spot else ""
    return Impact("placement", "; ".join(parts), monthly, basis, tuple(notes))


def _in_one_zone(document: Document, facts: ClusterFacts) -> int:
    zones = {node.name: node.zone for node in facts.nodes}
    held: dict[str, list[str]] = {}
    for pod in facts.pods:
        if pod.node in zones and not pod.daemonset and not exempt(document, pod):
            held.setdefault(pod.workload, []).append(zones[pod.node])
    return sum(len(rows) > 1 and len(set(rows)) == 1 for rows in held.values())


def exemptions(document: Document, situation: Situation) -> Impact:
    """How much is Unmanaged: its cost is counted, its savings are none."""
    workloads: set[str] = set()
    every: set[str] = set()
    for pod in situation.facts.pods:
        key = pod.workload or pod.key
        every.add(key)
        if exempt(document, pod):
            workloads.add(key)
    words = f"{len(workloads)} of {len(every)} workloads are Unmanaged: their cost counts, their savings are zero"
    return Impact("exemptions", words, None)


def _exempt_key(document: Document, facts: ClusterFacts, key: str) -> bool:
    namespace, name = key.partition("/")[0], key.rpartition("/")[2]
    labels = next((pod.labels for pod in facts.pods if pod.workload == key), {})
    return bool(document.exemptions.reason(namespace, labels, name))


def _name(pod: Pod) -> str:
    return pod.workload.rpartition("/")[2] or pod.name
