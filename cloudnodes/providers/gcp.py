"""Cloud Run services as cloud nodes."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from accounts.providers.gcp import GcpConnection
from accounts.providers.gcp_errors import RPC_STATUS, from_status, gcp_errors
from cloudnodes.providers.base import Instance, InstanceState, Progress, Scaling, Started
from cloudnodes.providers.labels import NODE_TYPE, CurfewLabels, curfew_labels
from cloudnodes.providers.probe import probe_endpoint
from core.providers import InvalidRequest, NotFound

PAGE = 100
# Up to this many services are read one by one; more are read with one listing.
SINGLE_READS = 3
BEFORE = "curfew.scaling-before-sleep"
MANUAL = 2
_RESERVED = (
    "run.googleapis.com/",
    "cloud.googleapis.com/",
    "serving.knative.dev/",
    "autoscaling.knative.dev/",
    "client.knative.dev/",
)
_ENDED_WELL, _ENDED_BADLY = 4, 5


class GcpNodeProvider:
    """The Cloud Run services of one project in one location. `provider_id` is the full resource name.

    A service with automatic scaling and no minimum scales to zero by itself: it is listed with
    scaling TO_ZERO and never changed. Others sleep with manual scaling 0; what the scaling was
    before is written into an annotation in the same request and put back by `start`.
    """

    provider = "gcp"

    def __init__(self, connection: GcpConnection) -> None:
        self.connection = connection

    def discover(self, *, include_untagged: bool = False) -> list[Instance]:
        """List services labelled `curfew-node-type` (or annotated `curfew.node-type`), or all."""
        found = [self._instance(raw) for raw in self._list()]
        return [instance for instance in found if include_untagged or instance.node_type]

    def describe(self, provider_ids: Collection[str]) -> dict[str, Instance]:
        """Describe by resource name; deleted services come back as GONE."""
        ids = list(dict.fromkeys(provider_ids))
        for i in ids:
            self._own(i)
        listed = {raw.name: self._instance(raw) for raw in self._list()} if len(ids) > SINGLE_READS else {}
        # An empty answer reads as an empty listing: only a direct "not found" proves absence.
        return {i: listed.get(i) or self._describe_one(i) for i in ids}

    def start(self, provider_id: str, *, token: str) -> Started:
        """Put back the scaling of before the sleep, or one instance when none is known."""
        raw = self._get(provider_id)
        if _sleeps_by_itself(raw):
            return Started(already=True, words="It starts by itself when it is called.")
        if raw.scaling.scaling_mode != MANUAL or raw.scaling.manual_instance_count > 0:
            return Started(already=True, words="It is running already.")
        annotations = _own_annotations(raw)
        scaling, paths = _restored(annotations.pop(BEFORE, ""))
        name = self._patch(raw, scaling, annotations, [*paths, "annotations"])
        return Started(continuation=name, words="Cloud Run is starting the service.")

    def stop(self, provider_id: str, *, token: str) -> Started:
        """Set manual scaling to zero and remember the scaling of before, in one request."""
        from google.cloud import run_v2

        raw = self._get(provider_id)
        if _sleeps_by_itself(raw):
            return Started(already=True, words="It scales to zero by itself.")
        if raw.scaling.scaling_mode == MANUAL and raw.scaling.manual_instance_count == 0:
            return Started(already=True, words="It is scaled to zero already.")
        annotations = {**_own_annotations(raw), BEFORE: _remembered(raw.scaling)}
        scaling = run_v2.ServiceScaling(scaling_mode=MANUAL, manual_instance_count=0)
        name = self._patch(
            raw, scaling, annotations, ["scaling.scaling_mode", "scaling.manual_instance_count", "annotations"]
        )
        return Started(continuation=name, words="Cloud Run is scaling the service to zero.")

    def check(self, continuation: str) -> Progress:
        """Read the operation once. A forgotten operation counts as done: `describe` is the truth."""
        if not continuation:
            return Progress(done=True)
        if not continuation.startswith(f"{self.connection.parent}/operations/"):
            raise InvalidRequest("This operation belongs to another project or region.", code="foreign_address")
        try:
            with gcp_errors("run.operations.get", self.connection.secrets()):
                operations = self.connection.services().transport.operations_client
                operation = operations.get_operation(name=continuation, **self.connection.call)
        except NotFound:
            return Progress(done=True, words="Google no longer keeps this operation.")
        if not operation.done:
            return Progress(done=False, words="Cloud Run is changing the service.")
        if operation.error.code:
            error = from_status(
                RPC_STATUS.get(operation.error.code, 500), operation.error.message, action="run.services.update"
            )
            return Progress(done=True, error=error, words="Cloud Run could not change the service.")
        return Progress(done=True, words="Cloud Run changed the service.")

    def probe(self, health_endpoint: str, *, timeout: float = 3.0) -> bool | None:
        """Ask the service itself; None when no annotation names a path. An idle service wakes when asked."""
        return probe_endpoint(health_endpoint, timeout=timeout)

    def _describe_one(self, provider_id: str) -> Instance:
        try:
            return self._instance(self._get(provider_id))
        except NotFound:
            return self._gone(provider_id)

    def _own(self, provider_id: str) -> str:
        prefix = f"{self.connection.parent}/services/"
        if not provider_id.startswith(prefix) or "/" in provider_id[len(prefix) :]:
            raise InvalidRequest(
                "This is not a Cloud Run service of this project and region.", code="bad_id", detail=provider_id
            )
        return provider_id

    def _get(self, provider_id: str) -> Any:
        with gcp_errors("run.services.get", self.connection.secrets()):
            raw = self.connection.services().get_service(name=self._own(provider_id), **self.connection.call)
            if not raw.name:
                raise ValueError("a service without a name")
            return raw

    def _list(self) -> list[Any]:
        with gcp_errors("run.services.list", self.connection.secrets()):
            pager = self.connection.services().list_services(
                request={"parent": self.connection.parent, "page_size": PAGE}, **self.connection.call
            )
            return list(pager)

    def _patch(self, raw: Any, scaling: Any, annotations: Mapping[str, str], paths: list[str]) -> str:
        """Change only scaling and annotations, only if nobody else changed the service meanwhile."""
        from google.cloud import run_v2

        service = run_v2.Service(name=raw.name, etag=raw.etag, scaling=scaling, annotations=dict(annotations))
        with gcp_errors("run.services.update", self.connection.secrets()):
            request = run_v2.UpdateServiceRequest(service=service, update_mask={"paths": paths})
            return str(
                self.connection.services().update_service(request=request, **self.connection.call).operation.name
            )

    def _instance(self, raw: Any) -> Instance:
        own, source = _labels(raw)
        by_itself = _sleeps_by_itself(raw)
        state, reason = _state(raw)
        endpoint = own.values.get("endpoint", "").strip() or raw.uri or ""
        health = own.health_endpoint(endpoint) if own.values.get("health-path") and not by_itself else ""
        accelerator = raw.template.node_selector.accelerator if raw.template.node_selector else ""
        return Instance(
            provider_id=raw.name,
            name=raw.name.rsplit("/", 1)[-1],
            region=self.connection.region,
            zone="",
            instance_type=accelerator or "cloud-run",
            state=state,
            endpoint=endpoint,
            node_type=own.node_type,
            gpu_tier=own.gpu_tier,
            tags={**dict(raw.labels), **_own_annotations(raw)},
            launched_at=None,
            scaling=Scaling.TO_ZERO if by_itself else Scaling.MANUAL,
            labels_source=source,
            health_endpoint=health,
            hourly_cost=own.hourly_cost,
            state_reason=reason,
        )

    def _gone(self, provider_id: str) -> Instance:
        return Instance(
            provider_id=provider_id,
            name=provider_id.rsplit("/", 1)[-1],
            region=self.connection.region,
            zone="",
            instance_type="",
            state=InstanceState.GONE,
        )


def _labels(raw: Any) -> tuple[CurfewLabels, str]:
    """Return Curfew's labels; annotations win, since only they may hold blanks, capitals and slashes."""
    labels = dict(curfew_labels(dict(raw.labels), "-").values)
    annotations = dict(curfew_labels(dict(raw.annotations), ".").values)
    own = CurfewLabels({**labels, **annotations})
    if not own.node_type:
        return own, "none"
    return own, "annotations" if NODE_TYPE in annotations else "labels"


