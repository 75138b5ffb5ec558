"""Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs and CronJobs."""

from __future__ import annotations

from typing import Any

from agent.wire.build.common import (
    flag,
    items,
    kept_annotations,
    mapping,
    maybe_number,
    number,
    owner,
    shared,
    strings,
    text,
    time,
)
from agent.wire.model import Workload


def workload(obj: dict[str, Any], kind: str, template: str = "") -> Workload:
    """Return the record of a workload whose pod template is stored under the key `template`."""
    spec, status = mapping(obj, "spec"), mapping(obj, "status")
    figures = _FIGURES.get(kind, _replicated)(spec, status)
    return Workload(
        kind=kind,
        namespace=shared(obj, "metadata", "namespace"),
        name=text(obj, "metadata", "name"),
        uid=text(obj, "metadata", "uid"),
        created_at=time(obj, "metadata", "creationTimestamp"),
        owner=owner(obj),
        template=template,
        labels=strings(obj, "metadata", "labels"),
        annotations=kept_annotations(obj),
        **figures,
    )


def pod_template(obj: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the pod template of a workload; {} when the record does not keep it."""
    if kind == "CronJob":
        return mapping(obj, "spec", "jobTemplate", "spec", "template")
    if kind in {"ReplicaSet", "Job"} and owner(obj) is not None:
        return {}
    return mapping(obj, "spec", "template")


def worth_keeping(obj: dict[str, Any], kind: str) -> bool:
    """Return whether a workload matters: not a ReplicaSet of an older revision."""
    if kind != "ReplicaSet" or owner(obj) is None:
        return True
    return bool(number(obj, "spec", "replicas", default=1) or number(obj, "status", "replicas"))


def _replicated(spec: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    strategy = text(spec, "strategy", "type") or text(spec, "updateStrategy", "type")
    return {
        "replicas": maybe_number(spec, "replicas"),
        "ready": number(status, "readyReplicas"),
        "available": number(status, "availableReplicas"),
        "current": number(status, "replicas"),
        "paused": flag(spec, "paused"),
        "selector": mapping(spec, "selector"),
        "strategy": strategy,
        "claim_templates": tuple(text(c, "metadata", "name") for c in items(spec, "volumeClaimTemplates")),
    }


def _daemon(spec: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    return {
        "replicas": maybe_number(status, "desiredNumberScheduled"),
        "ready": number(status, "numberReady"),
        "available": number(status, "numberAvailable"),
        "current": number(status, "currentNumberScheduled"),
        "selector": mapping(spec, "selector"),
        "strategy": text(spec, "updateStrategy", "type"),
    }


def _job(spec: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    failed = [c for c in items(status, "conditions") if c.get("type") == "Failed" and c.get("status") == "True"]
    return {
        "parallelism": maybe_number(spec, "parallelism"),
        "completions": maybe_number(spec, "completions"),
        "suspended": flag(spec, "suspend"),
        "current": number(status, "active"),
        "ready": number(status, "ready"),
        "finished_at": time(status, "completionTime") or (time(failed[0], "lastTransitionTime") if failed else None),
    }


def _cron(spec: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    return {
        "schedule": text(spec, "schedule"),
        "time_zone": text(spec, "timeZone"),
        "suspended": flag(spec, "suspend"),
        "deadline_seconds": maybe_number(spec, "startingDeadlineSeconds"),
        "last_run_at": time(status, "lastScheduleTime"),
        "current": len(items(status, "active")),
    }


_FIGURES = {"DaemonSet": _daemon, "Job": _job, "CronJob": _cron}
