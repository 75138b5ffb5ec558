"""Nodes that are not what their node template allows.

Each rule of a template that a node breaks is one finding, with what was wanted and what is there. A fact that is not
known (a type that nobody wrote down) is no drift; such nodes are named in `unknown`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from clusters.analysis.composition import family_of
from clusters.analysis.facts import ARCH, Lifecycle, Node, Taint


class Rule(StrEnum):
    FAMILY = "family"
    TYPE = "type"
    SIZE = "size"
    ARCHITECTURE = "architecture"
    LIFECYCLE = "lifecycle"
    ZONE = "zone"
    PRICE = "price"
    LABEL = "label"
    TAINT = "taint"


@dataclass(frozen=True, slots=True)
class TemplateRules:
    """What a node template allows. Empty means anything."""

    name: str
    families: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    excluded_types: frozenset[str] = frozenset()
    excluded_sizes: frozenset[str] = frozenset()
    architectures: frozenset[str] = frozenset()
    lifecycles: frozenset[Lifecycle] = frozenset()
    zones: frozenset[str] = frozenset()
    maximum_price: Decimal | None = None
    labels: tuple[tuple[str, str], ...] = ()
    taints: tuple[Taint, ...] = ()


@dataclass(frozen=True, slots=True)
class Drift:
    """One broken rule of one node. `since` is when the node was created: drift by launching is as old as the node."""

    node: str
    rule: Rule
    wanted: str
    found: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class DriftReport:
    """`unknown` are pairs of node and rule that could not be judged."""

    template: str
    nodes: int
    drifted: tuple[Drift, ...] = ()
    unknown: tuple[tuple[str, Rule], ...] = field(default=())

    @property
    def drifted_nodes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(drift.node for drift in self.drifted))


def drift(nodes: Iterable[Node], template: TemplateRules) -> DriftReport:
    """Judge each node by each rule of the template."""
    found: list[Drift] = []
    unknown: list[tuple[str, Rule]] = []
    count = 0
    for node in nodes:
        count += 1
        for rule, wanted, value, holds in _judgements(node, template):
            if holds is None:
                unknown.append((node.name, rule))
            elif not holds:
                found.append(Drift(node.name, rule, wanted, value, node.created_at))
    return DriftReport(template.name, count, tuple(found), tuple(unknown))


_Judgement = tuple[Rule, str, str, bool | None]


def _judgements(node: Node, template: TemplateRules) -> Iterable[_Judgement]:
    yield from _type_rules(node, template)
    arch = node.labels.get(ARCH, "")
    if template.architectures:
        yield Rule.ARCHITECTURE, _any_of(template.architectures), arch, arch in template.architectures if arch else None
    if template.lifecycles:
        known = node.lifecycle is not Lifecycle.UNKNOWN
        holds = node.lifecycle in template.lifecycles if known else None
        yield Rule.LIFECYCLE, _any_of(template.lifecycles), str(node.lifecycle), holds
    if template.zones:
        yield Rule.ZONE, _any_of(template.zones), node.zone, node.zone in template.zones if node.zone else None
    if template.maximum_price is not None:
        price = node.hourly_price
        holds = None if price is None else price <= template.maximum_price
        yield Rule.PRICE, f"at most {template.maximum_price} an hour", f"{price}", holds
    for key, value in template.labels:
        yield Rule.LABEL, f"{key}={value}", f"{key}={node.labels.get(key, '')}", node.labels.get(key) == value
    for taint in template.taints:
        yield Rule.TAINT, f"{taint.key}={taint.value}:{taint.effect}", "not there", taint in node.taints


def _type_rules(node: Node, template: TemplateRules) -> Iterable[_Judgement]:
    name = node.instance_type
    family = family_of(name) if name else ""
    size = name.rpartition(".")[2] if "." in name else name.rpartition("-")[2]
    if template.families:
        yield Rule.FAMILY, _any_of(template.families), family, family in template.families if name else None
    if template.types:
        yield Rule.TYPE, _any_of(template.types), name, name in template.types if name else None
    if template.excluded_types:
        wanted = f"not {_any_of(template.excluded_types)}"
        yield Rule.TYPE, wanted, name, name not in template.excluded_types if name else None
    if template.excluded_sizes:
        wanted = f"not {_any_of(template.excluded_sizes)}"
        yield Rule.SIZE, wanted, size, size not in template.excluded_sizes if name else None


def _any_of(values: Iterable[str]) -> str:
    return " or ".join(sorted(map(str, values)))
