"""From a report's plain records to the facts that the analysis works on. Pure.

What pods of one template share is read once per template: at 10,000 pods that is what makes it quick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Protocol

from clusters.analysis.facts import (
    HOSTNAME,
    ClusterFacts,
    DisruptionBudget,
    Lifecycle,
    Node,
    Pod,
    PodTerm,
    Requirement,
    Resources,
    Selector,
    Spread,
    Taint,
    Toleration,
    Workload,
)
from clusters.figures import FINISHED, resources, top_owner

Record = Mapping[str, Any]
Tables = Mapping[str, Mapping[str, Record]]
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
NO_DISRUPTION = (
    ("karpenter.sh/do-not-disrupt", "true"),
    ("karpenter.sh/do-not-evict", "true"),
    ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
)
NO_SCALE_DOWN = (
    ("karpenter.sh/do-not-disrupt", "true"),
    ("cluster-autoscaler.kubernetes.io/scale-down-disabled", "true"),
)
MILLION = 1_000_000
LIFECYCLES = set(Lifecycle)


class PriceFact(Protocol):
    """What a node costs: a row of the database or a quote."""

    @property
    def hourly(self) -> Decimal | None: ...
    @property
    def source(self) -> str: ...
    @property
    def day(self) -> date | None: ...


def cluster_facts(tables: Tables, usage: Record, prices: Mapping[str, PriceFact]) -> ClusterFacts:
    """The facts of a report. `usage` is the last sample as it is stored; nodes without a price stay without."""
    return ClusterFacts(
        nodes=tuple(_node(name, record, prices.get(name)) for name, record in (tables.get("nodes") or {}).items()),
        pods=tuple(_Pods(tables, usage).all()),
        budgets=tuple(_budget(record) for record in (tables.get("budgets") or {}).values()),
        workloads=tuple(_workloads(tables)),
    )


def selector(raw: Any) -> Selector:
    """A label selector of the API."""
    raw = raw or {}
    equal = [Requirement(str(k), "In", (str(v),)) for k, v in sorted((raw.get("matchLabels") or {}).items())]
    return Selector((*equal, *_expressions(raw.get("matchExpressions"))))


def _expressions(raw: Any) -> tuple[Requirement, ...]:
    return tuple(
        Requirement(str(e.get("key", "")), str(e.get("operator", "In")), tuple(map(str, e.get("values") or ())))
        for e in raw or ()
    )


def _taints(raw: Any) -> tuple[Taint, ...]:
    return tuple(
        Taint(str(t.get("key", "")), str(t.get("value", "")), str(t.get("effect", "NoSchedule"))) for t in raw or ()
    )


def _says(annotations: Any, wanted: Sequence[tuple[str, str]]) -> bool:
    return any(str((annotations or {}).get(key, "")).lower() == value for key, value in wanted)


def _node(name: str, record: Record, price: PriceFact | None) -> Node:
    allocatable = record.get("allocatable") or {}
    lifecycle = str(record.get("lifecycle", "unknown"))
    made = record.get("created_at")
    return Node(
        name=name,
        allocatable=resources(allocatable),
        max_pods=int(allocatable.get("pods", 110)),
        instance_type=str(record.get("instance_type", "")),
        lifecycle=Lifecycle(lifecycle) if lifecycle in LIFECYCLES else Lifecycle.UNKNOWN,
        zone=str(record.get("zone", "")),
        hourly_price=price.hourly if price else None,
        price_source=price.source if price else "",
        price_date=price.day if price else None,
        capacity=resources(record["capacity"]) if record.get("capacity") else None,
        labels=record.get("labels") or {},
        taints=_taints(record.get("taints")),
        pool=str(record.get("group", "")),
        do_not_disrupt=_says(record.get("annotations"), NO_SCALE_DOWN),
        unschedulable=bool(record.get("unschedulable")),
        created_at=datetime.fromisoformat(made) if made else None,
    )


def _budget(record: Record) -> DisruptionBudget:
    return DisruptionBudget(
        name=str(record.get("name", "")),
        namespace=str(record.get("namespace", "")),
        selector=selector(record.get("selector")),
        min_available=record.get("min_available") or None,
        max_unavailable=record.get("max_unavailable") or None,
        disruptions_allowed=int(record.get("disruptions_allowed", 0)),
    )


def _workloads(tables: Tables) -> list[Workload]:
    specs = tables.get("specs") or {}
    found = []
    for record in (tables.get("workloads") or {}).values():
        if record.get("owner"):
            continue
        spec = specs.get(str(record.get("template", ""))) or {}
        found.append(
            Workload(
                namespace=str(record.get("namespace", "")),
                kind=str(record.get("kind", "")),
                name=str(record.get("name", "")),
                replicas=record.get("replicas"),
                labels=record.get("labels") or {},
                persistent_volumes=bool(record.get("claim_templates") or spec.get("claims")),
                grace_seconds=spec.get("grace_seconds", 30),
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class _Owner:
    kind: str
    key: str
    replicas: int | None


class _Pods:
    """Reads pods; one template and one owner are read once."""

    def __init__(self, tables: Tables, usage: Record) -> None:
        self.tables = tables
        self.specs = tables.get("specs") or {}
        self.workloads = tables.get("workloads") or {}
        self.claims = tables.get("claims") or {}
        self.volumes = tables.get("volumes") or {}
        self.used = usage.get("pods") or {}
        self._templates: dict[str, Pod] = {}

    def all(self) -> list[Pod]:
        pods = (self.tables.get("pods") or {}).items()
        return [self._pod(key, record) for key, record in pods if record.get("phase") not in FINISHED]

    def _pod(self, key: str, record: Record) -> Pod:
        template = self._template(str(record.get("spec", "")))
        space = str(record.get("namespace", ""))
        owner = self._owner(record, space)
        claims = self._claims(record, space)
        return replace(
            template,
            name=str(record.get("name", "")),
            namespace=space,
            workload=owner.key,
            node=record.get("node") or None,
            usage=_usage(self.used.get(key)),
            daemonset=owner.kind == "DaemonSet",
            mirror=owner.kind == "Node",
            owner="" if owner.kind == "Pod" else owner.kind,
            owner_replicas=owner.replicas,
            zones=self._zones(claims),
            local_volume=any(volume.get("nodes") for volume in claims),
        )

    def _owner(self, record: Record, space: str) -> _Owner:
        kind, name = top_owner(record, self.workloads)
        workload = self.workloads.get(f"{kind}/{space}/{name}")
        return _Owner(kind, f"{space}/{kind}/{name}", workload.get("replicas") if workload else None)

    def _claims(self, record: Record, space: str) -> list[Record]:
        names = (self.specs.get(str(record.get("spec", ""))) or {}).get("claims") or ()
        found = []
        for name in names:
            claim = self.claims.get(f"{space}/{name}")
            volume = self.volumes.get(str(claim.get("volume", ""))) if claim else None
            if volume:
                found.append(volume)
        return found

    @staticmethod
    def _zones(volumes: Sequence[Record]) -> frozenset[str] | None:
        """Zones in which every volume can be attached; None when no volume says."""
        sets = [frozenset(map(str, volume["zones"])) for volume in volumes if volume.get("zones")]
        return frozenset.intersection(*sets) if sets else None

    def _template(self, key: str) -> Pod:
        found = self._templates.get(key)
        if found is None:
            found = self._templates[key] = _template(self.specs.get(key) or {})
        return found


def _template(spec: Record) -> Pod:
    limits = spec.get("limits")
    return Pod(
        name="",
        requests=resources(spec.get("requests") or {}),
        limits=resources(limits) if limits else None,
        labels=spec.get("labels") or {},
        tolerations=tuple(
            Toleration(
                str(t.get("key", "")),
                str(t.get("operator") or "Equal"),
                str(t.get("value", "")),
                str(t.get("effect", "")),
            )
            for t in spec.get("tolerations") or ()
        ),
        node_selector=selector({"matchLabels": spec.get("node_selector") or {}}),
        node_affinity=_node_affinity(spec.get("node_affinity")),
        pod_affinity=_terms(spec.get("pod_affinity")),
        pod_anti_affinity=_terms(spec.get("pod_anti_affinity")),
        topology_spread=_spread(spec.get("spread")),
        priority=int(spec.get("priority", 0)),
        do_not_disrupt=_says(spec.get("annotations"), NO_DISRUPTION),
        host_ports=tuple(int(port) for port in spec.get("host_ports") or ()),
    )


def _node_affinity(raw: Any) -> tuple[Selector, ...]:
    terms = ((raw or {}).get(REQUIRED) or {}).get("nodeSelectorTerms") or ()
    return tuple(
        Selector((*_expressions(term.get("matchExpressions")), *_fields(term.get("matchFields")))) for term in terms
    )


def _fields(raw: Any) -> tuple[Requirement, ...]:
    """`metadata.name` is the one field that the scheduler knows; a node's host name label stands for it."""
    return tuple(replace(e, key=HOSTNAME) for e in _expressions(raw) if e.key == "metadata.name")


def _terms(raw: Any) -> tuple[PodTerm, ...]:
    """Required terms. Namespaces chosen by labels are taken for all of them, which forbids rather too much."""
    found = []
    for term in (raw or {}).get(REQUIRED) or ():
        spaces = ("*",) if term.get("namespaceSelector") is not None else tuple(map(str, term.get("namespaces") or ()))
        found.append(PodTerm(selector(term.get("labelSelector")), str(term.get("topologyKey") or HOSTNAME), spaces))
    return tuple(found)


def _spread(raw: Any) -> tuple[Spread, ...]:
    return tuple(
        Spread(
            selector(c.get("labelSelector")),
            str(c.get("topologyKey") or HOSTNAME),
            int(c.get("maxSkew", 1)),
            c.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule",
        )
        for c in raw or ()
    )


def _usage(boxes: Any) -> Resources | None:
    """None unless every container's CPU and memory are known: half a pod's usage is not its usage."""
    if not boxes or any(pair[0] is None or pair[1] is None for pair in boxes.values()):
        return None
    return Resources(sum(pair[0] for pair in boxes.values()) // MILLION, sum(pair[1] for pair in boxes.values()))
