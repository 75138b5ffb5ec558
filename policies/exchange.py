"""Node templates to and from Karpenter's NodePool and EC2NodeClass, version 1. Pure.

What one side cannot say is never lost silently: `Export.notes` and `Import.notes` name it. What only we know travels in an
annotation of the NodePool, so that an exported template comes back as it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from clusters.analysis.facts import Taint
from policies.blueprint import Blueprint
from policies.catalogue import Catalogue
from policies.enums import Architecture, DiskType, Purchasing, Strategy

POOL_API, CLASS_API = "karpenter.sh/v1", "karpenter.k8s.aws/v1"
CLASS_GROUP = "karpenter.k8s.aws"
ANNOTATION = "curfew.dev/node-template"
ARCH, OS, ZONE = "kubernetes.io/arch", "kubernetes.io/os", "topology.kubernetes.io/zone"
CAPACITY = "karpenter.sh/capacity-type"
FAMILY, SIZE = "karpenter.k8s.aws/instance-family", "karpenter.k8s.aws/instance-size"
CATEGORY, GENERATION = "karpenter.k8s.aws/instance-category", "karpenter.k8s.aws/instance-generation"
DISCOVERY = "karpenter.sh/discovery"
LARGEST = 256 * 1024
MOST_DOCUMENTS = 20
CAPACITY_WORDS = {
    Purchasing.SPOT: ["spot"],
    Purchasing.ON_DEMAND: ["on-demand"],
    Purchasing.HYBRID: ["on-demand", "spot"],
}
ROOT_DEVICE, DATA_DEVICE = "/dev/xvda", "/dev/xvdb"
IOPS = 3000
_GIB = {"Gi": 1, "Ti": 1024}
_QUANTITY = re.compile(r"(\d+)(Gi|Ti|G|T)")


class InvalidManifest(ValueError):
    """What was given is no NodePool and EC2NodeClass that can be read."""


@dataclass(frozen=True, slots=True)
class Export:
    """The two objects, and what of the template Karpenter cannot say."""

    pool: dict[str, Any]
    node_class: dict[str, Any]
    notes: tuple[str, ...]

    def text(self) -> str:
        """Both as YAML, the notes as comments in front."""
        head = "".join(f"# {note}\n" for note in self.notes)
        return head + "---\n".join(
            yaml.safe_dump(one, sort_keys=False, default_flow_style=False, width=120)
            for one in (self.node_class, self.pool)
        )


@dataclass(frozen=True, slots=True)
class Import:
    """The template that a NodePool and its EC2NodeClass describe, and what was not taken over."""

    blueprint: Blueprint
    notes: tuple[str, ...]


def object_name(name: str) -> str:
    """A template's name as the name of a Kubernetes object."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-")
    return plain or "template"


def to_karpenter(blueprint: Blueprint, *, cluster: str = "CLUSTER_NAME") -> Export:
    """The template as Karpenter's objects. `cluster` fills the discovery tag and the node role where the template names
    no security groups, subnets or role, as Karpenter's own set-up names them."""
    name = object_name(blueprint.name)
    requirements = [_requirement(OS, "In", ["linux"])]
    requirements.append(_requirement(CAPACITY, "In", CAPACITY_WORDS[blueprint.purchasing]))
    if blueprint.architectures:
        requirements.append(_requirement(ARCH, "In", sorted(map(str, blueprint.architectures))))
    if blueprint.families:
        requirements.append(_requirement(FAMILY, "In", sorted(blueprint.families)))
    if blueprint.excluded_sizes:
        requirements.append(_requirement(SIZE, "NotIn", sorted(blueprint.excluded_sizes)))
    if blueprint.zones:
        requirements.append(_requirement(ZONE, "In", list(blueprint.zones)))
    template: dict[str, Any] = {
        "spec": {
            "nodeClassRef": {"group": CLASS_GROUP, "kind": "EC2NodeClass", "name": name},
            "requirements": requirements,
            "expireAfter": "720h",
        }
    }
    if blueprint.labels:
        template["metadata"] = {"labels": dict(blueprint.labels)}
    if blueprint.taints:
        template["spec"]["taints"] = [_taint(taint) for taint in blueprint.taints]
    spec: dict[str, Any] = {"template": template, "weight": max(1, min(100, blueprint.weight))}
    limits = {}
    if blueprint.limit_cpu is not None:
        limits["cpu"] = str(blueprint.limit_cpu)
    if blueprint.limit_memory_gib is not None:
        limits["memory"] = f"{blueprint.limit_memory_gib}Gi"
    if limits:
        spec["limits"] = limits
    spec["disruption"] = {"consolidationPolicy": "WhenEmpty", "consolidateAfter": "10m"}
    pool = {
        "apiVersion": POOL_API,
        "kind": "NodePool",
        "metadata": {"name": name, "annotations": {ANNOTATION: json.dumps(_ours(blueprint), sort_keys=True)}},
        "spec": spec,
    }
    return Export(pool, _node_class(blueprint, name, cluster), tuple(_unsaid(blueprint, cluster)))


