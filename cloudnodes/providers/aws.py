"""EC2 instances as cloud nodes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from accounts.providers.aws import AwsConnection, utc
from accounts.providers.aws_errors import aws_errors, need
from accounts.providers.aws_rights import allowed, identity
from accounts.providers.aws_template import TRAIL_ACTIONS
from cloudnodes.providers.base import Instance, InstanceState, Progress, Started
from cloudnodes.providers.labels import curfew_labels
from cloudnodes.providers.load import PERIOD, Load, Switched, put_together, whole_periods
from cloudnodes.providers.probe import probe_endpoint
from core.providers import NotFound

TAG = "curfew:node-type"
# The most values EC2 takes in one filter.
BATCH = 200
PAGE = 1000
ALIVE = ["pending", "running", "stopping", "stopped"]
_METRICS = (("cpu", "CPUUtilization", "Maximum"), ("received", "NetworkIn", "Sum"), ("sent", "NetworkOut", "Sum"))
_EVENTS = {
    "start": ("StartInstances", "RunInstances"),
    "stop": ("StopInstances",),
    "delete": ("TerminateInstances",),
}
_STATES = {
    "pending": InstanceState.STARTING,
    "running": InstanceState.RUNNING,
    "stopping": InstanceState.STOPPING,
    "stopped": InstanceState.STOPPED,
    "shutting-down": InstanceState.GONE,
    "terminated": InstanceState.GONE,
}


class AwsNodeProvider:
    """The EC2 instances of one account in one region."""

    provider = "aws"

    def __init__(self, connection: AwsConnection, *, region: str = "") -> None:
        self.connection = connection
        self.region = region or connection.region
        self._processors: dict[str, int] = {}

    def discover(self, *, include_untagged: bool = False) -> list[Instance]:
        """List instances tagged `curfew:node-type`, or all; terminated ones are left out."""
        filters = [{"Name": "instance-state-name", "Values": ALIVE}]
        if not include_untagged:
            filters.append({"Name": "tag-key", "Values": [TAG]})
        return [self._instance(raw) for raw in self._read(filters)]

    def describe(self, provider_ids: Collection[str]) -> dict[str, Instance]:
        """Describe by id in batches of 200; ids that EC2 no longer lists come back as GONE."""
        ids = list(dict.fromkeys(provider_ids))
        found: dict[str, Instance] = {}
        for start in range(0, len(ids), BATCH):
            # A filter, not InstanceIds: with those, one unknown id fails the whole batch.
            for raw in self._read([{"Name": "instance-id", "Values": ids[start : start + BATCH]}]):
                instance = self._instance(raw)
                found[instance.provider_id] = instance
        return {i: found.get(i) or self._gone(i) for i in ids}

    def start(self, provider_id: str, *, token: str) -> Started:
        """Start; EC2 takes no token here, but starting a running instance changes nothing."""
        with aws_errors("ec2:StartInstances", self.connection.secrets()):
            answer = self._client().start_instances(InstanceIds=[provider_id])
            change = self._change(answer, "StartingInstances", provider_id)
        if change in {"running", "pending"}:
            return Started(already=True, words="It is running already.")
        return Started(words="EC2 is starting the instance.")

    def stop(self, provider_id: str, *, token: str) -> Started:
        """Stop (not hibernate: no GPU family can); compute charges end when it leaves running."""
        with aws_errors("ec2:StopInstances", self.connection.secrets()):
            answer = self._client().stop_instances(InstanceIds=[provider_id])
            change = self._change(answer, "StoppingInstances", provider_id)
        if change in {"stopped", "stopping"}:
            return Started(already=True, words="It is stopped already.")
        return Started(words="EC2 is stopping the instance.")

    def check(self, continuation: str) -> Progress:
        """Nothing to follow on EC2: `describe` tells the progress."""
        return Progress(done=True)

    def probe(self, health_endpoint: str, *, timeout: float = 3.0) -> bool | None:
        """Ask the service itself; None when the tags name no port."""
        return probe_endpoint(health_endpoint, timeout=timeout)

    def load(self, provider_id: str, *, instance_type: str, now: datetime) -> Load | None:
        """CPU and network from CloudWatch's five-minute figures, in one call that costs three metrics."""
        processors = self._processors_of(instance_type)
        start, end = whole_periods(now)
        dimensions = [{"Name": "InstanceId", "Value": provider_id}]
        queries = [
            {
                "Id": name,
                "MetricStat": {
                    "Metric": {"Namespace": "AWS/EC2", "MetricName": metric, "Dimensions": dimensions},
                    "Period": int(PERIOD.total_seconds()),
                    "Stat": statistic,
                },
            }
            for name, metric, statistic in _METRICS
        ]
        with aws_errors("cloudwatch:GetMetricData", self.connection.secrets()):
            client = self.connection.client("cloudwatch", region=self.region)
            answer = client.get_metric_data(MetricDataQueries=queries, StartTime=start, EndTime=end)
            told = {
                need(one, "Id"): {
                    at.astimezone(UTC): float(v) for at, v in zip(one["Timestamps"], one["Values"], strict=True)
                }
                for one in need(answer, "MetricDataResults")
            }
        return put_together(told.get("cpu", {}), told.get("received", {}), told.get("sent", {}), processors)

    def lacks_to_tell(self) -> list[str]:
        """Asked of IAM beforehand."""
        granted = allowed(self.connection, identity(self.connection), TRAIL_ACTIONS)
        return [action for action in TRAIL_ACTIONS if action not in granted]

    def who_switched(self, provider_id: str, *, how: str, since: datetime, until: datetime) -> Switched | None:
        """Look it up in CloudTrail, which knows an event some minutes after it happened."""
        with aws_errors("cloudtrail:LookupEvents", self.connection.secrets()):
            answer = self.connection.client("cloudtrail", region=self.region).lookup_events(
                LookupAttributes=[{"AttributeKey": "ResourceName", "AttributeValue": provider_id}],
                StartTime=since,
                EndTime=until,
                MaxResults=50,
            )
            events = [one for one in need(answer, "Events") if one.get("EventName") in _EVENTS[how]]
            accepted = [(one, told) for one in events if not (told := _told(one)).get("errorCode")]
            if not accepted:
                return None
            event, told = max(accepted, key=lambda pair: need(pair[0], "EventTime"))
            at = utc(event["EventTime"])
        return None if at is None else Switched(_identity(told, event), str(event["EventName"]), at)

    def _processors_of(self, instance_type: str) -> int:
        if instance_type not in self._processors:
            with aws_errors("ec2:DescribeInstanceTypes", self.connection.secrets()):
                found = need(self._client().describe_instance_types(InstanceTypes=[instance_type]), "InstanceTypes")
                self._processors[instance_type] = int(need(need(found[0], "VCpuInfo"), "DefaultVCpus")) if found else 0
        return self._processors[instance_type]

    def _client(self) -> Any:
        return self.connection.client("ec2", region=self.region)

    def _read(self, filters: list[dict[str, Any]]) -> Iterable[Mapping[str, Any]]:
        with aws_errors("ec2:DescribeInstances", self.connection.secrets()):
            pages = (
                self._client()
                .get_paginator("describe_instances")
                .paginate(Filters=filters, PaginationConfig={"PageSize": PAGE})
            )
            found = [
                raw for page in pages for reservation in need(page, "Reservations") for raw in reservation["Instances"]
            ]
            # The parser leaves out what a foreign or cut answer lacks: ask for it here, inside the error edge.
            for raw in found:
                need(need(raw, "State"), "Name")
                need(raw, "InstanceId")
            return found

    @staticmethod
    def _change(answer: Mapping[str, Any], key: str, provider_id: str) -> str:
        for change in need(answer, key):
            if change.get("InstanceId") == provider_id:
                previous: str = need(need(change, "PreviousState"), "Name")
                if previous in {"terminated", "shutting-down"}:
                    raise NotFound("This instance was terminated.", detail=previous)
                return previous
        raise NotFound("AWS does not know this resource.", detail=provider_id)

    def _instance(self, raw: Mapping[str, Any]) -> Instance:
        tags = {t["Key"]: t.get("Value", "") for t in raw.get("Tags", [])}
        own = curfew_labels(tags, ":")
        state = _STATES.get(raw["State"]["Name"], InstanceState.UNKNOWN)
        up = state in {InstanceState.RUNNING, InstanceState.STARTING}
        host = raw.get("PublicDnsName") or raw.get("PublicIpAddress") or raw.get("PrivateIpAddress") or ""
        endpoint = own.endpoint(host if up else "")
        reason = (raw.get("StateReason") or {}).get("Message") or raw.get("StateTransitionReason") or ""
        return Instance(
            provider_id=raw["InstanceId"],
            name=tags.get("Name") or raw["InstanceId"],
            region=self.region,
            zone=(raw.get("Placement") or {}).get("AvailabilityZone") or "",
            instance_type=raw.get("InstanceType", ""),
            state=state,
            endpoint=endpoint,
            node_type=own.node_type,
            gpu_tier=own.gpu_tier,
            tags=tags,
            launched_at=utc(raw.get("LaunchTime")) if up else None,
            lifecycle="spot" if raw.get("InstanceLifecycle") == "spot" else "on_demand",
            labels_source="tags" if own.node_type else "none",
            health_endpoint=own.health_endpoint(endpoint),
            hourly_cost=own.hourly_cost,
            state_reason=reason,
        )

    def _gone(self, provider_id: str) -> Instance:
        return Instance(
            provider_id=provider_id,
            name=provider_id,
            region=self.region,
            zone="",
            instance_type="",
            state=InstanceState.GONE,
        )


def _told(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """The whole event, which CloudTrail gives as a text; {} when it cannot be read."""
    try:
        found = json.loads(event.get("CloudTrailEvent") or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _identity(told: Mapping[str, Any], event: Mapping[str, Any]) -> str:
    """A person can read it: "user bob", "role Admin (bob)", "the root user", "autoscaling.amazonaws.com"."""
    who = told.get("userIdentity") or {}
    kind, arn = str(who.get("type", "")), str(who.get("arn", ""))
    if kind == "AssumedRole" and arn.count("/") >= 2:
        _, role, session = arn.rsplit("/", 2)
        return f"role {role} ({session})"[:200]
    if kind == "Root":
        return "the root user"
    if kind == "IAMUser":
        return f"user {who.get('userName') or event.get('Username', '')}"[:200]
    return str(who.get("invokedBy") or arn or event.get("Username") or "somebody AWS does not name")[:200]
