"""A cluster that lives: machines in moto become nodes with room, pods are placed where they fit or wait, budgets count.

No clock of its own: it catches up whenever nodes, pods or workloads are listed, and when told to `live`.
"""

from __future__ import annotations

import copy
import io
import time
from collections.abc import Callable, Iterable
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode

from policies.catalogue import catalogue
from policies.enforcing.enums import MARK
from policies.providers.aws_machines import AwsMachines
from tests.clusters.sleeping.aws import REGION, MotoCloud
from tests.clusters.sleeping.life import LivingKube, _asg_machines
from tests.fakes.kube_http import Asked
from tests.fakes.kube_store import Object, selects

NAME = "lark"
BIG, SMALL = "m5.xlarge", "m5.large"


class Cloud(MotoCloud):
    """`full`: (machine type, lifecycle) without capacity; a fleet that asks for them hears so, pool by pool."""

    def __init__(self) -> None:
        super().__init__()
        self.full: set[tuple[str, str]] = set()
        self.code = "InsufficientInstanceCapacity"
        self.fleets: list[list[str]] = []
        self.tokens: dict[str, tuple[Any, bytes]] = {}

    def __enter__(self) -> Self:
        super().__enter__()
        inner = self._app

        def once(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            """The same ClientToken buys once, which moto does not know."""
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(body)
            token = dict(parse_qsl(body.decode(errors="replace"))).get("ClientToken", "")
            if b"Action=CreateFleet&" not in body or not token:
                return inner(environ, start)  # type: ignore[no-any-return]
            if token not in self.tokens:
                held: list[Any] = []
                answer = b"".join(inner(environ, lambda *said: held.append(said)))
                self.tokens[token] = (held[0], answer)
            said, answer = self.tokens[token]
            start(*said)
            return [answer]

        self._app = once  # type: ignore[assignment]
        return self

    def _serve(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if b"Action=CreateFleet&" in body:
            body, none_left = self._capacity(body)
            if none_left:
                self.changes.append("CreateFleet")
                return self._say(start, 200, none_left)
        if b"Action=AttachInstances&" in body:
            machine = dict(parse_qsl(body.decode()))["InstanceIds.member.1"]
            if machine in {known for known, _ in _asg_machines()}:  # moto would attach it once more
                said = f"Instance {machine} is already part of an AutoScalingGroup"
                return self._say(
                    start,
                    400,
                    f"<ErrorResponse><Error><Type>Sender</Type><Code>ValidationError</Code><Message>{said}</Message></Error></ErrorResponse>".encode(),
                )
        environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(body), str(len(body))
        return super()._serve(environ, start)

    def _capacity(self, body: bytes) -> tuple[bytes, bytes]:
        asked = dict(parse_qsl(body.decode()))
        lifecycle = asked["TargetCapacitySpecification.DefaultTargetCapacityType"]
        head = "LaunchTemplateConfigs.1.Overrides."
        pools: dict[int, dict[str, str]] = {}
        for key, value in asked.items():
            if key.startswith(head):
                number, _, name = key.removeprefix(head).partition(".")
                pools.setdefault(int(number), {})[name] = value
        self.fleets.append([f"{p['InstanceType']} {lifecycle}" for _, p in sorted(pools.items())])
        good = [p for _, p in sorted(pools.items()) if (p["InstanceType"], lifecycle) not in self.full]
        if not good:
            return body, self._nothing(list(pools.values()))
        kept = {k: v for k, v in asked.items() if not k.startswith(head)}
        for number, pool in enumerate(good, 1):
            kept |= {f"{head}{number}.{name}": value for name, value in pool.items()}
        return urlencode(kept).encode(), b""

    def _nothing(self, pools: list[dict[str, str]]) -> bytes:
        errors = "".join(
            "<item><launchTemplateAndOverrides><overrides>"
            f"<instanceType>{p['InstanceType']}</instanceType><subnetId>{p['SubnetId']}</subnetId>"
            f"</overrides></launchTemplateAndOverrides><errorCode>{self.code}</errorCode>"
            f"<errorMessage>There is no {p['InstanceType']} here.</errorMessage></item>"
            for p in pools
        )
        return (
            '<CreateFleetResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><fleetId>fleet-1</fleetId>'
            f"<errorSet>{errors}</errorSet><fleetInstanceSet/></CreateFleetResponse>"
        ).encode()

    def machines(self) -> AwsMachines:
        return AwsMachines(self.connection(), region=REGION)

    def template_asg(self, name: str, low: int, desired: int, high: int, instance_type: str = BIG) -> None:
        ec2 = self.client("ec2")
        data = {"ImageId": "ami-12c6146b", "InstanceType": instance_type}
        ec2.create_launch_template(LaunchTemplateName=f"lt-{name}", LaunchTemplateData=data)
        self.client("autoscaling").create_auto_scaling_group(
            AutoScalingGroupName=name,
            LaunchTemplate={"LaunchTemplateName": f"lt-{name}", "Version": "$Default"},
            MinSize=low,
            DesiredCapacity=desired,
            MaxSize=high,
            VPCZoneIdentifier=",".join(self.subnets),
            Tags=[{"Key": f"kubernetes.io/cluster/{self.cluster}", "Value": "owned", "PropagateAtLaunch": True}],
        )

    def sizes(self, name: str) -> tuple[int, int, int, int]:
        """(minimum, wanted, maximum, machines)"""
        answer = self.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[name])
        raw = answer["AutoScalingGroups"][0]
        return raw["MinSize"], raw["DesiredCapacity"], raw["MaxSize"], len(raw["Instances"])

    def running(self) -> dict[str, str]:
        """Living machines and their types, in groups or not."""
        answer = self.client("ec2").describe_instances(
            Filters=[{"Name": "instance-state-name", "Values": ["pending", "running"]}]
        )
        return {i["InstanceId"]: i["InstanceType"] for r in answer["Reservations"] for i in r["Instances"]}


class Cluster(LivingKube):
    """`boots`: machines become nodes. `forever`: budgets that never allow anything, whatever their rule says. `waited_at`:
    when a pod was last found to have no place."""

    def __init__(self, cloud: Cloud, **more: Any) -> None:
        super().__init__(cloud, **more)
        self.boots = True
        self.forever: set[str] = set()
        self.waited_at = 0.0

    def answer(self, asked: Asked) -> tuple[int, Any]:
        if asked.method == "GET" and asked.name and asked.kind.plural == "nodes":
            self.live()
        return super().answer(asked)

    def live(self) -> None:
        with self.store.lock:
            super().live()
            self._budgets()

    def _groups(self) -> None:
        if not self.boots:
            return
        nodes = {n["metadata"]["name"]: n for n in self.all("nodes")}
        wanted = {f"ip-{m.id[-8:]}": m for m in _machines()}
        for name in set(nodes) - set(wanted):
            self._drop_node(name)
        for name, machine in wanted.items():
            if name not in nodes:
                self._add(name, machine)

    def _add(self, name: str, machine: Any) -> None:
        kind = catalogue().types[machine.instance_type]
        zone = machine.placement
        amounts = {
            "cpu": f"{kind.allocatable_milli}m",
            "memory": f"{kind.allocatable_mib}Mi",
            "pods": str(kind.pods),
        }
        self.create(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": name,
                    "labels": {
                        "kubernetes.io/hostname": name,
                        "kubernetes.io/arch": "amd64",
                        "kubernetes.io/os": "linux",
                        "node.kubernetes.io/instance-type": machine.instance_type,
                        "topology.kubernetes.io/zone": zone,
                        "topology.kubernetes.io/region": REGION,
                        "eks.amazonaws.com/capacityType": "SPOT" if machine.spot else "ON_DEMAND",
                    },
                },
                "spec": {"providerID": f"aws:///{zone}/{machine.id}"},
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "allocatable": amounts,
                    "capacity": amounts,
                },
            }
        )

    def _pod(self, workload: Object, number: int) -> Object:
        made = super()._pod(workload, number)
        template = copy.deepcopy((workload["spec"].get("template") or {}).get("spec") or {})
        spec = {**template, **made["spec"], "containers": template.get("containers", [])}
        return self.store.replace(
            self.kind("pods"), made["metadata"]["namespace"], made["metadata"]["name"], {**made, "spec": spec}
        ).obj

    def _place(self, workload: Object, pod: Object, nodes: list[str]) -> None:
        need = _cpu(pod)
        used: dict[str, int] = dict.fromkeys(nodes, 0)
        for other in self.all("pods"):
            if other["spec"].get("nodeName") in used:
                used[other["spec"]["nodeName"]] += _cpu(other)
        rooms = {
            name: _milli(self.get("nodes", "", name)["status"]["allocatable"]["cpu"]) - used[name] for name in nodes
        }
        fits = sorted((name for name in nodes if rooms[name] >= need), key=lambda n: (-rooms[n], n))
        new: Object
        if fits:
            new = {**pod, "spec": {**pod["spec"], "nodeName": fits[0]}, "status": {"phase": "Running"}}
        else:
            if not (pod.get("status") or {}).get("conditions"):
                self.waited_at = time.monotonic()
            waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            new = {**pod, "status": {"phase": "Pending", "conditions": [waits]}}
        placed = self.store.replace(self.kind("pods"), pod["metadata"]["namespace"], pod["metadata"]["name"], new).obj
        if placed is not pod:
            pod.clear()
            pod.update(placed)

    def _pods(self) -> None:
        super()._pods()
        if not any(not (n.get("spec") or {}).get("unschedulable") for n in self.all("nodes")):
            for pod in self.all("pods"):
                if not pod["spec"].get("nodeName") and not (pod.get("status") or {}).get("conditions"):
                    self._place({}, dict(pod), [])

    def _budgets(self) -> None:
        kind = self.kind("poddisruptionbudgets")
        for budget in self.all("poddisruptionbudgets"):
            namespace, name = budget["metadata"]["namespace"], budget["metadata"]["name"]
            mine = [
                p
                for p in self.all("pods")
                if p["metadata"]["namespace"] == namespace
                and selects(budget["spec"].get("selector"), p["metadata"].get("labels") or {})
            ]
            healthy = sum(bool(p["spec"].get("nodeName")) for p in mine)
            allowed = max(0, int(budget["spec"].get("maxUnavailable", 0)) - (len(mine) - healthy))
            status = {"disruptionsAllowed": 0 if name in self.forever else allowed, "expectedPods": len(mine)}
            if budget.get("status") != status:
                self.store.replace(kind, namespace, name, {**budget, "status": status})

    # what tests ask

    def closed(self) -> list[str]:
        """Nodes that are cordoned or carry our hold."""
        return sorted(
            n["metadata"]["name"]
            for n in self.all("nodes")
            if (n.get("spec") or {}).get("unschedulable")
            or any(k.startswith("curfew.dev/") for k in n["metadata"].get("annotations") or {})
        )

    def waiting(self) -> list[str]:
        return sorted(p["metadata"]["name"] for p in self.all("pods") if not p["spec"].get("nodeName"))


