"""Pods and what the scheduler reserves for them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

from agent.wire.build.common import (
    amounts,
    at,
    conditions,
    flag,
    is_true,
    items,
    kept_annotations,
    mapping,
    maybe_number,
    number,
    owner,
    shared,
    strings,
    text,
    texts,
    time,
)
from agent.wire.delta import canonical
from agent.wire.model import Amounts, Container, ContainerState, Pod, PodSpec, Toleration
from agent.wire.quantities import LARGEST

_POD_LEVEL = ("cpu", "memory")
_BEST_EFFORT, _BURSTABLE, _GUARANTEED = "BestEffort", "Burstable", "Guaranteed"
_LONGEST_DETAIL = 300


def spec_key(wire: dict[str, Any]) -> str:
    """Return the key under which a spec is stored: a hash of its content."""
    return sys.intern(blake2b(canonical(wire), digest_size=9).hexdigest())


def _container(obj: dict[str, Any], kind: str) -> Container:
    limits = amounts(obj, "resources", "limits")
    requests = amounts(obj, "resources", "requests")
    return Container(shared(obj, "name"), shared(obj, "image"), kind, {**limits, **requests}, limits)


def _containers(spec: dict[str, Any]) -> tuple[Container, ...]:
    before = [
        _container(c, "sidecar" if c.get("restartPolicy") == "Always" else "init")
        for c in items(spec, "initContainers")
    ]
    return (*before, *(_container(c, "app") for c in items(spec, "containers")))


def _add(total: Amounts, more: Amounts) -> None:
    for name, value in more.items():
        total[name] = min(LARGEST, total.get(name, 0) + value)


def _raise_to(total: Amounts, floor: Amounts) -> None:
    for name, value in floor.items():
        total[name] = max(total.get(name, 0), value)


def reserved(containers: Iterable[Container], field: str, overhead: Amounts, pod_level: Amounts) -> Amounts:
    """Return what the scheduler counts for a pod.

    Apps plus sidecars, or, if larger, an init container plus the sidecars started before it; pod-level figures of cpu,
    memory and huge pages take the place of the sum; overhead comes on top.
    """
    running: Amounts = {}
    sidecars: Amounts = {}
    starting: Amounts = {}
    for container in containers:
        wanted: Amounts = getattr(container, field)
        if container.kind == "init":
            step = dict(sidecars)
            _add(step, wanted)
            _raise_to(starting, step)
            continue
        if container.kind == "sidecar":
            _add(sidecars, wanted)
            _raise_to(starting, sidecars)
        _add(running, wanted)
    _raise_to(running, starting)
    for name, value in pod_level.items():
        if name in _POD_LEVEL or name.startswith("hugepages-"):
            running[name] = value
    _add(running, overhead)
    return running


def _qos(containers: Iterable[Container], pod_requests: Amounts, pod_limits: Amounts) -> str:
    """Return the quality of service class as the kubelet derives it."""
    boxes = [(c.requests, c.limits) for c in containers]
    if pod_requests or pod_limits:
        boxes = [({**pod_limits, **pod_requests}, pod_limits)]
    asked = any(r.get(n) or limit.get(n) for r, limit in boxes for n in _POD_LEVEL)
    if not asked:
        return _BEST_EFFORT
    full = all(limit.get(n) and r.get(n) == limit[n] for r, limit in boxes for n in _POD_LEVEL)
    return _GUARANTEED if full else _BURSTABLE


def _tolerations(spec: dict[str, Any]) -> tuple[Toleration, ...]:
    return tuple(
        Toleration(
            shared(t, "key"),
            shared(t, "operator"),
            text(t, "value"),
            shared(t, "effect"),
            maybe_number(t, "tolerationSeconds"),
        )
        for t in items(spec, "tolerations")
    )


def _volumes(spec: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the claims and the kinds of the volumes that tie a pod to its node or may hold data."""
    claims, kinds = [], set()
    for volume in items(spec, "volumes"):
        claim = text(volume, "persistentVolumeClaim", "claimName")
        if claim:
            claims.append(claim)
        kinds |= {kind for kind in ("emptyDir", "hostPath", "ephemeral", "csi", "nfs") if kind in volume}
    return tuple(sorted(claims)), tuple(sorted(kinds))


def _container_security(obj: dict[str, Any], pod_level: dict[str, Any]) -> set[str]:
    own = mapping(obj, "securityContext")
    found = {f"adds {capability}" for capability in texts(own, "capabilities", "add")}
    if flag(own, "privileged"):
        found.add("privileged")
    if at(own, "allowPrivilegeEscalation") is not False:
        found.add("may escalate")
    non_root = own.get("runAsNonRoot", pod_level.get("runAsNonRoot"))
    user = own.get("runAsUser", pod_level.get("runAsUser"))
    if user == 0 or (user is None and non_root is not True):
        found.add("runs as root" if user == 0 else "may run as root")
    if at(own, "readOnlyRootFilesystem") is not True:
        found.add("writable root")
    if not at(own, "seccompProfile", "type") and not at(pod_level, "seccompProfile", "type"):
        found.add("no seccomp profile")
    return found


