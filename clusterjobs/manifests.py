"""The objects that a task is in a cluster: Job, Secret, namespace, network policies. Pure.

No privileges: not privileged, no host namespaces, no host mounts, no added capabilities, no service account token,
`allowPrivilegeEscalation` off, the runtime's own seccomp profile; root's file system read-only where the pool says so.
"""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clusterjobs.enums import (
    CONTAINER,
    FENCE,
    GRACE_SECONDS,
    MANAGED,
    NETWORK,
    OURS,
    PENDING_SECONDS,
    POOL,
    RUN,
    TASK,
)

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A claimed task, as its Job needs it."""

    pool: str
    task: str
    fence: int
    namespace: str
    image: str
    command: list[str]
    cpu: int
    memory: int
    storage: int
    gpus: int
    timeout_seconds: int
    network: bool
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    read_only_root: bool = False
    pull_secret: str = ""

    @property
    def name(self) -> str:
        return name_of(self.task, self.fence)

    @property
    def has_secret(self) -> bool:
        return bool(self.secrets or self.files)


def name_of(task: str, fence: int) -> str:
    """The fence is in the name: a second create of the same claim meets the first, another claim never does."""
    return f"task-{task}-{fence}"


def labels_of(wanted: Wanted) -> dict[str, str]:
    return {
        **MANAGED,
        POOL: wanted.pool,
        TASK: wanted.task,
        FENCE: str(wanted.fence),
        RUN: wanted.name,
        NETWORK: "open" if wanted.network else "none",
    }


def namespace(name: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": name,
            "labels": {**MANAGED, OURS: "true", "pod-security.kubernetes.io/enforce": "baseline"},
        },
    }


def policies(namespace_name: str) -> list[Object]:
    """Nobody calls into a task; one that asked for no network has none. The cluster's network must enforce them."""

    def policy(name: str, selector: Object, kinds: list[str]) -> Object:
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": namespace_name, "labels": dict(MANAGED)},
            "spec": {"podSelector": selector, "policyTypes": kinds},
        }

    return [
        policy("curfew-tasks-no-callers", {"matchLabels": dict(MANAGED)}, ["Ingress"]),
        policy("curfew-tasks-no-network", {"matchLabels": {NETWORK: "none"}}, ["Ingress", "Egress"]),
    ]


def secret(wanted: Wanted) -> Object:
    """Secret variables and files; deleted when the task has ended."""
    data = {f"env.{name}": _coded(text) for name, text in wanted.secrets.items()}
    data |= {f"file.{number}": _coded(text) for number, (_, text) in enumerate(sorted(wanted.files.items()))}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": wanted.name, "namespace": wanted.namespace, "labels": labels_of(wanted)},
        "type": "Opaque",
        "immutable": True,
        "data": data,
    }


def _coded(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()


def job(wanted: Wanted) -> Object:
    """One pod, once: no retries of the cluster's own, and two clocks. The pod's clock is kept by its node even while
    nothing else answers; the Job's covers the time before the pod has a node."""
    labels = labels_of(wanted)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": wanted.name, "namespace": wanted.namespace, "labels": labels},
        "spec": {
            "parallelism": 1,
            "completions": 1,
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "activeDeadlineSeconds": wanted.timeout_seconds + PENDING_SECONDS,
            "template": {"metadata": {"labels": labels}, "spec": _pod(wanted)},
        },
    }


def _pod(wanted: Wanted) -> Object:
    spec: Object = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": wanted.timeout_seconds,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "hostNetwork": False,
        "hostPID": False,
        "hostIPC": False,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_container(wanted)],
    }
    volumes: list[Object] = []
    if wanted.read_only_root:
        volumes.append({"name": "tmp", "emptyDir": {}})
    if wanted.files:
        items = [{"key": f"file.{n}", "path": f"file.{n}"} for n in range(len(wanted.files))]
        volumes.append({"name": "files", "secret": {"secretName": wanted.name, "defaultMode": 0o444, "items": items}})
    if volumes:
        spec["volumes"] = volumes
    if wanted.pull_secret:
        spec["imagePullSecrets"] = [{"name": wanted.pull_secret}]
    return spec


def _container(wanted: Wanted) -> Object:
    limits: Object = {"cpu": f"{wanted.cpu}m", "memory": f"{wanted.memory}Mi"}
    if wanted.storage:
        limits["ephemeral-storage"] = f"{wanted.storage}Mi"
    if wanted.gpus:
        limits["nvidia.com/gpu"] = str(wanted.gpus)
    env: list[Object] = [{"name": name, "value": _plain(text)} for name, text in sorted(wanted.environment.items())]
    env += [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": wanted.name, "key": f"env.{name}"}}}
        for name in sorted(wanted.secrets)
    ]
    mounts: list[Object] = [{"name": "tmp", "mountPath": "/tmp"}] if wanted.read_only_root else []  # noqa: S108
    mounts += [
        {"name": "files", "mountPath": posixpath.normpath(path), "subPath": f"file.{number}", "readOnly": True}
        for number, path in enumerate(sorted(wanted.files))
    ]
    made: Object = {
        "name": CONTAINER,
        "image": wanted.image,
        "resources": {"limits": limits, "requests": dict(limits)},
        "terminationMessagePolicy": "File",
        "securityContext": {
            "privileged": False,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": wanted.read_only_root,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    if wanted.command:
        made["args"] = [_plain(word) for word in wanted.command]
    if env:
        made["env"] = env
    if mounts:
        made["volumeMounts"] = mounts
    return made


def _plain(text: str) -> str:
    """Kubernetes replaces `$(NAME)` and `$$`; a task's words are meant as they stand, as Docker takes them."""
    return text.replace("$", "$$")
