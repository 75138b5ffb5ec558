"""A cluster with everything in it that sleep has to get right: 200 workloads of all kinds, ten groups of nodes, and what
must not sleep."""

from __future__ import annotations

from typing import Any

from tests.clusters.sleeping.aws import MotoCloud
from tests.clusters.sleeping.life import LivingKube
from tests.fakes import kube_objects as make
from tests.fakes.kube_store import Object

NAME = "larkspur-dev"
SYSTEM = {"group": "system"}


def _small(obj: Object, **template: Any) -> Object:
    """The same object with a small template: the fleet is copied, compared and listed thousands of times."""
    name = obj["metadata"]["name"]
    spec = {"containers": [{"name": "app", "image": "app:1"}], **template}
    obj["spec"]["template"] = {"metadata": {"labels": {"app": name}}, "spec": spec}
    obj["spec"]["selector"] = {"matchLabels": {"app": name}}
    obj["metadata"]["labels"] = {"app": name}
    obj.pop("status", None)
    return obj


def deployment(name: str, namespace: str = "shop", *, replicas: int | None = 2, **template: Any) -> Object:
    made = _small(make.deployment(name, namespace), **template)
    if replicas is None:
        del made["spec"]["replicas"]
    else:
        made["spec"]["replicas"] = replicas
    return made


def custom(api: str, kind: str, name: str, namespace: str, spec: Object, **metadata: Any) -> Object:
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "uid": make.uid(kind, namespace, name), **metadata},
        "spec": spec,
    }


SPACES = ("shop", "pay", "search", "batch")


def workloads(count: int = 200) -> list[Object]:
    """Objects that sleep: `count`, every kind, fields set, unset and already at rest."""
    return [_workload(n, SPACES[n % 4], f"w{n}") for n in range(count)]


def _workload(n: int, space: str, name: str) -> Object:
    slot = n % 20
    if slot < 11:
        made = deployment(name, space, replicas=(None if slot == 3 else slot % 4))
        if slot == 5:
            made["metadata"]["annotations"] = {"team": "shop", "curfew.dev/wake-order": "30"}
        return made
    if slot < 14:
        made = _small(make.stateful_set(name, space))
        made["spec"]["replicas"] = 1 + n % 3
        return made
    if slot < 17:
        return _cron(n, space, name)
    if slot == 17:
        scaler = make.autoscaler(f"w{n - 15}", SPACES[(n - 15) % 4])
        scaler["spec"]["minReplicas"] = n // 20 % 3
        if n // 20 % 3 == 2:
            del scaler["spec"]["minReplicas"]
        scaler.pop("status", None)
        return scaler
    if slot == 18:
        spec = {"replicas": 2, "template": {"metadata": {"labels": {"app": name}}, "spec": {}}}
        return custom("argoproj.io/v1alpha1", "Rollout", name, space, spec)
    spec = {"scaleTargetRef": {"name": f"w{n - 18}"}, "maxReplicaCount": 5}
    paused = {"annotations": {"autoscaling.keda.sh/paused-replicas": "1"}} if n % 40 == 19 else {}
    return custom("keda.sh/v1alpha1", "ScaledObject", name, SPACES[(n - 18) % 4], spec, **paused)


def _cron(n: int, space: str, name: str) -> Object:
    cron = make.cron_job(name, space)
    cron["spec"]["jobTemplate"] = {"spec": {"template": {"metadata": {}, "spec": {}}}}
    if n % 20 == 14:
        del cron["spec"]["suspend"]
    elif n % 20 == 15:
        cron["spec"]["suspend"] = n % 40 < 20
    return cron