def _node_class(blueprint: Blueprint, name: str, cluster: str) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "amiSelectorTerms": [{"alias": blueprint.image}],
        "role": blueprint.node_role or f"KarpenterNodeRole-{cluster}",
        "subnetSelectorTerms": [{"id": one} for one in blueprint.subnets] or [{"tags": {DISCOVERY: cluster}}],
        "securityGroupSelectorTerms": [{"id": one} for one in blueprint.security_groups]
        or [{"tags": {DISCOVERY: cluster}}],
    }
    if blueprint.disk_type is DiskType.EPHEMERAL:
        spec["instanceStorePolicy"] = "RAID0"
    else:
        ebs: dict[str, Any] = {
            "volumeSize": f"{blueprint.disk_gib}Gi",
            "volumeType": str(blueprint.disk_type),
            "encrypted": True,
            "deleteOnTermination": True,
        }
        if blueprint.disk_type in (DiskType.IO1, DiskType.IO2):
            ebs["iops"] = max(100, min(IOPS, blueprint.disk_gib * 50))
        spec["blockDeviceMappings"] = [{"deviceName": _device(blueprint.image), "rootVolume": True, "ebs": ebs}]
    return {"apiVersion": CLASS_API, "kind": "EC2NodeClass", "metadata": {"name": name}, "spec": spec}


def _device(image: str) -> str:
    """Where containers live: Bottlerocket keeps them on a volume beside the system's."""
    return DATA_DEVICE if image.startswith("bottlerocket@") else ROOT_DEVICE


def _ours(blueprint: Blueprint) -> dict[str, Any]:
    """What Karpenter has no field for."""
    kept: dict[str, Any] = {"name": blueprint.name, "strategy": str(blueprint.strategy)}
    if blueprint.purchasing is Purchasing.HYBRID:
        kept |= {"on_demand_base": blueprint.on_demand_base, "on_demand_percent": blueprint.on_demand_percent}
    if blueprint.disk_type is DiskType.EPHEMERAL:
        kept["disk_gib"] = blueprint.disk_gib
    return kept


def _unsaid(blueprint: Blueprint, cluster: str) -> Iterable[str]:
    if blueprint.purchasing is Purchasing.HYBRID and (blueprint.on_demand_base or blueprint.on_demand_percent):
        yield (
            f"Karpenter knows no on-demand base ({blueprint.on_demand_base}) or percentage "
            f"({blueprint.on_demand_percent} %): it takes spot where it can and on-demand where a pod asks for it."
        )
    if blueprint.strategy is Strategy.LOWEST_PRICE and blueprint.purchasing is not Purchasing.ON_DEMAND:
        yield "Karpenter always allocates spot by price and capacity together; lowest price alone cannot be asked of it."
    if not blueprint.security_groups or not blueprint.subnets:
        yield f"Security groups or subnets are found by the tag {DISCOVERY}={cluster}."
    if not blueprint.node_role:
        yield f"The role of the nodes is KarpenterNodeRole-{cluster}, as Karpenter's own set-up names it."


def _requirement(key: str, operator: str, values: Sequence[str]) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": list(values)}


def _taint(taint: Taint) -> dict[str, str]:
    return {"key": taint.key, **({"value": taint.value} if taint.value else {}), "effect": taint.effect}


