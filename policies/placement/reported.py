"""Workloads of a cluster's report as the placement rules look at them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policies.impact import Templated

Record = Mapping[str, Any]
AFFINITIES = {"node_affinity": "nodeAffinity", "pod_affinity": "podAffinity", "pod_anti_affinity": "podAntiAffinity"}


def templated(tables: Mapping[str, Mapping[str, Record]]) -> Iterator[Templated]:
    """Everything that makes pods and that nothing else made, but daemonsets, with its template."""
    specs = tables.get("specs") or {}
    for record in (tables.get("workloads") or {}).values():
        spec, kind = specs.get(str(record.get("template", ""))), str(record.get("kind", ""))
        if spec is not None and kind != "DaemonSet" and not record.get("owner"):
            space, name = str(record.get("namespace", "")), str(record.get("name", ""))
            yield Templated(space, kind, name, pod_of(spec, record))


def pod_of(spec: Record, workload: Record) -> dict[str, Any]:
    """A pod of the template, with the fields that the rules read."""
    affinity = {name: spec[key] for key, name in AFFINITIES.items() if spec.get(key)}
    claims = len(spec.get("claims") or ()) + len(workload.get("claim_templates") or ())
    volumes: list[dict[str, Any]] = [{"persistentVolumeClaim": {}}] * claims
    if "ephemeral" in (spec.get("volume_kinds") or ()):
        volumes.append({"ephemeral": {}})
    made = {
        "nodeSelector": dict(spec.get("node_selector") or {}),
        "affinity": affinity,
        "tolerations": [_toleration(one) for one in spec.get("tolerations") or ()],
        "topologySpreadConstraints": list(spec.get("spread") or ()),
        "volumes": volumes,
        "priorityClassName": str(spec.get("priority_class") or ""),
    }
    labels = {**(workload.get("labels") or {}), **(spec.get("labels") or {})}
    return {
        "metadata": {"labels": labels, "annotations": dict(spec.get("annotations") or {})},
        "spec": {key: value for key, value in made.items() if value},
    }


def _toleration(raw: Record) -> dict[str, Any]:
    return {key: raw[key] for key in ("key", "operator", "value", "effect") if raw.get(key)}