class _Machine:
    def __init__(self, instance: Any) -> None:
        self.id, self.instance_type = instance.id, instance.instance_type
        self.placement = instance.placement if isinstance(instance.placement, str) else instance.placement.zone
        self.spot = getattr(instance, "spot_fleet_id", None) is not None or instance.lifecycle == "spot"


def _machines() -> list[_Machine]:
    """Machines in a group, and those that an action bought and that join on their own."""
    from moto.ec2.models import ec2_backends

    grouped = {machine for machine, _ in _asg_machines()}
    found = []
    for account in list(ec2_backends):
        for reservation in ec2_backends[account][REGION].reservations.values():
            for instance in reservation.instances:
                tags = {t["key"]: t["value"] for t in instance.get_tags()}
                if instance.state == "running" and (instance.id in grouped or MARK in tags):
                    found.append(_Machine(instance))
    return found


def _milli(text: str) -> int:
    return int(text[:-1]) if text.endswith("m") else int(float(text) * 1000)


def _cpu(pod: Object) -> int:
    return sum(
        _milli(str(((c.get("resources") or {}).get("requests") or {}).get("cpu", "0")))
        for c in pod["spec"].get("containers") or ()
    )


def deployment(name: str, replicas: int, *, cpu: str = "500m", namespace: str = "shop", **more: Any) -> Object:
    """A deployment whose pods ask for so much; `annotations` go onto its pods."""
    box = {"name": "app", "image": "app:1", "resources": {"requests": {"cpu": cpu, "memory": "256Mi"}}}
    annotations = more.pop("annotations", {})
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}, "annotations": annotations},
                "spec": {"containers": [box], **more},
            },
        },
    }


def budget(name: str, most: int = 1, namespace: str = "shop") -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": f"{name}-pdb", "namespace": namespace},
        "spec": {"selector": {"matchLabels": {"app": name}}, "maxUnavailable": most},
        "status": {"disruptionsAllowed": most},
    }
