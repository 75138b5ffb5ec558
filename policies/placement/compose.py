"""From a policy's cards and a cluster's inventory to rules that this cluster can keep. Pure.

A rule that nothing in the cluster could meet is left out, with a note that says so: pods never wait in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clusters.inventory.placement import FORCE, OFF, PREFER, SPOT_KEYS, Rules
from policies.document import Exemptions, Placement
from policies.enums import SpotPreference

Record = Mapping[str, Any]
_STRATEGY = {SpotPreference.NONE: OFF, SpotPreference.PREFER: PREFER, SpotPreference.FORCE: FORCE}
_SPOT_VALUES = frozenset({"spot", "ec2spot", "preemptible"})
_TRUE_KEYS = frozenset({"cloud.google.com/gke-spot", "cloud.google.com/gke-preemptible"})
KARPENTER = ("karpenter.sh/capacity-type", "spot")
_AWS_SIZES = ("nano", "micro", "small", "medium", "large", "xlarge", "2xlarge")
_AWS = ("t1.micro", *(f"{family}.{size}" for family in ("t2", "t3", "t3a", "t4g") for size in _AWS_SIZES))
_GCP = ("e2-micro", "e2-small", "e2-medium", "f1-micro", "g1-small")
_AZURE_OLD = ("B1ls", "B1s", "B1ms", "B2s", "B2ms", "B4ms", "B8ms", "B12ms", "B16ms", "B20ms")
_AZURE_NEW = tuple(
    f"B{cores}{kind}_v2"
    for cores, kinds in (
        *((c, ("s", "ls", "as", "als", "ps", "pls")) for c in (2, 4, 8, 16)),
        *((32, ("s", "ls", "as", "als")),),
        *((2, ("ts", "ats", "pts")),),
    )
    for kind in kinds
)
_AZURE = tuple(f"Standard_{size}" for size in (*_AZURE_OLD, *_AZURE_NEW))
BURSTABLE: Mapping[str, tuple[str, ...]] = {"aws": _AWS, "gcp": _GCP, "azure": _AZURE}
_LOOKS_BURSTABLE = re.compile(r"t\d[a-z]*\..+|e2-(micro|small|medium)|f1-micro|g1-small|Standard_B\d.+")
MOST_TAINTS = 20


@dataclass(frozen=True, slots=True)
class Composed:
    """Rules, and what they leave out and why."""

    rules: Rules
    notes: tuple[str, ...] = ()


def is_burstable(instance_type: str) -> bool:
    """Whether machines of this type live on CPU credits."""
    return bool(_LOOKS_BURSTABLE.fullmatch(instance_type))


def compose(
    card: Placement,
    exemptions: Exemptions,
    nodes: Iterable[Record],
    pools: Iterable[Record] = (),
    *,
    cloud: str = "",
    fallback_minutes: int = 10,
    known: Rules | None = None,
) -> Composed:
    """The rules of one cluster. `nodes` and `pools` are records of its last report.

    `known` are the rules in force: what they know of the cluster stays known, so that a spot node that comes and goes
    changes no rule and starts no rolling update. Pods for which there is no room now are let off one by one.
    """
    machines, karpenter = list(nodes), list(pools)
    known = known or Rules()
    notes: list[str] = []
    spot = _sticky(markers(machines, karpenter), known, machines, karpenter)
    strategy = _STRATEGY[card.spot]
    if strategy != OFF and not spot:
        unnamed = any(node.get("lifecycle") == "spot" for node in machines)
        notes.append(
            "Its spot nodes carry no label that says so, and a rule can name them by nothing else: pods are left where "
            "they are."
            if unnamed
            else "No node of this cluster is spot and no Karpenter pool may launch spot: pods are left where they are."
        )
        strategy = OFF
    block, types = card.block_burstable, tuple(sorted({*_burstable(machines, cloud), *known.burstable}))
    if (
        block
        and not known.block_burstable
        and not karpenter
        and machines
        and all(is_burstable(str(n.get("instance_type", ""))) for n in machines)
    ):
        notes.append("Every node of this cluster is burstable: pods would have nowhere to go, so the rule rests.")
        block = False
    zones = {str(node.get("zone", "")) for node in machines} - {""}
    spread = card.spread_zones
    if spread and not known.spread and len(zones) < 2:
        notes.append("Its nodes are in one zone: there is nothing to spread over, so the rule rests.")
        spread = False
    rules = Rules(
        strategy=strategy,
        block_burstable=block,
        spread=spread,
        fallback_minutes=fallback_minutes,
        exempt_namespaces=frozenset(exemptions.namespaces),
        exempt_labels=tuple(exemptions.labels),
        spot=tuple(spot) if strategy != OFF else (),
        tolerations=tuple(sorted({*_tolerations(machines), *known.tolerations}))[:MOST_TAINTS]
        if strategy != OFF
        else (),
        burstable=types if block else (),
    )
    return Composed(rules, tuple(notes))


def markers(nodes: Sequence[Record], pools: Sequence[Record] = ()) -> list[tuple[str, str]]:
    """The fewest labels by which every spot node can be found, and those that Karpenter may still launch."""
    carried = [_marks(node.get("labels") or {}) for node in nodes if node.get("lifecycle") == "spot"]
    if any(_may_launch_spot(pool) for pool in pools):
        carried.append({KARPENTER})
    left = [marks for marks in carried if marks]
    chosen: list[tuple[str, str]] = []
    while left:
        counts: dict[tuple[str, str], int] = {}
        for marks in left:
            for mark in marks:
                counts[mark] = counts.get(mark, 0) + 1
        best = min(counts, key=lambda mark: (-counts[mark], mark))
        chosen.append(best)
        left = [marks for marks in left if best not in marks]
    return chosen


def _sticky(
    found: list[tuple[str, str]], known: Rules, nodes: Sequence[Record], pools: Sequence[Record]
) -> list[tuple[str, str]]:
    """The labels in force, while they find every spot node that there is; else those that do."""
    if not known.spot:
        return found
    held = set(known.spot)
    carried = [_marks(node.get("labels") or {}) for node in nodes if node.get("lifecycle") == "spot"]
    carried += [{KARPENTER} for pool in pools if _may_launch_spot(pool)]
    return list(known.spot) if all(not marks or marks & held for marks in carried) else found


def _marks(labels: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {
        (key, str(labels[key]))
        for key in SPOT_KEYS & set(labels)
        if str(labels[key]).lower() in _SPOT_VALUES or (key in _TRUE_KEYS and labels[key] == "true")
    }


def _may_launch_spot(pool: Record) -> bool:
    for one in pool.get("requirements") or ():
        if isinstance(one, Mapping) and one.get("key") == KARPENTER[0] and one.get("operator") == "In":
            return "spot" in (one.get("values") or ())
    return False


def _tolerations(nodes: Sequence[Record]) -> list[tuple[str, str, str]]:
    """Taints by which this cluster keeps ordinary pods off its spot nodes; never one that says something else."""
    found = {
        (str(t.get("key", "")), str(t.get("value", "")), str(t.get("effect", "")))
        for node in nodes
        if node.get("lifecycle") == "spot"
        for t in node.get("taints") or ()
        if t.get("effect") in ("NoSchedule", "PreferNoSchedule") and _is_spot_taint(t)
    }
    return sorted(found)[:MOST_TAINTS]


def _is_spot_taint(taint: Record) -> bool:
    key, value = str(taint.get("key", "")), str(taint.get("value", ""))
    return key in SPOT_KEYS or value.lower() in _SPOT_VALUES or "spot" in re.split(r"[^a-z]+", key.lower())


def _burstable(nodes: Sequence[Record], cloud: str) -> tuple[str, ...]:
    """Names of burstable types of this cloud, and of any other that is here."""
    here = {str(node.get("instance_type", "")) for node in nodes}
    return tuple(sorted({*BURSTABLE.get(cloud, ()), *(name for name in here if is_burstable(name))}))
