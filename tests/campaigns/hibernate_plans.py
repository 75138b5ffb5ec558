"""Random clusters, planned for the night, judged by rules written a second time.

    python -m tests.campaigns.hibernate_plans --plans 100000 --seed 1

The judge reads the cluster's objects and the plan alone and shares no code with the planner. Violations it looks for:
something changed in a protected or critical namespace; the agent, a webhook's backend, a marked, kept or locally stored
workload, or one under a budget that never gives way, scaled down; and a node that leaves with a pod on it that would
be lost or evicted. Prints JSON; exit code 1 for any violation. Planning touches no database and no network.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from typing import Any

from clusters.providers.groups import Group, GroupKind, Machine, Sizes
from clusters.sleeping.plan import plan
from clusters.sleeping.world import Plan, Scope, World

Object = dict[str, Any]
PROTECTED = ("kube-system", "kube-node-lease", "cert-manager", "calico-system")
SPACES = ("shop", "pay", "lab", "vault", "monitoring", "curfew", *PROTECTED)
MARKS = (
    ("karpenter.sh/do-not-disrupt", "true"),
    ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
)


def thing(kind: str, namespace: str, name: str, **parts: Any) -> Object:
    metadata = {"name": name, "uid": f"{kind}-{namespace}-{name}", **parts.pop("metadata", {})}
    if namespace:
        metadata["namespace"] = namespace
    return {"kind": kind, "metadata": metadata, **parts}


class Maker:
    """One random cluster. Everything that can protect appears, alone and together."""

    def __init__(self, random_: random.Random) -> None:
        self.r = random_
        self.objects: dict[str, list[Object]] = {}
        self.groups: list[Group] = []
        self.number = 0

    def add(self, obj: Object) -> Object:
        self.objects.setdefault(obj["kind"], []).append(obj)
        return obj

    def name(self) -> str:
        self.number += 1
        return f"n{self.number}"

    def make(self) -> tuple[World, Scope]:
        r = self.r
        for space in SPACES:
            kept = {"annotations": {"curfew.dev/keep": "true"}} if r.random() < 0.05 else {}
            marks = {"labels": {"team": r.choice(("core", "web"))}}
            self.add(thing("Namespace", "", space, metadata={**marks, **kept}))
        nodes = self._nodes()
        for _ in range(r.randint(1, 9)):
            self._workload(nodes)
        for _ in range(r.randint(0, 3)):
            self._loose_pod(nodes)
        self._hooks()
        scope = Scope(
            groups=None if r.random() < 0.7 else frozenset(r.sample(self.keys(), r.randint(0, len(self.keys())))),
            critical=frozenset(s for s in ("vault", "monitoring", "pay") if r.random() < 0.4),
            keep=(("env", "critical"),) if r.random() < 0.5 else (),
            to_zero=r.random() < 0.2,
            agent_namespace="curfew",
        )
        return World(self.objects, self.groups), scope

    def keys(self) -> list[str]:
        return [f"{g.kind}:{g.name}" for g in self.groups] + [
            f"karpenter:{p['metadata']['name']}" for p in self.objects.get("NodePool", ())
        ]

    def _nodes(self) -> list[str]:
        r, found = self.r, []
        for number in range(r.randint(1, 4)):
            way = r.choice(("asg", "managed", "managed_asg", "karpenter", "loose"))
            name, count = f"g{number}", r.randint(0, 3)
            tags = {"env": "critical"} if r.random() < 0.1 else {}
            machines = []
            if way == "karpenter":
                self.add(
                    thing(
                        "NodePool",
                        "",
                        name,
                        spec={} if r.random() < 0.5 else {"replicas": count},
                        metadata={"labels": tags},
                    )
                )
            found += [self._node(way, name, machines) for _ in range(count)]
            if way in ("asg", "managed", "managed_asg"):
                kind = GroupKind.ASG if way == "asg" else GroupKind.MANAGED
                low = r.randint(0, count)
                known = tuple(machines) if way != "managed" else ()
                behind = name if way != "managed" else ""
                sizes = Sizes(low, count, max(1, count + r.randint(0, 2)))
                self.groups.append(Group(kind, name, sizes, tags=tags, machines=known, asg=behind))
        return found

    def _node(self, way: str, group: str, machines: list[Machine]) -> str:
        r, name = self.r, self.name()
        labels: dict[str, str] = {}
        if way == "karpenter":
            labels["karpenter.sh/nodepool"] = group
            claim = {"labels": {"karpenter.sh/nodepool": group}}
            self.add(thing("NodeClaim", "", f"c-{name}", metadata=claim, status={"nodeName": name}))
        elif way.startswith("managed"):
            labels["eks.amazonaws.com/nodegroup"] = group
        if r.random() < 0.05:
            labels["node-role.kubernetes.io/control-plane"] = ""
        if r.random() < 0.1:
            labels["env"] = "critical"
        marks = dict([MARKS[0]]) if r.random() < 0.07 else {}
        machines.append(Machine(f"i-{name}"))
        spec = {"providerID": f"aws:///eu-west-1a/i-{name}"}
        self.add(thing("Node", "", name, metadata={"labels": labels, "annotations": marks}, spec=spec))
        return name

    def _volumes(self, namespace: str) -> list[Object]:
        r = self.r
        if r.random() < 0.85:
            return []
        if r.random() < 0.4:
            return [{"name": "host", "hostPath": {"path": "/data"}}]
        volume, claim = self.name(), self.name()
        local = r.random() < 0.6
        source = {"local": {"path": "/d"}} if local else {"csi": {"driver": "ebs.csi.aws.com"}}
        self.add(thing("PersistentVolume", "", volume, spec=source, status={"phase": "Bound"}))
        self.add(thing("PersistentVolumeClaim", namespace, claim, spec={"volumeName": volume}))
        return [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]

    def _workload(self, nodes: list[str]) -> None:
        r = self.r
        kind = r.choices(("Deployment", "StatefulSet", "Rollout", "DaemonSet", "Job", "Odd"), (8, 4, 1, 2, 2, 1))[0]
        namespace, name = r.choice(SPACES), self.name()
        labels = {"app": name}
        if r.random() < 0.08:
            labels["env"] = "critical"
        if r.random() < 0.08:
            labels["app.kubernetes.io/name"] = r.choice(("curfew-agent", "coredns"))
        marks = dict([r.choice(MARKS)]) if r.random() < 0.08 else {}
        replicas = r.choice((0, 1, 1, 2, 3))
        template = {"metadata": {"labels": labels, "annotations": marks}, "spec": {"volumes": self._volumes(namespace)}}
        spec: Object = {"template": template}
        if kind not in ("DaemonSet", "Job") and r.random() < 0.95:
            spec["replicas"] = replicas
        kept = {"annotations": {"curfew.dev/keep": "yes"}} if r.random() < 0.05 else {}
        owner = self.add(thing(kind, namespace, name, spec=spec, metadata={"labels": dict(labels), **kept}))
        if kind == "Deployment":
            held = {"ownerReferences": [{"kind": kind, "name": name, "controller": True}]}
            owner = self.add(thing("ReplicaSet", namespace, f"{name}-rs", metadata=held))
        for _ in range(replicas or r.choice((0, 0, 1))):
            self._pod(owner, namespace, template, nodes)
        if r.random() < 0.25:
            rule = r.choice(
                ({"maxUnavailable": 0}, {"maxUnavailable": 1}, {"minAvailable": "100%"}, {"minAvailable": 1})
            )
            self.add(
                thing("PodDisruptionBudget", namespace, name, spec={**rule, "selector": {"matchLabels": {"app": name}}})
            )

    def _pod(self, owner: Object | None, namespace: str, template: Object, nodes: list[str]) -> None:
        r = self.r
        annotations = dict(template["metadata"]["annotations"])
        if r.random() < 0.04:
            annotations.update([r.choice(MARKS)])
        metadata: Object = {"labels": dict(template["metadata"]["labels"]), "annotations": annotations}
        if owner is not None:
            metadata["ownerReferences"] = [
                {"kind": owner["kind"], "name": owner["metadata"]["name"], "controller": True}
            ]
        spec = dict(template["spec"])
        if nodes and r.random() < 0.9:
            spec["nodeName"] = r.choice(nodes)
        phase = r.choices(("Running", "Pending", "Succeeded"), (9, 1, 1))[0]
        self.add(thing("Pod", namespace, self.name(), metadata=metadata, spec=spec, status={"phase": phase}))

    def _loose_pod(self, nodes: list[str]) -> None:
        self._pod(None, self.r.choice(SPACES), {"metadata": {"labels": {}, "annotations": {}}, "spec": {}}, nodes)

    def _hooks(self) -> None:
        r = self.r
        owners = [o for kind in ("Deployment", "StatefulSet") for o in self.objects.get(kind, ())]
        for obj in r.sample(owners, min(len(owners), r.randint(0, 2))):
            space, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
            self.add(thing("Service", space, f"s-{name}", spec={"selector": {"app": name}}))
            kind = r.choice(("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"))
            hook: Object = {"name": name, "clientConfig": {"service": {"namespace": space, "name": f"s-{name}"}}}
            policy = r.choice(("Fail", "Ignore", None))
            if policy:
                hook["failurePolicy"] = policy
            hook["rules"] = [{"resources": [r.choice(("pods", "deployments"))], "operations": ["CREATE"]}]
            self.add(thing(kind, "", f"h-{name}", webhooks=[hook]))


# the judge: the same promises, from the objects up


def judge(world: World, scope: Scope, found: Plan) -> list[str]:
    """Every broken promise, in words."""
    return [*_changed(world, scope, found), *_nodes_gone(world, scope, found), *_sizes(found)]


def _space_is_safe(world: World, scope: Scope, space: str) -> bool:
    if space in PROTECTED or space in scope.critical or space == "curfew":
        return True
    held = next((n["metadata"] for n in world.of("Namespace") if n["metadata"]["name"] == space), {})
    return "curfew.dev/keep" in held.get("annotations", {})


def _must_stay(world: World, scope: Scope, obj: Object) -> str:
    """Why a workload may not be scaled down, "" when it may."""
    space, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
    template = obj["spec"]["template"]
    labels = template["metadata"]["labels"]
    pods = [
        p for p in _alive(world) if p["metadata"]["labels"].get("app") == name and p["metadata"]["namespace"] == space
    ]
    if _space_is_safe(world, scope, space):
        return "its namespace"
    if labels.get("app.kubernetes.io/name") in ("curfew-agent", "coredns"):
        return "the agent or DNS"
    if "curfew.dev/keep" in obj["metadata"].get("annotations", {}):
        return "its owner's mark"
    if scope.keep and labels.get("env") == "critical":
        return "its tag"
    for one in (template, *pods):
        if any(one["metadata"]["annotations"].get(k) == v for k, v in MARKS):
            return "do-not-disrupt"
        if any(_is_local(world, space, v) for v in one["spec"].get("volumes", ())):
            return "a local volume"
    return _hooked(world, space, name) or _budgeted(world, space, name, len(pods))


def _alive(world: World) -> list[Object]:
    return [p for p in world.of("Pod") if p["status"]["phase"] != "Succeeded"]


def _is_local(world: World, space: str, volume: Object) -> bool:
    if "hostPath" in volume:
        return True
    name = volume.get("persistentVolumeClaim", {}).get("claimName")
    for claim in world.of("PersistentVolumeClaim"):
        if (claim["metadata"]["namespace"], claim["metadata"]["name"]) == (space, name):
            bound = claim["spec"]["volumeName"]
            return any(v["metadata"]["name"] == bound and "local" in v["spec"] for v in world.of("PersistentVolume"))
    return False


def _hooked(world: World, space: str, name: str) -> str:
    for kind in ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"):
        for config in world.of(kind):
            hook = config["webhooks"][0]
            place = hook["clientConfig"]["service"]
            if hook.get("failurePolicy") != "Ignore" and (place["namespace"], place["name"]) == (space, f"s-{name}"):
                return "a webhook's backend"
    return ""


def _budgeted(world: World, space: str, name: str, pods: int) -> str:
    for budget in world.of("PodDisruptionBudget"):
        if (budget["metadata"]["namespace"], budget["metadata"]["name"]) != (space, name):
            continue
        spec = budget["spec"]
        if spec.get("maxUnavailable") == 0 or spec.get("minAvailable") == "100%":
            return "its budget"
        if spec.get("minAvailable") == 1 and pods == 1:
            return "its budget"
    return ""


def _changed(world: World, scope: Scope, found: Plan) -> list[str]:
    problems = []
    for step in found.steps:
        if step.namespace and _space_is_safe(world, scope, step.namespace):
            problems.append(f"{step.key} is in a protected namespace")
        if step.kind in ("Deployment", "StatefulSet", "Rollout"):
            why = _must_stay(world, scope, step.obj)
            if why:
                problems.append(f"{step.key} is scaled down in spite of {why}")
    return problems


def _nodes_gone(world: World, scope: Scope, found: Plan) -> list[str]:
    """No node leaves with something on it that would be lost or evicted."""
    scaled = {(s.kind, s.namespace, s.name) for s in found.steps}
    asleep = {
        (k, o["metadata"]["namespace"], o["metadata"]["name"])
        for k in ("Deployment", "StatefulSet", "Rollout")
        for o in world.of(k)
        if o["spec"].get("replicas") == 0
    }
    problems = []
    for node in world.of("Node"):
        metadata = node["metadata"]
        name = metadata["name"]
        if name not in found.leaving:
            continue
        if "node-role.kubernetes.io/control-plane" in metadata["labels"]:
            problems.append(f"{name} leaves with the control plane")
        if metadata["annotations"].get("karpenter.sh/do-not-disrupt") == "true":
            problems.append(f"{name} leaves in spite of do-not-disrupt")
        if scope.keep and metadata["labels"].get("env") == "critical":
            problems.append(f"{name} leaves in spite of its tag")
    for pod in _alive(world):
        if pod["spec"].get("nodeName") in found.leaving:
            problems += _lost(world, scope, pod, scaled | asleep)
    return problems


def _lost(world: World, scope: Scope, pod: Object, scaled: set[tuple[str, str, str]]) -> list[str]:
    metadata = pod["metadata"]
    space, name = metadata["namespace"], metadata["name"]
    if any(metadata["annotations"].get(k) == v for k, v in MARKS):
        return [f"{space}/{name} is lost in spite of do-not-disrupt"]
    owner = (metadata.get("ownerReferences") or [None])[0]
    if owner is None:
        return (
            []
            if scope.to_zero and space in (*PROTECTED, "curfew") and space not in scope.critical
            else [f"{space}/{name} is lost: nothing starts it again"]
        )
    if owner["kind"] == "DaemonSet":
        return []
    kind, title = owner["kind"], owner["name"]
    if kind == "ReplicaSet":
        kind, title = "Deployment", title.removesuffix("-rs")
    if (kind, space, title) in scaled:
        return []
    if scope.to_zero:
        if any(_is_local(world, space, v) for v in pod["spec"].get("volumes", ())):
            return [f"{space}/{name} is lost with its local volume"]
        system = space in (*PROTECTED, "curfew") and space not in scope.critical
        obj = next(
            (o for o in world.of(kind) if (o["metadata"]["namespace"], o["metadata"]["name"]) == (space, title)), None
        )
        app = metadata["labels"].get("app.kubernetes.io/name") in ("curfew-agent", "coredns")
        if system or (space not in scope.critical and (app or (obj is not None and _hooked(world, space, title)))):
            return []
    return [f"{space}/{name} of {kind}/{title} is evicted, though it stays awake"]


def _sizes(found: Plan) -> list[str]:
    problems = []
    for step in found.groups:
        size = step.after
        if not 0 <= size.low <= size.desired <= size.high:
            problems.append(f"{step.key}: {size.text()} is no legal size")
        if size.desired < len(step.guard) or (step.kind is GroupKind.MANAGED and size.high < 1):
            problems.append(f"{step.key}: {size.text()} is too small for what stays")
        if size.desired > step.before.desired:
            problems.append(f"{step.key} grows")
    return problems


def run(plans: int, seed: int) -> dict[str, Any]:
    """So many plans; the first fifty violations and figures."""
    began, cpu = time.monotonic(), time.process_time()
    violations: list[str] = []
    count = 0
    figures: Counter[str] = Counter()
    for number in range(plans):
        world, scope = Maker(random.Random(f"{seed}-{number}")).make()
        found = plan(world, scope)
        figures["steps"] += len(found.steps)
        figures["groups_that_shrink"] += len(found.groups)
        figures["claims_that_end"] += len(found.claims)
        figures["nodes_that_leave"] += len(found.leaving)
        figures["nodes_that_stay"] += len(found.staying)
        problems = judge(world, scope, found)
        count += len(problems)
        violations += [f"{seed}-{number}: {problem}" for problem in problems][: 50 - len(violations)]
    return {
        "campaign": "hibernate_plans",
        "plans": plans,
        "seed": seed,
        **figures,
        "violations": count,
        "examples": violations,
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.hibernate_plans", description=__doc__)
    parser.add_argument("--plans", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    summary = run(options.plans, options.seed)
    sys.stdout.write(json.dumps(summary, indent=1) + "\n")
    return 1 if summary["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
