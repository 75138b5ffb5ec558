"""What a policy would do to one cluster, card by card, from the cluster's last report. Pure; potential, never real.

Each card gets a sentence, and dollars a month where they can be worked out. None means that nobody can say, zero that it
changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from clusters.analysis.facts import HOURS_PER_MONTH, ClusterFacts, Pod
from clusters.analysis.packing import NodeOffer, offers_for
from clusters.analysis.spot_readiness import SpotReadiness
from clusters.inventory.placement import (
    FEWER_BURSTABLE,
    FORCED,
    NO_BURSTABLE,
    OFF,
    PREFERRED,
    SOFT_SPREAD,
    SPREAD,
    Placed,
    place,
)
from clusters.inventory.placement import Rules as PlacementRules
from policies.blueprint import Blueprint
from policies.catalogue import Catalogue
from policies.conflicts import allowed_types
from policies.document import Document
from policies.engine.consolidation import consolidate
from policies.engine.from_policy import consolidation_settings, exempt_pods
from policies.enums import Rightsizing
from policies.placement.compose import Composed, compose, is_burstable
from policies.rightsizing.advice import Advice, Prices, Rules, Subject, Why, advise

CARDS = ("autoscaling", "consolidation", "hibernation", "rightsizing", "placement", "exemptions")
ZERO = Decimal(0)
STAYS = {
    Why.CLOSE: "close enough",
    Why.NO_USAGE: "no usage yet",
    Why.YOUNG: "seen too briefly",
    Why.EXEMPT: "exempt",
    Why.KIND: "not a Deployment or StatefulSet",
    Why.HPA: "scaled by an autoscaler",
    Why.JVM: "memory of Java",
    Why.SAVES_LITTLE: "too little to save",
}


@dataclass(frozen=True, slots=True)
class Templated:
    """A workload with what its pods look like, as far as placement asks."""

    namespace: str
    kind: str
    name: str
    pod: Mapping[str, Any]

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known of one cluster. `spot` is the judgement of its workloads; `subjects` and `prices` are what rightsizing
    judges, without any policy's exemptions; `nodes` and `pools` are records of its report, `placed_by` the placement
    rules in force."""

    name: str
    facts: ClusterFacts
    at: datetime | None
    spot: SpotReadiness | None = None
    template: Blueprint | None = None
    schedule: str = ""
    now: datetime | None = None
    subjects: tuple[Subject, ...] = ()
    prices: Prices = field(default_factory=Prices)
    workloads: tuple[Templated, ...] = ()
    nodes: tuple[Mapping[str, Any], ...] = ()
    pools: tuple[Mapping[str, Any], ...] = ()
    cloud: str = ""
    placed_by: PlacementRules | None = None


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
    """The recommendations that the report would show under these rules."""
    card = document.rightsizing
    if card.mode is Rightsizing.OFF:
        return Impact("rightsizing", "Off: nothing is recommended", ZERO)
    rules = Rules(card.profile, card.headroom_percent, float(card.minimum_monthly))
    now = situation.now or situation.at or datetime.now(UTC)
    free = [
        replace(s, exempt=document.exemptions.reason(s.namespace, s.labels, s.name) or s.exempt)
        for s in situation.subjects
    ]
    found = [advise(subject, rules, situation.prices, now) for subject in free]
    counted = [one for one in found if one.hold is None]
    if not any(_has_figures(one) for one in counted):
        return Impact("rightsizing", "No workload has usage to judge by", None)
    changed = [one for one in counted if one.changes]
    larger = sum(one.up for one in changed)
    verb = "would be resized" if card.mode is Rightsizing.APPLY else "would be shown another size"
    words = f"{len(changed)} of {len(found)} workloads {verb}" + (f", {larger} of them larger" if larger else "")
    sums = [one.saves for one in counted if one.saves is not None]
    monthly = Decimal(str(round(sum(sums), 4))) if sums else None
    basis = "the recommendations themselves" + (f", at {situation.prices.source}" if situation.prices.source else "")
    stays = _stays(found)
    words += f"; others stay: {stays}" if stays else ""
    notes = () if sums else ("no node has a price",)
    return Impact("rightsizing", words, monthly, basis, notes)