def _security(spec: dict[str, Any]) -> tuple[str, ...]:
    pod_level = mapping(spec, "securityContext")
    found: set[str] = set()
    for container in (*items(spec, "initContainers"), *items(spec, "containers")):
        found |= _container_security(container, pod_level)
    for field, fact in (("hostNetwork", "host network"), ("hostPID", "host pid"), ("hostIPC", "host ipc")):
        if flag(spec, field):
            found.add(fact)
    if spec.get("automountServiceAccountToken") is not False:
        found.add("service account token")
    return tuple(sorted(found))


def _host_ports(spec: dict[str, Any]) -> tuple[int, ...]:
    ports = {number(p, "hostPort") for c in items(spec, "containers") for p in items(c, "ports")}
    return tuple(sorted(ports - {0}))


def pod_spec(obj: dict[str, Any]) -> PodSpec:
    """Return the record of a pod's spec, or of a workload's pod template (both have metadata and spec)."""
    spec = mapping(obj, "spec")
    containers = _containers(spec)
    overhead = amounts(spec, "overhead")
    pod_limits = amounts(spec, "resources", "limits")
    pod_requests = (
        {**pod_limits, **amounts(spec, "resources", "requests")}
        if pod_limits
        else amounts(spec, "resources", "requests")
    )
    claims, kinds = _volumes(spec)
    return PodSpec(
        labels=strings(obj, "metadata", "labels"),
        annotations=kept_annotations(obj),
        containers=containers,
        requests=reserved(containers, "requests", overhead, pod_requests),
        limits=reserved(containers, "limits", {}, pod_limits),
        qos=_qos(containers, pod_requests, pod_limits),
        node_selector=strings(spec, "nodeSelector"),
        node_affinity=mapping(spec, "affinity", "nodeAffinity"),
        pod_affinity=mapping(spec, "affinity", "podAffinity"),
        pod_anti_affinity=mapping(spec, "affinity", "podAntiAffinity"),
        spread=tuple(items(spec, "topologySpreadConstraints")),
        tolerations=_tolerations(spec),
        host_ports=_host_ports(spec),
        claims=claims,
        volume_kinds=kinds,
        security=_security(spec),
        priority=number(spec, "priority"),
        priority_class=shared(spec, "priorityClassName"),
        runtime_class=shared(spec, "runtimeClassName"),
        service_account=shared(spec, "serviceAccountName"),
        scheduler=shared(spec, "schedulerName"),
        restart_policy=shared(spec, "restartPolicy") or "Always",
        grace_seconds=number(spec, "terminationGracePeriodSeconds", default=30),
    )


def _state(status: dict[str, Any]) -> ContainerState | None:
    ended = mapping(status, "state", "terminated") or mapping(status, "lastState", "terminated")
    waiting = text(status, "state", "waiting", "reason")
    restarts = number(status, "restartCount")
    if not (ended or waiting or restarts):
        return None
    return ContainerState(
        name=shared(status, "name"),
        restarts=restarts,
        ready=flag(status, "ready"),
        waiting=waiting,
        exit_reason=text(ended, "reason"),
        exit_code=maybe_number(ended, "exitCode"),
        exited_at=time(ended, "finishedAt"),
    )


def _is_plain_init(status: dict[str, Any]) -> bool:
    """An init container that did its work says nothing of interest."""
    return at(status, "state", "terminated", "exitCode") == 0 and number(status, "restartCount") == 0


def _states(obj: dict[str, Any]) -> tuple[ContainerState, ...]:
    inits = [s for s in items(obj, "status", "initContainerStatuses") if not _is_plain_init(s)]
    found = (_state(s) for s in (*inits, *items(obj, "status", "containerStatuses")))
    return tuple(s for s in found if s is not None)


def pod(obj: dict[str, Any], spec: str) -> Pod:
    """Return the record of a Pod whose spec is stored under the key `spec`."""
    found = conditions(obj, ("PodScheduled", "Ready"))
    scheduled = next((c for c in found if c.type == "PodScheduled"), None)
    waiting = [c for c in items(obj, "status", "conditions") if c.get("type") == "PodScheduled"]
    unscheduled = scheduled is not None and scheduled.status != "True"
    return Pod(
        namespace=shared(obj, "metadata", "namespace"),
        name=text(obj, "metadata", "name"),
        spec=spec,
        uid=text(obj, "metadata", "uid"),
        created_at=time(obj, "metadata", "creationTimestamp"),
        deleting_at=time(obj, "metadata", "deletionTimestamp"),
        scheduled_at=scheduled.since if scheduled and not unscheduled else None,
        started_at=time(obj, "status", "startTime"),
        node=shared(obj, "spec", "nodeName"),
        nominated_node=shared(obj, "status", "nominatedNodeName"),
        phase=shared(obj, "status", "phase") or "Pending",
        ready=is_true(found, "Ready"),
        reason=text(obj, "status", "reason") or (scheduled.reason if scheduled and unscheduled else ""),
        detail=(text(waiting[0], "message") if unscheduled and waiting else text(obj, "status", "message"))[
            :_LONGEST_DETAIL
        ],
        owner=owner(obj),
        states=_states(obj),
    )
