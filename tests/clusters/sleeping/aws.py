"""moto over HTTP in this process: Auto Scaling groups and EKS node groups, with a hook on every change.

moto lacks describe_scaling_activities and tags of node groups, and starts no machine for a managed node group; what it has is used as it is.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote

from accounts.providers.aws import AwsConnection
from accounts.providers.base import Credentials
from clusters.providers.aws_groups import AwsNodeGroups

REGION = "eu-west-1"
CHANGES = (
    "CreateOrUpdateTags",
    "DeleteTags",
    "UpdateAutoScalingGroup",
    "SetInstanceProtection",
    "SuspendProcesses",
    "ResumeProcesses",
    "CreateFleet",
    "AttachInstances",
    "TerminateInstanceInAutoScalingGroup",
    "TerminateInstances",
)


class MotoCloud:
    """One account. `before(what)` and `after(what)` are called around every change; what they return is the answer."""

    def __init__(self) -> None:
        self.before: Callable[[str], tuple[int, bytes] | None] = lambda what: None
        self.after: Callable[[str], tuple[int, bytes] | None] = lambda what: None
        self.changes: list[str] = []
        self.failures: dict[str, list[dict[str, Any]]] = {}

    def __enter__(self) -> Self:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
                """Nothing."""

        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True, request_handler=Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()

    def _serve(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        what = self._change(environ, body)
        if what == "activities":
            return self._say(start, 200, self._activities(parse_qs(body.decode())))
        if not what:
            return self._app(environ, start)  # type: ignore[no-any-return]
        self.changes.append(what)
        instead = self.before(what)
        if instead is not None:
            return self._say(start, *instead)
        held: list[Any] = []
        if "/tags/" in what and ":nodegroup/" in unquote(what):
            self._tag(environ, body)
            held.append(("200 OK", [("Content-Type", "application/json"), ("Content-Length", "2")]))
            answer = b"{}"
        else:
            answer = b"".join(self._app(environ, lambda *said: held.append(said)))
        instead = self.after(what)
        if instead is not None:
            return self._say(start, *instead)
        start(*held[0])
        return [answer]

    @staticmethod
    def _say(start: Callable[..., Any], status: int, body: bytes) -> Iterable[bytes]:
        start(f"{status} Made", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [body]

    @staticmethod
    def _change(environ: dict[str, Any], body: bytes) -> str:
        """What a request changes; "" for one that only reads."""
        if b"Action=DescribeScalingActivities" in body:
            return "activities"
        action = next((a for a in CHANGES if f"Action={a}&".encode() in body + b"&"), "")
        if action:
            return action
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        managed = path.startswith("/tags/") or path.endswith("/update-config")
        return f"{method} {path}" if managed and method in ("POST", "DELETE") else ""

    def _tag(self, environ: dict[str, Any], body: bytes) -> None:
        """Tags of a managed node group, which moto refuses."""
        from moto.eks.models import eks_backends

        name = unquote(environ["PATH_INFO"]).split(":nodegroup/")[1].split("/")[1]
        (group,) = (
            found.nodegroups[name]
            for account in list(eks_backends)
            for found in eks_backends[account][REGION].clusters.values()
            if name in found.nodegroups
        )
        tags = dict(group.tags or {})
        if environ["REQUEST_METHOD"] == "POST":
            tags.update(json.loads(body)["tags"])
        for key in parse_qs(environ.get("QUERY_STRING", "")).get("tagKeys", []):
            tags.pop(key, None)
        group.tags = tags

    def _activities(self, asked: dict[str, list[str]]) -> bytes:
        name = asked["AutoScalingGroupName"][0]
        members = "".join(
            "<member>"
            + "".join(f"<{key}>{value}</{key}>" for key, value in {"ActivityId": "a", **one}.items())
            + "</member>"
            for one in self.failures.get(name, ())
        )
        space = "http://autoscaling.amazonaws.com/doc/2011-01-01/"
        return (
            f'<DescribeScalingActivitiesResponse xmlns="{space}"><DescribeScalingActivitiesResult><Activities>{members}'
            "</Activities></DescribeScalingActivitiesResult></DescribeScalingActivitiesResponse>"
        ).encode()

    def connection(self) -> AwsConnection:
        values = {"access_key_id": "AKIA" + "A" * 16, "secret_access_key": "s" * 40}
        return AwsConnection(
            Credentials("aws", "keys", region=REGION, values=values, endpoints={"aws": self.url})  # type: ignore[call-arg]
        )

    def client(self, service: str) -> Any:
        import boto3

        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id="AKIA" + "A" * 16,
            aws_secret_access_key="s" * 40,
        )

    def groups(self, cluster: str) -> AwsNodeGroups:
        return AwsNodeGroups(self.connection(), region=REGION, cluster=cluster)

    # filling it

    def prepare(self, cluster: str) -> None:
        ec2 = self.client("ec2")
        vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        self.subnets = [s["SubnetId"] for s in ec2.describe_subnets()["Subnets"] if s["VpcId"] == vpc][:3]
        self.client("autoscaling").create_launch_configuration(
            LaunchConfigurationName="lc", ImageId="ami-12c6146b", InstanceType="m5.xlarge"
        )
        role = "arn:aws:iam::123456789012:role/eks"
        self.client("eks").create_cluster(name=cluster, roleArn=role, resourcesVpcConfig={"subnetIds": self.subnets})
        self.cluster = cluster

    def asg(self, name: str, low: int, desired: int, high: int, **tags: str) -> None:
        marks = {f"kubernetes.io/cluster/{self.cluster}": "owned", **tags}
        self.client("autoscaling").create_auto_scaling_group(
            AutoScalingGroupName=name,
            LaunchConfigurationName="lc",
            MinSize=low,
            DesiredCapacity=desired,
            MaxSize=high,
            VPCZoneIdentifier=",".join(self.subnets),
            Tags=[{"Key": k, "Value": v, "PropagateAtLaunch": False} for k, v in marks.items()],
        )

    def managed(self, name: str, low: int, desired: int, high: int, **tags: str) -> None:
        self.client("eks").create_nodegroup(
            clusterName=self.cluster,
            nodegroupName=name,
            scalingConfig={"minSize": low, "desiredSize": desired, "maxSize": high},
            subnets=self.subnets,
            nodeRole="arn:aws:iam::123456789012:role/nodes",
            tags=tags,
        )

    def state(self) -> dict[str, Any]:
        """Everything about the groups that sleep may change, as the cloud tells it."""
        found: dict[str, Any] = {}
        asg, eks = self.client("autoscaling"), self.client("eks")
        for raw in asg.describe_auto_scaling_groups()["AutoScalingGroups"]:
            found[raw["AutoScalingGroupName"]] = {
                "sizes": (raw["MinSize"], raw["DesiredCapacity"], raw["MaxSize"]),
                "tags": {t["Key"]: t["Value"] for t in raw["Tags"]},
                "suspended": sorted(p["ProcessName"] for p in raw["SuspendedProcesses"]),
                "subnets": sorted(raw.get("VPCZoneIdentifier", "").split(",")),
                "guarded": sum(bool(i.get("ProtectedFromScaleIn")) for i in raw["Instances"]),
            }
        for name in eks.list_nodegroups(clusterName=self.cluster)["nodegroups"]:
            raw = eks.describe_nodegroup(clusterName=self.cluster, nodegroupName=name)["nodegroup"]
            found[f"managed {name}"] = {"sizes": raw["scalingConfig"], "tags": raw.get("tags") or {}}
        return found