def _has_figures(advice: Advice) -> bool:
    return any(size.wanted is not None for box in advice.boxes for size in (box.cpu, box.memory))


def _stays(found: Sequence[Advice]) -> str:
    """Why the other workloads stay as they are, the most frequent reasons."""
    counts = Counter(_why(one) for one in found if not one.changes)
    return ", ".join(f"{count} {STAYS[why]}" for why, count in counts.most_common(3) if why is not None)


def _why(advice: Advice) -> Why | None:
    holds = [advice.hold, *(size.hold for box in advice.boxes for size in (box.cpu, box.memory))]
    named = Counter(hold.why for hold in holds if hold is not None)
    return named.most_common(1)[0][0] if named else None


def placement(document: Document, situation: Situation) -> Impact:
    """What the rules that this cluster can keep would change about each workload's pods."""
    card = document.placement
    if not card.active:
        return Impact("placement", "Off: pods land where the scheduler puts them", ZERO)
    composed = compose(
        card,
        document.exemptions,
        situation.nodes,
        situation.pools,
        cloud=situation.cloud,
        known=situation.placed_by,
    )
    placed = {one.key: place(composed.rules, one.namespace, one.pod, kind=one.kind) for one in situation.workloads}
    free = [key for key, one in placed.items() if not one.exempt]
    notes = [note.rstrip(".") for note in composed.notes]
    parts: list[str] = []
    monthly: Decimal | None = ZERO
    moved = [key for key in free if {FORCED, PREFERRED} & set(placed[key].done)]
    if composed.rules.strategy != OFF:
        forced = any(FORCED in placed[key].done for key in moved)
        parts.append(f"{len(moved)} of {len(free)} workloads would {'run on spot only' if forced else 'prefer spot'}")
        judged = {w.workload: w for w in situation.spot.workloads} if situation.spot else {}
        ready = [judged[key] for key in moved if key in judged and judged[key].ready]
        sums = [w.monthly_savings for w in ready if w.monthly_savings is not None]
        known = bool(sums) or (situation.spot is not None and not situation.spot.unknown_prices)
        monthly = sum(sums, ZERO) if known else None
        if len(ready) < len(moved):
            notes.append(f"not ready for spot, so nothing is counted: {len(moved) - len(ready)} of these")
    basis = (
        "the rules on each workload's template, and spot prices of those that are ready" if parts and monthly else ""
    )
    return Impact("placement", _listed(composed, parts, placed, document, situation), monthly, basis, tuple(notes))


def _listed(
    composed: Composed, parts: Sequence[str], placed: Mapping[str, Placed], document: Document, situation: Situation
) -> str:
    """The sentence, with what the other two rules do."""
    said = list(parts)
    if composed.rules.block_burstable:
        kept = sum(bool({NO_BURSTABLE, FEWER_BURSTABLE} & set(one.done)) for one in placed.values())
        burst = {n.name for n in situation.facts.nodes if is_burstable(n.instance_type)}
        pods = sum(p.node in burst and not exempt(document, p) for p in situation.facts.pods)
        said.append(f"{kept} would be kept off burstable machines, where {pods} pods run now")
    if composed.rules.spread:
        spread = sum(bool({SPREAD, SOFT_SPREAD} & set(one.done)) for one in placed.values())
        alone = _in_one_zone(document, situation.facts)
        said.append(f"{spread} would be spread over zones; {alone} have all their replicas in one zone now")
    return "; ".join(said) or "Nothing: no rule of it can be kept here"


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


def _name(pod: Pod) -> str:
    return pod.workload.rpartition("/")[2] or pod.name
