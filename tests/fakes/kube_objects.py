"""Kubernetes objects as a real API server returns them, down to the probes and managed fields that readers must skip."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]
ZONES = ("eu-west-1a", "eu-west-1b", "eu-west-1c")
SIZES = {
    "m5.large": (2, 8),
    "m5.xlarge": (4, 16),
    "m5.2xlarge": (8, 32),
    "c5.2xlarge": (8, 16),
    "r5.xlarge": (4, 32),
}
_EPOCH = dt.datetime(2026, 9, 1, tzinfo=dt.UTC)


def stamp(seconds: float = 0.0) -> str:
    """A time some seconds after 1 September 2026."""
    return (_EPOCH + dt.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def uid(*parts: object) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, "/".join(map(str, parts))))


def meta(name: str, namespace: str = "", **more: Any) -> Object:
    made: Object = {"name": name, "uid": uid(namespace, name, more.get("kind", "")), "creationTimestamp": stamp()}
    more.pop("kind", None)
    if namespace:
        made["namespace"] = namespace
    made.update(more)
    return made


def owner(kind: str, name: str, owner_uid: str = "", api: str = "apps/v1") -> list[Object]:
    return [
        {
            "apiVersion": api,
            "kind": kind,
            "name": name,
            "uid": owner_uid or uid(kind, name),
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


def namespace(name: str, **labels: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": meta(name, kind="ns", labels={"kubernetes.io/metadata.name": name, **labels}),
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def system_namespaces() -> list[Object]:
    return [namespace(n) for n in ("kube-system", "kube-public", "kube-node-lease", "default")]


def node(
    name: str,
    *,
    size: str = "m5.xlarge",
    zone: str = ZONES[0],
    spot: bool = False,
    group: str = "general",
    karpenter: bool = False,
    **more: Any,
) -> Object:
    cpu, memory = SIZES[size]
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": size,
        "topology.kubernetes.io/region": zone[:-1],
        "topology.kubernetes.io/zone": zone,
    }
    labels |= (
        {"karpenter.sh/nodepool": group, "karpenter.sh/capacity-type": "spot" if spot else "on-demand"}
        if karpenter
        else {"eks.amazonaws.com/nodegroup": group, "eks.amazonaws.com/capacityType": "SPOT" if spot else "ON_DEMAND"}
    )
    conditions = [
        {
            "type": t,
            "status": s,
            "reason": r,
            "message": "kubelet says so",
            "lastHeartbeatTime": stamp(60),
            "lastTransitionTime": stamp(30),
        }
        for t, s, r in (
            ("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            ("DiskPressure", "False", "KubeletHasNoDiskPressure"),
            ("PIDPressure", "False", "KubeletHasSufficientPID"),
            ("Ready", "True", "KubeletReady"),
        )
    ]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": meta(
            name,
            kind="node",
            labels=labels | more.pop("labels", {}),
            annotations={
                "node.alpha.kubernetes.io/ttl": "0",
                "volumes.kubernetes.io/controller-managed-attach-detach": "true",
            },
        ),
        "spec": {"providerID": f"aws:///{zone}/i-{uid(name)[:17].replace('-', '')}", **more},
        "status": {
            "capacity": {
                "cpu": str(cpu),
                "memory": f"{memory * 1024 * 1024}Ki",
                "pods": "110",
                "ephemeral-storage": "83873772Ki",
                "hugepages-2Mi": "0",
            },
            "allocatable": {
                "cpu": f"{cpu * 1000 - 70}m",
                "memory": f"{memory * 1024 * 1024 - 700_000}Ki",
                "pods": "110",
                "ephemeral-storage": "76224326324",
                "hugepages-2Mi": "0",
            },
            "conditions": conditions,
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": name}],
            "images": [
                {"names": [f"registry.example/image-{i}@sha256:{'0' * 64}"], "sizeBytes": 10_000_000 + i}
                for i in range(20)
            ],
            "nodeInfo": {
                "architecture": "amd64",
                "operatingSystem": "linux",
                "osImage": "Amazon Linux 2023.9",
                "kernelVersion": "6.12.40",
                "containerRuntimeVersion": "containerd://2.1.4",
                "kubeletVersion": "v1.36.1-eks-0f1e2d3",
                "kubeProxyVersion": "v1.36.1",
                "bootID": uid("boot", name),
                "machineID": "0" * 32,
                "systemUUID": uid("system", name),
            },
        },
    }


def container(name: str = "app", *, cpu: str = "100m", memory: str = "128Mi", limit: str = "", **more: Any) -> Object:
    resources: Object = {"requests": {"cpu": cpu, "memory": memory}} if cpu else {}
    if limit:
        resources["limits"] = {"memory": limit}
    return {
        "name": name,
        "image": f"registry.example/{name}:1.4.2",
        "imagePullPolicy": "IfNotPresent",
        "resources": resources,
        "env": [
            {"name": "DATABASE_PASSWORD", "value": "hunter2-must-never-leave"},
            {"name": "MODE", "value": "production"},
        ],
        "ports": [{"containerPort": 8080, "protocol": "TCP"}],
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"},
            "periodSeconds": 10,
            "timeoutSeconds": 1,
        },
        "volumeMounts": [
            {"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": True}
        ],
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        **more,
    }


def pod_template(app: str, *containers: Object, **spec: Any) -> Object:
    return {
        "metadata": {"labels": {"app.kubernetes.io/name": app}, "annotations": {"checksum/config": uid(app)}},
        "spec": {
            "containers": list(containers) or [container()],
            "restartPolicy": "Always",
            "dnsPolicy": "ClusterFirst",
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "terminationGracePeriodSeconds": 30,
            "serviceAccountName": app,
            **spec,
        },
    }


def pod(
    name: str,
    ns: str = "default",
    *,
    node_name: str = "",
    template: Object | None = None,
    owners: list[Object] | None = None,
    **status: Any,
) -> Object:
    template = template or pod_template(name)
    spec = {
        **template["spec"],
        "priority": 0,
        "preemptionPolicy": "PreemptLowerPriority",
        "enableServiceLinks": True,
        "tolerations": [
            {"key": f"node.kubernetes.io/{k}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
            for k in ("not-ready", "unreachable")
        ],
        "volumes": [
            *template["spec"].get("volumes", ()),
            {
                "name": "token",
                "projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}]},
            },
        ],
    }
    if node_name:
        spec["nodeName"] = node_name
    phase = status.pop("phase", "Running" if node_name else "Pending")
    running = phase == "Running"
    scheduled = (
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp(5)}
        if node_name
        else {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/3 nodes are available: 3 Insufficient cpu.",
            "lastTransitionTime": stamp(5),
        }
    )
    metadata = meta(
        name, ns, kind="pod", generateName=name.rpartition("-")[0] + "-", labels=dict(template["metadata"]["labels"])
    )
    metadata["annotations"] = dict(template["metadata"].get("annotations") or {})
    metadata["managedFields"] = [
        {
            "manager": "kubelet",
            "operation": "Update",
            "apiVersion": "v1",
            "time": stamp(9),
            "fieldsType": "FieldsV1",
            "subresource": "status",
            "fieldsV1": {
                "f:status": {
                    "f:conditions": {
                        f'k:{{"type":"{t}"}}': {".": {}, "f:lastProbeTime": {}, "f:status": {}, "f:type": {}}
                        for t in ("Ready", "Initialized", "ContainersReady")
                    },
                    "f:containerStatuses": {},
                    "f:hostIP": {},
                    "f:phase": {},
                    "f:podIP": {},
                    "f:startTime": {},
                }
            },
        }
    ]
    if owners:
        metadata["ownerReferences"] = owners
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": spec,
        "status": {
            "phase": phase,
            "qosClass": "Burstable",
            "hostIP": "10.0.0.1",
            "podIP": "10.0.1.1",
            "startTime": stamp(6),
            "conditions": [
                {"type": "Ready", "status": "True" if running else "False", "lastTransitionTime": stamp(9)},
                {"type": "Initialized", "status": "True", "lastTransitionTime": stamp(7)},
                scheduled,
            ],
            "containerStatuses": [
                {
                    "name": c["name"],
                    "ready": running,
                    "restartCount": 0,
                    "image": c["image"],
                    "imageID": f"registry.example/x@sha256:{'1' * 64}",
                    "containerID": f"containerd://{'2' * 64}",
                    "started": running,
                    "state": {"running": {"startedAt": stamp(8)}},
                    "lastState": {},
                }
                for c in spec["containers"]
            ]
            if running
            else [],
            **status,
        },
    }


def deployment(
    name: str, ns: str = "default", *, replicas: int = 2, template: Object | None = None, **more: Any
) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta(name, ns, kind="deploy", labels={"app.kubernetes.io/name": name}, **more),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app.kubernetes.io/name": name}},
            "template": template or pod_template(name),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "revisionHistoryLimit": 10,
        },
        "status": {
            "replicas": replicas,
            "readyReplicas": replicas,
            "availableReplicas": replicas,
            "updatedReplicas": replicas,
            "observedGeneration": 1,
        },
    }


def replica_set(deploy: Object, revision: str = "6d4cf56db6", replicas: int | None = None) -> Object:
    name = deploy["metadata"]["name"]
    count = deploy["spec"]["replicas"] if replicas is None else replicas
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": meta(
            f"{name}-{revision}",
            deploy["metadata"]["namespace"],
            kind="rs",
            labels={"pod-template-hash": revision},
            ownerReferences=owner("Deployment", name, deploy["metadata"]["uid"]),
        ),
        "spec": {
            "replicas": count,
            "selector": {"matchLabels": {"pod-template-hash": revision}},
            "template": deploy["spec"]["template"],
        },
        "status": {"replicas": count, "readyReplicas": count, "availableReplicas": count},
    }


def stateful_set(name: str, ns: str = "default", *, replicas: int = 3) -> Object:
    made = deployment(name, ns, replicas=replicas)
    del made["spec"]["strategy"], made["spec"]["revisionHistoryLimit"]
    made["kind"] = "StatefulSet"
    made["metadata"]["uid"] = uid(ns, name, "sts")
    made["spec"] |= {
        "serviceName": name,
        "updateStrategy": {"type": "RollingUpdate"},
        "volumeClaimTemplates": [
            {
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "20Gi"}}},
            }
        ],
    }
    return made


def daemon_set(name: str, ns: str = "kube-system", *, nodes: int = 3) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": meta(name, ns, kind="ds"),
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/name": name}},
            "template": pod_template(
                name, container(name, cpu="50m", memory="64Mi"), tolerations=[{"operator": "Exists"}]
            ),
            "updateStrategy": {"type": "RollingUpdate"},
        },
        "status": {
            "desiredNumberScheduled": nodes,
            "currentNumberScheduled": nodes,
            "numberReady": nodes,
            "numberAvailable": nodes,
        },
    }


def cron_job(name: str, ns: str = "default", *, schedule: str = "15 2 * * *", **spec: Any) -> Object:
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": meta(name, ns, kind="cron"),
        "spec": {
            "schedule": schedule,
            "suspend": False,
            "concurrencyPolicy": "Forbid",
            "jobTemplate": {"spec": {"template": pod_template(name, restartPolicy="Never")}},
            **spec,
        },
        "status": {"lastScheduleTime": stamp(7200)},
    }


def job(name: str, ns: str = "default", **more: Any) -> Object:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta(name, ns, kind="job", **more),
        "spec": {"parallelism": 1, "completions": 1, "template": pod_template(name, restartPolicy="Never")},
        "status": {"active": 1, "ready": 1, "startTime": stamp(5)},
    }


def budget(name: str, ns: str = "default", *, app: str = "", allowed: int = 1, **spec: Any) -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": meta(name, ns, kind="pdb"),
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/name": app or name}},
            **(spec or {"maxUnavailable": 1}),
        },
        "status": {
            "disruptionsAllowed": allowed,
            "currentHealthy": 3,
            "desiredHealthy": 2,
            "expectedPods": 3,
            "observedGeneration": 1,
        },
    }


def autoscaler(name: str, ns: str = "default", *, low: int = 2, high: int = 10) -> Object:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": meta(name, ns, kind="hpa"),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": low,
            "maxReplicas": high,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
                }
            ],
        },
        "status": {
            "currentReplicas": low,
            "desiredReplicas": low,
            "conditions": [
                {
                    "type": "ScalingActive",
                    "status": "True",
                    "reason": "ValidMetricFound",
                    "lastTransitionTime": stamp(9),
                }
            ],
        },
    }


def event(name: str, ns: str = "default", *, reason: str = "OOMKilling", last: str = "", **more: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": meta(name, ns, kind="event"),
        "type": "Warning",
        "reason": reason,
        "message": "Memory cgroup out of memory: Killed process 4242 (java)",
        "count": 3,
        "firstTimestamp": last or stamp(),
        "lastTimestamp": last or stamp(),
        "involvedObject": {"kind": "Pod", "namespace": ns, "name": "web-0", "uid": uid("web-0")},
        "source": {"component": "kubelet"},
        **more,
    }


def claim(name: str, ns: str = "default", *, volume_name: str = "", size: str = "20Gi") -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": meta(name, ns, kind="pvc"),
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "gp3",
            "volumeName": volume_name,
            "resources": {"requests": {"storage": size}},
        },
        "status": {
            "phase": "Bound" if volume_name else "Pending",
            "capacity": {"storage": size} if volume_name else {},
        },
    }


def volume(name: str, *, zone: str = ZONES[0], size: str = "20Gi") -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": meta(name, kind="pv"),
        "spec": {
            "capacity": {"storage": size},
            "storageClassName": "gp3",
            "persistentVolumeReclaimPolicy": "Delete",
            "accessModes": ["ReadWriteOnce"],
            "csi": {"driver": "ebs.csi.aws.com", "volumeHandle": f"vol-{name}"},
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [
                        {
                            "matchExpressions": [
                                {"key": "topology.kubernetes.io/zone", "operator": "In", "values": [zone]}
                            ]
                        }
                    ]
                }
            },
        },
        "status": {"phase": "Bound"},
    }


def node_pool(name: str = "general") -> Object:
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": meta(name, kind="nodepool", generation=3),
        "spec": {
            "weight": 10,
            "limits": {"cpu": "1000", "memory": "4000Gi"},
            "disruption": {
                "consolidationPolicy": "WhenEmptyOrUnderutilized",
                "consolidateAfter": "1m",
                "budgets": [{"nodes": "10%"}],
            },
            "template": {
                "metadata": {"labels": {"team": "platform"}},
                "spec": {
                    "expireAfter": "720h",
                    "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"},
                    "requirements": [
                        {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot", "on-demand"]}
                    ],
                    "taints": [{"key": "dedicated", "value": "batch", "effect": "NoSchedule"}],
                },
            },
        },
        "status": {
            "resources": {"cpu": "16", "memory": "64Gi", "nodes": "4"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "lastTransitionTime": stamp()}],
        },
    }


def node_claim(name: str, node_name: str, pool: str = "general") -> Object:
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodeClaim",
        "metadata": meta(
            name,
            kind="nodeclaim",
            labels={
                "karpenter.sh/nodepool": pool,
                "node.kubernetes.io/instance-type": "m5.xlarge",
                "topology.kubernetes.io/zone": ZONES[0],
                "karpenter.sh/capacity-type": "spot",
            },
        ),
        "spec": {"nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"}},
        "status": {
            "nodeName": node_name,
            "providerID": f"aws:///{ZONES[0]}/i-1",
            "conditions": [
                {"type": "Initialized", "status": "True", "reason": "Initialized", "lastTransitionTime": stamp()}
            ],
        },
    }


def node_usage(name: str, *, nanocores: int = 800_000_000, kib: int = 3_000_000) -> Object:
    return {
        "apiVersion": "metrics.k8s.io/v1beta1",
        "kind": "NodeMetrics",
        "metadata": {"name": name, "creationTimestamp": stamp()},
        "timestamp": stamp(),
        "window": "20.05s",
        "usage": {"cpu": f"{nanocores}n", "memory": f"{kib}Ki"},
    }


def pod_usage(name: str, ns: str, *containers: str, nanocores: int = 12_345_678, kib: int = 60_000) -> Object:
    return {
        "apiVersion": "metrics.k8s.io/v1beta1",
        "kind": "PodMetrics",
        "metadata": {"name": name, "namespace": ns, "creationTimestamp": stamp()},
        "timestamp": stamp(),
        "window": "15.2s",
        "containers": [
            {"name": c, "usage": {"cpu": f"{nanocores}n", "memory": f"{kib}Ki"}} for c in containers or ("app",)
        ],
    }


def cluster(*, nodes: int, pods: int, seed: int = 7, usage: bool = True, karpenter: bool = True) -> Iterator[Object]:
    """Yield a whole cluster: nodes in three zones, a daemon set, deployments with their sets and pods, usage of all.

    Every 10th application is a StatefulSet with a claim each; every 5th has a budget, every 7th an autoscaler.
    """
    rng = random.Random(seed)
    names = [f"ip-10-{i // 65536}-{i // 256 % 256}-{i % 256}.eu-west-1.compute.internal" for i in range(nodes)]
    for i, name in enumerate(names):
        yield node(
            name, size=rng.choice(list(SIZES)), zone=ZONES[i % 3], spot=i % 3 == 0, karpenter=karpenter and i % 2 == 0
        )
        if usage:
            yield node_usage(name, nanocores=rng.randrange(10**8, 10**9))
    if karpenter:
        yield node_pool()
        for i, name in enumerate(names[::2]):
            yield node_claim(f"general-{i:05d}", name)
    proxy = daemon_set("kube-proxy", nodes=nodes)
    yield proxy
    left = pods
    for name in names[: min(nodes, pods // 4)]:
        left -= 1
        short = f"kube-proxy-{uid(name)[:5]}"
        yield pod(
            short,
            "kube-system",
            node_name=name,
            template=proxy["spec"]["template"],
            owners=owner("DaemonSet", "kube-proxy", proxy["metadata"]["uid"]),
        )
        if usage:
            yield pod_usage(short, "kube-system", "kube-proxy")
    spaces = [f"team-{i}" for i in range(max(1, min(40, pods // 50)))]
    yield from (namespace(s, team=s) for s in spaces)
    app = 0
    while left > 0:
        app += 1
        size = min(left, rng.choice((1, 2, 3, 3, 5, 8, 20)))
        left -= size
        yield from _application(app, spaces[app % len(spaces)], size, names, rng, usage=usage)


def _application(
    number: int, ns: str, size: int, names: list[str], rng: random.Random, *, usage: bool
) -> Iterator[Object]:
    name = f"app-{number}"
    boxes = [
        container(
            "app",
            cpu=f"{rng.choice((50, 100, 250, 500, 1000))}m",
            memory=f"{rng.choice((64, 128, 256, 512, 1024))}Mi",
            limit="1Gi",
        )
    ]
    if number % 3 == 0:
        boxes.append(container("proxy", cpu="20m", memory="64Mi"))
    template = pod_template(name, *boxes)
    stateful = number % 10 == 0
    parent = (
        stateful_set(name, ns, replicas=size) if stateful else deployment(name, ns, replicas=size, template=template)
    )
    yield parent
    owners = owner("StatefulSet", name, parent["metadata"]["uid"])
    if not stateful:
        revision = uid(name)[:10].replace("-", "")
        current = replica_set(parent, revision)
        yield current
        yield replica_set(parent, "0ld" + revision[:7], replicas=0)
        owners = owner("ReplicaSet", current["metadata"]["name"], current["metadata"]["uid"])
        template = {
            **template,
            "metadata": {
                **template["metadata"],
                "labels": {**template["metadata"]["labels"], "pod-template-hash": revision},
            },
        }
    if number % 5 == 0:
        yield budget(name, ns)
    if number % 7 == 0 and not stateful:
        yield autoscaler(name, ns)
    for i in range(size):
        pod_name = f"{name}-{i}" if stateful else f"{owners[0]['name']}-{uid(name, i)[:5]}"
        own_template = template
        if stateful:
            pv = f"pvc-{uid(ns, name, i)}"
            yield volume(pv, zone=ZONES[i % 3])
            yield claim(f"data-{pod_name}", ns, volume_name=pv)
            own_template = pod_template(
                name, *boxes, volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": f"data-{pod_name}"}}]
            )
        yield pod(pod_name, ns, node_name=rng.choice(names) if names else "", template=own_template, owners=owners)
        if usage:
            yield pod_usage(pod_name, ns, *(b["name"] for b in boxes), nanocores=rng.randrange(10**6, 10**8))