def gitops() -> list[Object]:
    here = {"server": "https://kubernetes.default.svc", "namespace": "shop"}
    auto = {"automated": {"selfHeal": True, "prune": True}, "syncOptions": ["CreateNamespace=true"]}
    argo, app = "argoproj.io/v1alpha1", "Application"
    there = {"server": "https://10.9.9.9", "namespace": "shop"}
    return [
        custom(argo, app, "shop", "argocd", {"destination": here, "syncPolicy": auto}),
        custom(argo, app, "empty", "argocd", {"destination": here, "syncPolicy": {"automated": {}}}),
        custom(argo, app, "by-hand", "argocd", {"destination": here}),
        custom(argo, app, "elsewhere", "argocd", {"destination": there, "syncPolicy": auto}),
        custom("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "apps", "flux-system", {"path": "./apps"}),
        custom(
            "helm.toolkit.fluxcd.io/v2",
            "HelmRelease",
            "web",
            "pay",
            {"chart": {"spec": {"chart": "web"}}, "suspend": False},
        ),
    ]


def protected() -> list[Object]:
    """What must not be touched, by reason; all of it runs on the group `system` unless it is said otherwise."""
    hook = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "policy"},
        "webhooks": [
            {
                "name": "policy.example",
                "failurePolicy": "Fail",
                "clientConfig": {"service": {"namespace": "policy", "name": "policy"}},
                "rules": [{"resources": ["deployments"], "operations": ["UPDATE"]}],
            }
        ],
    }
    service = custom("v1", "Service", "policy", "policy", {"selector": {"app": "policy"}})
    never = make.budget("ledger", "bank", app="ledger", maxUnavailable=0)
    never["spec"]["selector"] = {"matchLabels": {"app": "ledger"}}
    marked = deployment("trainer", "lab", nodeSelector=SYSTEM)
    marked["spec"]["template"]["metadata"]["annotations"] = {"karpenter.sh/do-not-disrupt": "true"}
    return [
        deployment("coredns", "kube-system", nodeSelector=SYSTEM),
        deployment("cluster-autoscaler", "kube-system", replicas=1, nodeSelector=SYSTEM),
        deployment("cert-manager", "cert-manager", replicas=1, nodeSelector=SYSTEM),
        deployment("curfew-agent", "curfew", replicas=1, nodeSelector=SYSTEM),
        deployment("policy", "policy", replicas=1, nodeSelector=SYSTEM),
        deployment("grafana", "monitoring", replicas=1, nodeSelector=SYSTEM),
        deployment("ledger", "bank", replicas=1, nodeSelector=SYSTEM),
        deployment(
            "cache", "lab", replicas=1, nodeSelector=SYSTEM, volumes=[{"name": "d", "hostPath": {"path": "/d"}}]
        ),
        marked,
        service,
        hook,
        never,
    ]


def pools() -> list[Object]:
    usual, static, bare = make.node_pool("spot"), make.node_pool("fixed"), make.node_pool("burst")
    static["spec"].pop("limits")
    static["spec"]["replicas"] = 2
    bare["spec"].pop("limits")
    for pool in (usual, static, bare):
        pool.pop("status")
    return [usual, static, bare]


def namespaces() -> list[Object]:
    names = (
        "shop",
        "pay",
        "search",
        "batch",
        "policy",
        "bank",
        "lab",
        "monitoring",
        "curfew",
        "cert-manager",
        "argocd",
    )
    return [make.namespace(name) for name in names]


def build(kube: LivingKube, cloud: MotoCloud, *, count: int = 200, asgs: int = 6, managed: int = 2) -> None:
    """Fill both. Ten groups: six ASGs (one for the system, one with a schedule, one at rest), two managed, two pools."""
    cloud.prepare(NAME)
    cloud.asg("system", 1, 2, 4)
    for number in range(1, asgs):
        cloud.asg(f"workers-{number}", number % 3, 1 + number % 3, 3 + number, team="shop")
    if asgs > 2:
        cloud.client("autoscaling").put_scheduled_update_group_action(
            AutoScalingGroupName="workers-2", ScheduledActionName="night", Recurrence="0 3 * * *", DesiredCapacity=3
        )
    for number in range(managed):
        cloud.managed(f"managed-{number}", number, 1 + number, 3, team="pay")
    for obj in (*namespaces(), *workloads(count), *gitops(), *protected(), *pools()):
        kube.create(obj)
    kube.live()
    kube.live()