def from_karpenter(text: str, catalogue: Catalogue) -> list[Import]:
    """Every NodePool of the text with its EC2NodeClass. Raises InvalidManifest with what is wrong."""
    documents = _documents(text)
    classes = {_name(one): one for one in documents if one.get("kind") == "EC2NodeClass"}
    pools = [one for one in documents if one.get("kind") == "NodePool"]
    if not pools:
        raise InvalidManifest("There is no NodePool in it.")
    for one in (*pools, *classes.values()):
        wanted = POOL_API if one["kind"] == "NodePool" else CLASS_API
        if one.get("apiVersion") != wanted:
            raise InvalidManifest(f"{one['kind']} {_name(one)} is of {one.get('apiVersion')}; only {wanted} is read.")
    return [_Reader(pool, classes, catalogue).read() for pool in pools]


def _documents(text: str) -> list[dict[str, Any]]:
    if len(text.encode()) > LARGEST:
        raise InvalidManifest(f"More than {LARGEST // 1024} KiB are not read.")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise InvalidManifest("Anchors and aliases are not read; write the values out.")
        found = [one for one in yaml.safe_load_all(text) if one is not None]
    except (yaml.YAMLError, ValueError, RecursionError) as broken:
        if isinstance(broken, InvalidManifest):
            raise
        mark = getattr(broken, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise InvalidManifest(f"This is not YAML{where}.") from None
    flat: list[Any] = []
    for one in found:
        flat += one.get("items") or [] if isinstance(one, dict) and one.get("kind") == "List" else [one]
    if len(flat) > MOST_DOCUMENTS:
        raise InvalidManifest(f"At most {MOST_DOCUMENTS} objects at once.")
    if not all(isinstance(one, dict) for one in flat):
        raise InvalidManifest("Each document must be an object of Kubernetes.")
    return flat


def _name(one: Mapping[str, Any]) -> str:
    return str(_object(one.get("metadata"), "metadata").get("name", ""))


def _object(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidManifest(f"{where} must be an object.")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidManifest(f"{where} must be a list.")
    return value


class _Reader:
    """Reads one NodePool with its class."""

    def __init__(self, pool: Mapping[str, Any], classes: Mapping[str, Mapping[str, Any]], catalogue: Catalogue) -> None:
        self.pool, self.catalogue = pool, catalogue
        self.notes: list[str] = []
        self.spec = _object(pool.get("spec"), "spec")
        self.template = _object(self.spec.get("template"), "spec.template")
        self.inner = _object(self.template.get("spec"), "spec.template.spec")
        ref = str(_object(self.inner.get("nodeClassRef"), "nodeClassRef").get("name", ""))
        self.node_class = _object(classes.get(ref, {}).get("spec"), "spec of the EC2NodeClass")
        if ref not in classes:
            self.notes.append(
                f"The EC2NodeClass {ref or '(unnamed)'} is not in the text: disk and network are defaults."
            )

    def read(self) -> Import:
        blueprint = self._requirements(Blueprint(name=_name(self.pool)))
        blueprint = self._of_pool(blueprint)
        blueprint = self._of_class(blueprint)
        blueprint = self._ours(blueprint)
        known = {"template", "limits", "weight", "disruption"}
        self._left_out("spec", self.spec, known)
        self._left_out("spec.template.spec", self.inner, {"nodeClassRef", "requirements", "taints", "expireAfter"})
        return Import(blueprint, tuple(self.notes))

    def _left_out(self, where: str, value: Mapping[str, Any], known: Iterable[str]) -> None:
        self.notes += [f"Not taken over: {where}.{key}." for key in sorted(set(map(str, value)) - set(known))]

    def _requirements(self, blueprint: Blueprint) -> Blueprint:
        """What may be launched. Requirements on the kind of type narrow the families; each must hold."""
        families: set[str] | None = None
        excluded: set[str] = set()
        for raw in _list(self.inner.get("requirements"), "requirements"):
            one = _object(raw, "requirements")
            key, operator = str(one.get("key", "")), str(one.get("operator", ""))
            values = [str(v) for v in _list(one.get("values"), f"values of {key}")]
            if key == SIZE and operator in ("In", "NotIn"):
                excluded |= set(values) if operator == "NotIn" else self._other_sizes(values)
            elif (chosen := self._families(key, operator, values)) is not None:
                families = chosen if families is None else families & chosen
            elif operator == "In" and key in (ARCH, CAPACITY, ZONE, OS):
                blueprint = self._plain(blueprint, key, values)
            else:
                self._wider(key, operator, values)
        if families is not None and not families:
            raise InvalidManifest("Its requirements leave no instance family.")
        return replace(blueprint, families=frozenset(families or ()), excluded_sizes=frozenset(excluded))

    def _plain(self, blueprint: Blueprint, key: str, values: Sequence[str]) -> Blueprint:
        """A requirement that has a field of its own."""
        if key == ARCH:
            return replace(blueprint, architectures=frozenset(map(self._arch, values)))
        if key == CAPACITY:
            return replace(blueprint, purchasing=self._purchasing(values))
        if key == ZONE:
            return replace(blueprint, zones=tuple(values))
        if list(values) != ["linux"]:
            raise InvalidManifest("Only Linux nodes can be a node template.")
        return blueprint

    def _other_sizes(self, values: Sequence[str]) -> set[str]:
        return {t.size for t in self.catalogue.types.values()} - set(values)

    def _wider(self, key: str, operator: str, values: Sequence[str]) -> None:
        said = f"{key} {operator} {', '.join(values)}".strip()
        self.notes.append(f"Not taken over, so that the template allows more than the NodePool: {said}.")

    def _arch(self, value: str) -> Architecture:
        try:
            return Architecture(value)
        except ValueError:
            raise InvalidManifest(f"{value} is no architecture that is known here.") from None

    def _purchasing(self, values: Sequence[str]) -> Purchasing:
        wanted = set(values)
        if "reserved" in wanted:
            self.notes.append("Not taken over: capacity type reserved.")
        wanted &= {"spot", "on-demand"}
        if wanted == {"spot"}:
            return Purchasing.SPOT
        if wanted == {"on-demand"}:
            return Purchasing.ON_DEMAND
        if not wanted:
            raise InvalidManifest("Its capacity type is neither spot nor on-demand.")
        return Purchasing.HYBRID

    def _families(self, key: str, operator: str, values: Sequence[str]) -> set[str] | None:
        """The families that a requirement leaves; None when it does not speak of them, or cannot be said so."""
        known = self.catalogue.families()
        if key == FAMILY and operator == "In":
            return set(values)
        if key == FAMILY and operator == "NotIn":
            return set(known) - set(values)
        letters = {family: _letters(family) for family in known}
        if key == CATEGORY and operator in ("In", "NotIn"):
            return {f for f, (category, _) in letters.items() if (category in values) == (operator == "In")}
        test = _comparison(operator, values) if key == GENERATION else None
        return None if test is None else {f for f, (_, generation) in letters.items() if test(generation)}

    def _of_pool(self, blueprint: Blueprint) -> Blueprint:
        labels = _object(_object(self.template.get("metadata"), "metadata").get("labels"), "labels")
        taints = [
            Taint(str(t.get("key", "")), str(t.get("value", "")), str(t.get("effect", "")))
            for t in (_object(raw, "taints") for raw in _list(self.inner.get("taints"), "taints"))
        ]
        limits = _object(self.spec.get("limits"), "limits")
        self._left_out("spec.limits", limits, {"cpu", "memory"})
        weight = self.spec.get("weight")
        return replace(
            blueprint,
            labels=tuple(sorted((str(k), str(v)) for k, v in labels.items())),
            taints=tuple(taints),
            limit_cpu=self._cores(limits.get("cpu")),
            limit_memory_gib=self._gib(limits.get("memory"), "limits.memory"),
            weight=weight if isinstance(weight, int) and 1 <= weight <= 100 else blueprint.weight,
        )

    def _cores(self, value: Any) -> int | None:
        if value is None:
            return None
        text = str(value)
        if text.isdigit():
            return int(text)
        if text.endswith("k") and text[:-1].isdigit():
            return int(text[:-1]) * 1000
        self.notes.append(f"Not taken over: limits.cpu {text[:40]}.")
        return None

    def _gib(self, value: Any, where: str) -> int | None:
        if value is None:
            return None
        match = _QUANTITY.fullmatch(str(value))
        if match and match[2] in _GIB:
            return int(match[1]) * _GIB[match[2]]
        if match:
            size = int(match[1]) * 10 ** (9 if match[2] == "G" else 12)
            return max(1, round(size / 1024**3))
        self.notes.append(f"Not taken over: {where} {str(value)[:40]}.")
        return None

    def _of_class(self, blueprint: Blueprint) -> Blueprint:
        spec = self.node_class
        if not spec:
            return blueprint
        image = self._term(spec, "amiSelectorTerms", "alias") or [blueprint.image]
        blueprint = replace(
            blueprint,
            image=image[0],
            node_role=str(spec.get("role", "")),
            security_groups=tuple(self._term(spec, "securityGroupSelectorTerms", "id")),
            subnets=tuple(self._term(spec, "subnetSelectorTerms", "id")),
        )
        known = {"amiFamily", "amiSelectorTerms", "role", "securityGroupSelectorTerms", "subnetSelectorTerms"}
        self._left_out("EC2NodeClass.spec", spec, {*known, "blockDeviceMappings", "instanceStorePolicy"})
        if spec.get("instanceStorePolicy") == "RAID0":
            return replace(blueprint, disk_type=DiskType.EPHEMERAL)
        return self._disk(blueprint, _list(spec.get("blockDeviceMappings"), "blockDeviceMappings"))

    def _term(self, spec: Mapping[str, Any], field: str, key: str) -> list[str]:
        terms = [_object(raw, field) for raw in _list(spec.get(field), field)]
        found = [str(term[key]) for term in terms if term.get(key)]
        if len(found) < len(terms):
            self.notes.append(f"Not taken over: terms of {field} without {key}; choose them in the template.")
        return found

    def _disk(self, blueprint: Blueprint, mappings: Sequence[Any]) -> Blueprint:
        rows = [_object(raw, "blockDeviceMappings") for raw in mappings]
        if not rows:
            return blueprint
        root = next((row for row in rows if row.get("rootVolume")), rows[0])
        if len(rows) > 1:
            self.notes.append(f"Not taken over: {len(rows) - 1} further volume(s).")
        ebs = _object(root.get("ebs"), "ebs")
        kind = str(ebs.get("volumeType", "gp3"))
        try:
            blueprint = replace(blueprint, disk_type=DiskType(kind))
        except ValueError:
            self.notes.append(f"Not taken over: volume type {kind}; gp3 is set.")
        self._left_out("ebs", ebs, {"volumeType", "volumeSize", "encrypted", "deleteOnTermination", "iops"})
        return replace(blueprint, disk_gib=self._gib(ebs.get("volumeSize"), "volumeSize") or blueprint.disk_gib)

    def _ours(self, blueprint: Blueprint) -> Blueprint:
        """What an export of ours kept beside; anything unreadable is left out."""
        notes = _object(_object(self.pool.get("metadata"), "metadata").get("annotations"), "annotations")
        try:
            kept = json.loads(str(notes.get(ANNOTATION, "{}")))
            strategy = Strategy(kept.get("strategy", blueprint.strategy))
            base, percent = int(kept.get("on_demand_base", 0)), int(kept.get("on_demand_percent", 0))
            disk = int(kept.get("disk_gib", blueprint.disk_gib))
            name = str(kept.get("name", blueprint.name))[:63] or blueprint.name
        except (ValueError, TypeError, AttributeError):
            self.notes.append(f"Not taken over: the annotation {ANNOTATION} cannot be read.")
            return blueprint
        if object_name(name) != _name(self.pool):
            name = _name(self.pool)  # renamed since
        hybrid = blueprint.purchasing is Purchasing.HYBRID
        return replace(
            blueprint,
            name=name,
            strategy=strategy,
            on_demand_base=max(0, base) if hybrid else 0,
            on_demand_percent=min(100, max(0, percent)) if hybrid else 0,
            disk_gib=max(1, disk),
        )


def _letters(family: str) -> tuple[str, int]:
    """Category letters and generation of a family: ("m", 6) of m6i, ("im", 4) of im4gn."""
    match = re.match(r"([a-z]+)(\d+)", family)
    return (match[1], int(match[2])) if match else (family, 0)


def _comparison(operator: str, values: Sequence[str]) -> Callable[[int], bool] | None:
    """The test that a requirement on a number makes; None when it makes none that is understood."""
    try:
        numbers = [int(value) for value in values]
    except ValueError:
        return None
    if not numbers:
        return None
    first = numbers[0]
    tests: dict[str, Callable[[int], bool]] = {
        "In": lambda n: n in numbers,
        "NotIn": lambda n: n not in numbers,
        "Gt": lambda n: n > first,
        "Lt": lambda n: n < first,
        "Gte": lambda n: n >= first,
        "Lte": lambda n: n <= first,
    }
    return tests.get(operator)
