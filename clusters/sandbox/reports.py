"""The messages of a simulated agent: machines as the cloud holds them, pods placed on them, usage by the hour. Pure."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

from clusters.inventory import ingest
from clusters.sandbox.fleet import GIB, MIB, TYPES, App, Fleet, Group

Tables = dict[str, dict[str, dict[str, Any]]]
VERSION = "1.0.0"
RESERVED_CPU, RESERVED_MEMORY = 70, 900 * MIB
LIFE = timedelta(days=9)


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")


def _id(*parts: object) -> str:
    return str(uuid5(NAMESPACE_DNS, "/".join(map(str, parts))))


def wanted_sizes(fleet: Fleet, at: datetime) -> dict[str, int]:
    """How many machines each group needs for the load, within its bounds."""
    found = {}
    for group in fleet.groups:
        cores = TYPES[group.type][0] * 1000 - RESERVED_CPU - 150
        asked = sum(app.cpu * replicas(app, fleet.load(at)) for app in fleet.apps if app.group == group.name)
        found[group.name] = max(group.least, min(group.most, -(-asked // cores)))
    return found


def scaled(fleet: Fleet, at: datetime, limits: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """What the autoscaler makes of the load within the limits that the cloud has for its groups."""
    wanted = wanted_sizes(fleet, at)
    return {name: max(limits[name][0], min(limits[name][1], wanted[name])) for name in limits if name in wanted}


def replicas(app: App, load: float) -> int:
    """How many pods a workload has."""
    return app.quiet + round((app.busy - app.quiet) * load)


def tables_at(fleet: Fleet, at: datetime, sizes: Mapping[str, int] | None = None) -> Tables:
    """Everything in the cluster at a moment. `sizes` are the groups' machines as the cloud says; groups not named in it
    follow the load."""
    counts = {**wanted_sizes(fleet, at), **(sizes or {})}
    made: Tables = {"namespaces": {}, "nodes": {}, "workloads": {}, "specs": {}, "pods": {}, "budgets": {}}
    for group in fleet.groups:
        for number in range(counts[group.name]):
            node = _node(fleet, group, number, at)
            made["nodes"][node["name"]] = node
    room = {
        name: [node["allocatable"]["cpu"], node["allocatable"]["memory"], node["group"]]
        for name, node in made["nodes"].items()
    }
    _daemons(fleet, made, room, at)
    for app in fleet.apps:
        _app(fleet, app, made, room, at)
    for name in sorted({pod["namespace"] for pod in made["pods"].values()} | {"kube-system", "default"}):
        made["namespaces"][name] = {"name": name, "uid": _id(fleet.name, name), "created_at": _iso(_born(at))}
    return {name: table for name, table in made.items() if table}


def _born(at: datetime) -> datetime:
    """A birthday that stays the same for some days."""
    days = at.astimezone(UTC).toordinal() // LIFE.days * LIFE.days
    return datetime.fromordinal(days).replace(tzinfo=UTC)


def _node(fleet: Fleet, group: Group, number: int, at: datetime) -> dict[str, Any]:
    cores, gib = TYPES[group.type]
    uid = _id(fleet.name, group.name, number, _born(at))
    zone = fleet.region + "abc"[number % 3]
    index = [g.name for g in fleet.groups].index(group.name)
    whole = {"cpu": cores * 1000, "memory": gib * GIB, "pods": 58}
    free = {"cpu": whole["cpu"] - RESERVED_CPU, "memory": whole["memory"] - RESERVED_MEMORY, "pods": 58}
    name = f"ip-10-{index + 1}-{number // 250}-{number % 250 + 4}.{fleet.region}.compute.internal"
    return {
        "name": name,
        "uid": uid,
        "created_at": _iso(_born(at)),
        "provider_id": f"aws:///{zone}/i-{uid.replace('-', '')[:17]}",
        "instance_type": group.type,
        "region": fleet.region,
        "zone": zone,
        "lifecycle": group.lifecycle,
        "group_kind": "eks",
        "group": group.name,
        "ready": True,
        "capacity": whole,
        "allocatable": free,
        "conditions": [
            {"type": kind, "status": "False", "reason": "KubeletHasSufficient", "since": _iso(_born(at))}
            for kind in ("DiskPressure", "MemoryPressure", "PIDPressure")
        ],
        "labels": {
            "kubernetes.io/arch": "amd64",
            "kubernetes.io/hostname": name,
            "topology.kubernetes.io/zone": zone,
            "node.kubernetes.io/instance-type": group.type,
            "eks.amazonaws.com/nodegroup": group.name,
            "eks.amazonaws.com/capacityType": "SPOT" if group.lifecycle == "spot" else "ON_DEMAND",
        },
    }


def _spec(app: App, name: str) -> tuple[str, dict[str, Any]]:
    spec: dict[str, Any] = {
        "labels": {"app": name},
        "containers": [{"name": name, "image": f"registry.example/{name}:1.4", "requests": _asked(app)}],
        "requests": _asked(app),
        "qos": "Burstable",
        "security": ["no seccomp profile", "may escalate"] if app.namespace in ("ci", "analytics") else [],
        "service_account": name,
        "scheduler": "default-scheduler",
    }
    if app.group:
        spec["node_selector"] = {"eks.amazonaws.com/nodegroup": app.group}
    return hashlib.sha256(json.dumps([app.namespace, spec], sort_keys=True).encode()).hexdigest()[:18], spec


def _asked(app: App) -> dict[str, int]:
    return {"cpu": app.cpu, "memory": app.memory}


def _daemons(fleet: Fleet, made: Tables, room: dict[str, list[Any]], at: datetime) -> None:
    app = App("kube-system", "DaemonSet", "aws-node", 0, 0, 50, 64 * MIB, "")
    _workload(fleet, app, len(room), made, at)
    for name in room:
        _pod(fleet, app, f"aws-node-{_id(name)[:5]}", name, made, at)
        room[name][0] -= app.cpu
        room[name][1] -= app.memory


def _app(fleet: Fleet, app: App, made: Tables, room: dict[str, list[Any]], at: datetime) -> None:
    count = replicas(app, fleet.load(at))
    _workload(fleet, app, count, made, at)
    for number in range(count):
        fits = [
            n
            for n, (cpu, memory, group) in room.items()
            if cpu >= app.cpu and memory >= app.memory and app.group in ("", group)
        ]
        node = max(fits, key=lambda n: (room[n][0], n), default="")
        if node:
            room[node][0] -= app.cpu
            room[node][1] -= app.memory
        tail = str(number) if app.kind == "StatefulSet" else _id(fleet.name, app.name, number)[:5]
        _pod(fleet, app, f"{app.name}-{tail}", node, made, at)
    if app.budget:
        made["budgets"][f"{app.namespace}/{app.name}"] = {
            "namespace": app.namespace,
            "name": app.name,
            "selector": {"matchLabels": {"app": app.name}},
            "min_available": str(app.budget),
            "disruptions_allowed": max(0, count - app.budget),
            "current_healthy": count,
            "desired_healthy": app.budget,
            "expected_pods": count,
        }


def _workload(fleet: Fleet, app: App, count: int, made: Tables, at: datetime) -> None:
    key, spec = _spec(app, app.name)
    made["specs"][key] = spec
    made["workloads"][f"{app.kind}/{app.namespace}/{app.name}"] = {
        "kind": app.kind,
        "namespace": app.namespace,
        "name": app.name,
        "uid": _id(fleet.name, app.namespace, app.name),
        "created_at": _iso(_born(at)),
        "replicas": count,
        "ready": count,
        "available": count,
        "current": count,
        "template": key,
        "selector": {"matchLabels": {"app": app.name}},
        "strategy": "RollingUpdate",
    }


def _pod(fleet: Fleet, app: App, name: str, node: str, made: Tables, at: datetime) -> None:
    key, _ = _spec(app, app.name)
    pod: dict[str, Any] = {
        "namespace": app.namespace,
        "name": name,
        "spec": key,
        "uid": _id(fleet.name, app.namespace, name),
        "created_at": _iso(_born(at)),
        "phase": "Running" if node else "Pending",
        "ready": bool(node),
        "owner": {"kind": app.kind, "name": app.name, "uid": _id(fleet.name, app.namespace, app.name)},
    }
    if node:
        pod |= {"node": node, "scheduled_at": _iso(_born(at)), "started_at": _iso(_born(at))}
    made["pods"][f"{app.namespace}/{name}"] = pod


def usage_at(fleet: Fleet, tables: Tables, at: datetime, number: int) -> dict[str, Any]:
    """A usage sample: what each container and node used, nanocores and bytes, with a little noise."""
    chance = random.Random(f"{fleet.name}/{int(at.timestamp()) // 60}")  # noqa: S311 - a repeatable story, not a secret
    apps = {(app.namespace, app.name): app for app in fleet.apps}
    load = fleet.load(at)
    pods: dict[str, dict[str, list[int]]] = {}
    nodes: dict[str, list[int]] = {name: [120_000_000, 700 * MIB] for name in tables.get("nodes", {})}
    for key, pod in tables.get("pods", {}).items():
        app = apps.get((pod["namespace"], pod["owner"]["name"]))
        if app is None or "node" not in pod or pod["node"] not in nodes:
            continue
        share = app.use * (0.25 + 0.75 * load) * chance.uniform(0.85, 1.15)
        cpu, memory = (
            int(app.cpu * 1e6 * share),
            int(app.memory * min(0.95, app.use + 0.25) * chance.uniform(0.97, 1.03)),
        )
        pods[key] = {app.name: [cpu, memory]}
        nodes[pod["node"]][0] += cpu
        nodes[pod["node"]][1] += memory
    return {"n": number, "at": _iso(at), "window": 60, "nodes": nodes, "pods": pods}


def message(
    fleet: Fleet, at: datetime, *, session: str, sequence: int, tables: Tables, usage: Sequence[dict[str, Any]]
) -> bytes:
    """A full snapshot as the agent sends it."""
    body = {
        "format": 1,
        "kind": "full",
        "session": session,
        "sequence": sequence,
        "digest": ingest.State.of(tables).digest,
        "at": _iso(at),
        "cluster": {"uid": fleet.uid, "name": fleet.name, "version": fleet.version, "distribution": "eks"},
        "agent": {"version": VERSION},
        "sources": {name: {"state": "ok"} for name in ("nodes", "pods", "namespaces", "deployments", "metrics")},
        "records": tables,
        "usage": list(usage),
    }
    return gzip.compress(json.dumps(body).encode(), 1)


def heartbeat(fleet: Fleet, at: datetime, *, session: str, sequence: int, digest: str, nodes: int) -> bytes:
    """A sign of life as the agent sends it."""
    body = {
        "format": 1,
        "session": session,
        "sequence": sequence,
        "digest": digest,
        "at": _iso(at),
        "cluster": {"uid": fleet.uid},
        "agent": {"version": VERSION},
        "api_server": {"reachable": True, "milliseconds": 20 + int(60 * fleet.load(at))},
        "counts": {"nodes": nodes},
        "sources": {"nodes": {"state": "ok"}},
        "order_results": [],
    }
    return json.dumps(body).encode()
