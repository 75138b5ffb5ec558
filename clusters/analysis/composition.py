"""What the fleet is made of: lifecycle, then family, then type, with counts and cost, for the sunburst."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from clusters.analysis.facts import Node

UNKNOWN_TYPE = "unknown"
_AZURE = re.compile(r"^(?:Standard|Basic)_([A-Z]+)\d+(?:-\d+)?([a-z]*)(?:_((?!v\d)[A-Za-z]\w*?))?(?:_v(\d+))?$")
_AWS = re.compile(r"^([a-z][a-z0-9-]*)\.(?:\d+x)?[a-z0-9-]+$")


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of the fleet. `hourly` sums the priced nodes and is None when none of them has a price."""

    key: str
    nodes: int
    hourly: Decimal | None
    unpriced: int
    children: tuple[Slice, ...] = ()


def composition(nodes: Sequence[Node]) -> Slice:
    """The whole fleet as a tree of slices, the most expensive first at every level."""
    return _slice("fleet", nodes, (lambda node: str(node.lifecycle), lambda node: family_of(node.instance_type), _type))


def family_of(instance_type: str) -> str:
    """The family in the provider's own words: m5 of m5.large, n2 of n2-standard-4, Dsv5 of Standard_D4s_v5."""
    if not instance_type:
        return UNKNOWN_TYPE
    if azure := _AZURE.match(instance_type):
        letters, features, extra, version = azure.groups()
        return f"{letters}{features}{f'_{extra}' if extra else ''}{f'v{version}' if version else ''}"
    if aws := _AWS.match(instance_type):
        return aws.group(1)
    return instance_type.split("-", 1)[0]


def _type(node: Node) -> str:
    return node.instance_type or UNKNOWN_TYPE


def _slice(key: str, nodes: Sequence[Node], levels: Sequence[Callable[[Node], str]]) -> Slice:
    priced = [node.hourly_price for node in nodes if node.hourly_price is not None]
    groups: dict[str, list[Node]] = defaultdict(list)
    for node in nodes if levels else ():
        groups[levels[0](node)].append(node)
    children = [_slice(name, members, levels[1:]) for name, members in groups.items()]
    children.sort(key=lambda child: (-(child.hourly or 0), -child.nodes, child.key))
    hourly = sum(priced, Decimal(0)) if priced or not nodes else None
    return Slice(key, len(nodes), hourly, len(nodes) - len(priced), tuple(children))
