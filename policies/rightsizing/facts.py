"""From a cluster's last report to what `advice` judges. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from clusters.analysis.facts import ClusterFacts
from clusters.analysis.weights import shares
from clusters.enums import HOURS_PER_MONTH
from clusters.figures import top_owner
from clusters.histograms import Histograms
from clusters.sleeping.kinds import KEEP
from clusters.sleeping.protect import MARKS
from clusters.sleeping.world import AGENT_APPS, PLATFORM_APPS, PLATFORM_NAMESPACES, app_of
from policies.document import Exemptions
from policies.rightsizing.advice import Box, Prices, Subject

Record = Mapping[str, Any]
Tables = Mapping[str, Mapping[str, Record]]
Killed = Mapping[str, Mapping[str, Mapping[str, Any]]]  # workload key -> container -> {"at": ISO time, "had": bytes}
SIZED_KINDS = ("Deployment", "StatefulSet", "DaemonSet")
OUT_OF_MEMORY = "OOMKilled"


def why_exempt(
    exemptions: Exemptions, namespace: str, name: str, labels: Mapping[str, str], annotations: Mapping[str, str]
) -> str:
    """Why a workload must be left alone, by the policy, by people's marks or because the cluster rests on it."""
    apps = app_of(labels)
    if apps & AGENT_APPS:
        return "it is Curfew's own agent"
    reason = exemptions.reason(namespace, labels, name)
    if reason:
        return reason
    if namespace in PLATFORM_NAMESPACES:
        return f"{namespace} holds the cluster together"
    if apps & PLATFORM_APPS:
        return "it holds the cluster together"
    marks = {**annotations, **labels}
    if str(marks.get(KEEP, "false")).lower() not in ("false", "0", "no"):
        return f"it is marked {KEEP}"
    mark = next((key for key, value in MARKS.items() if str(marks.get(key, "")).lower() == value), "")
    return f"it is marked {mark}" if mark else ""


def subjects(tables: Tables, use: Histograms, exemptions: Exemptions, killed: Killed) -> list[Subject]:
    """Every Deployment, StatefulSet and DaemonSet of a report."""
    specs = tables.get("specs") or {}
    scaled = _scaled(tables.get("autoscalers") or {})
    found = []
    for record in (tables.get("workloads") or {}).values():
        kind, space, name = (str(record.get(part, "")) for part in ("kind", "namespace", "name"))
        spec = specs.get(str(record.get("template", "")))
        if kind not in SIZED_KINDS or record.get("owner") or spec is None:
            continue
        key = f"{space}/{kind}/{name}"
        labels = {**(spec.get("labels") or {}), **(record.get("labels") or {})}
        marks = {**(spec.get("annotations") or {}), **(record.get("annotations") or {})}
        replicas = record.get("replicas")
        found.append(
            Subject(
                namespace=space,
                kind=kind,
                name=name,
                replicas=int(record.get("current") or 0) if replicas is None else int(replicas),
                boxes=tuple(_boxes(key, spec, use, killed.get(key) or {})),
                labels=labels,
                scales_on=scaled.get(f"{kind}/{space}/{name}", ()),
                exempt=why_exempt(exemptions, space, name, labels, marks),
            )
        )
    return sorted(found, key=lambda one: one.key)


def _boxes(key: str, spec: Record, use: Histograms, killed: Mapping[str, Mapping[str, Any]]) -> Iterable[Box]:
    for raw in spec.get("containers") or ():
        if raw.get("kind", "app") != "app":
            continue
        name = str(raw.get("name", ""))
        requests, limits = raw.get("requests") or {}, raw.get("limits") or {}
        mark = killed.get(name)
        yield Box(
            name=name,
            image=str(raw.get("image", "")),
            cpu=requests.get("cpu"),
            memory=requests.get("memory"),
            cpu_limit=limits.get("cpu"),
            memory_limit=limits.get("memory"),
            use=use.containers.get(f"{key}/{name}"),
            killed_at=datetime.fromisoformat(mark["at"]) if mark else None,
            killed_with=int(mark["had"]) if mark else 0,
        )


def _scaled(autoscalers: Mapping[str, Record]) -> dict[str, tuple[str, ...]]:
    """By workload, the resources whose share of the request an autoscaler looks at. A target that is an absolute amount
    (AverageValue) does not move with the request."""
    found: dict[str, set[str]] = {}
    for record in autoscalers.values():
        key = f"{record.get('target_kind')}/{record.get('namespace')}/{record.get('target_name')}"
        for metric in record.get("metrics") or ():
            if metric.get("target_type", "Utilization") != "AverageValue" and metric.get("name") in ("cpu", "memory"):
                found.setdefault(key, set()).add(str(metric["name"]))
    return {key: tuple(sorted(names)) for key, names in found.items()}


def kills(tables: Tables) -> dict[str, dict[str, dict[str, Any]]]:
    """The containers that were killed for lack of memory, as the report's pods tell."""
    workloads, specs = tables.get("workloads") or {}, tables.get("specs") or {}
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for pod in (tables.get("pods") or {}).values():
        for state in pod.get("states") or ():
            if state.get("exit_reason") != OUT_OF_MEMORY or not state.get("exited_at"):
                continue
            key = "/".join((str(pod.get("namespace", "")), *top_owner(pod, workloads)))
            boxes = (specs.get(str(pod.get("spec"))) or {}).get("containers") or ()
            box: Record = next((b for b in boxes if b.get("name") == state.get("name")), {})
            had = (box.get("limits") or {}).get("memory") or (box.get("requests") or {}).get("memory") or 0
            mark = {"at": str(state["exited_at"]), "had": int(had)}
            known = found.setdefault(key, {}).get(str(state["name"]))
            if known is None or known["at"] < mark["at"]:
                found[key][str(state["name"])] = mark
    return found


def merged(known: Killed, seen: Killed) -> dict[str, dict[str, dict[str, Any]]]:
    """The newest mark of each container, of what was known and what is seen now."""
    found = {key: {name: dict(mark) for name, mark in boxes.items()} for key, boxes in known.items()}
    for key, boxes in seen.items():
        mine = found.setdefault(key, {})
        for name, mark in boxes.items():
            if name not in mine or mine[name]["at"] < mark["at"]:
                mine[name] = dict(mark)
    return found


def prices_of(facts: ClusterFacts) -> Prices:
    """What a thousandth of a core and a byte cost a month on the nodes that have a price, each node's price divided as
    everywhere in Curfew (`clusters.analysis.weights`)."""
    cpu = memory = 0.0
    milli = amount = 0
    sources: dict[str, int] = {}
    for node in facts.nodes:
        size = node.capacity or node.allocatable
        if node.hourly_price is None:
            continue
        part_cpu, part_memory, _ = shares(size)
        monthly = float(node.hourly_price) * float(HOURS_PER_MONTH)
        cpu += monthly * float(part_cpu)
        memory += monthly * float(part_memory)
        milli += node.allocatable.cpu_milli
        amount += node.allocatable.memory_bytes
        day = f", {node.price_date}" if node.price_date else ""
        source = node.price_source if str(node.price_date) in node.price_source else f"{node.price_source}{day}"
        sources[source] = sources.get(source, 0) + 1
    if not milli or not amount:
        return Prices()
    named = sorted(sources, key=lambda s: -sources[s])[:2]
    return Prices(cpu / milli, memory / amount, "; ".join(named)[:300])