def _own_annotations(raw: Any) -> dict[str, str]:
    """Return the annotations that the API takes back; the system's own are refused on update."""
    return {k: v for k, v in dict(raw.annotations).items() if not k.startswith(_RESERVED)}


def _sleeps_by_itself(raw: Any) -> bool:
    return (
        raw.scaling.scaling_mode != MANUAL
        and not raw.scaling.min_instance_count
        and not raw.template.scaling.min_instance_count
    )


def _state(raw: Any) -> tuple[InstanceState, str]:
    reason = raw.terminal_condition.message or ""
    ended = int(raw.terminal_condition.state)
    asleep = raw.scaling.scaling_mode == MANUAL and raw.scaling.manual_instance_count == 0
    if raw.reconciling or ended in {1, 2, 3}:
        return (InstanceState.STOPPING if asleep else InstanceState.STARTING), reason
    if asleep:
        return InstanceState.STOPPED, reason
    if ended == _ENDED_BADLY:
        return InstanceState.UNKNOWN, reason
    return InstanceState.RUNNING, reason


def _remembered(scaling: Any) -> str:
    return json.dumps(
        {
            "mode": int(scaling.scaling_mode),
            "manual": int(scaling.manual_instance_count or 0),
            "min": int(scaling.min_instance_count or 0),
            "max": int(scaling.max_instance_count or 0),
        }
    )


def _restored(remembered: str) -> tuple[Any, list[str]]:
    """Return the scaling to set and the fields to name; one instance when nothing usable was remembered."""
    from google.cloud import run_v2

    try:
        before = {k: int(v) for k, v in json.loads(remembered).items()} if remembered else {}
    except (ValueError, TypeError, AttributeError):
        before = {}
    if before and before.get("mode") != MANUAL:
        # Going back to automatic needs both limits or neither.
        scaling = run_v2.ServiceScaling(
            scaling_mode=1, min_instance_count=before.get("min", 0), max_instance_count=before.get("max", 0)
        )
        return scaling, ["scaling"]
    scaling = run_v2.ServiceScaling(scaling_mode=MANUAL, manual_instance_count=max(1, before.get("manual", 1)))
    return scaling, ["scaling.scaling_mode", "scaling.manual_instance_count"]
