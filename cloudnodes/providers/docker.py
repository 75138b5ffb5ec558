"""Docker containers as cloud nodes."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from accounts.providers.docker import DockerConnection
from accounts.providers.docker_errors import docker_errors
from cloudnodes.providers.base import Instance, InstanceState, Progress, Started
from cloudnodes.providers.labels import curfew_labels
from cloudnodes.providers.probe import probe_endpoint
from core.providers import Conflict, InvalidRequest, NotFound

LABEL = "curfew.node-type"
# Seconds a container has to end by itself before it is killed.
GRACE_SECONDS = 10
_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_STATES = {
    "running": InstanceState.RUNNING,
    "paused": InstanceState.RUNNING,
    "restarting": InstanceState.STARTING,
    "created": InstanceState.STOPPED,
    "exited": InstanceState.STOPPED,
    "dead": InstanceState.STOPPED,
    "removing": InstanceState.STOPPING,
}


class DockerNodeProvider:
    """The containers of one engine. `provider_id` is the full container id."""

    provider = "docker"

    def __init__(self, connection: DockerConnection) -> None:
        self.connection = connection

    def discover(self, *, include_untagged: bool = False) -> list[Instance]:
        """List containers labelled `curfew.node-type`, or all, running or not."""
        with docker_errors(self.connection.secrets()):
            filters = {} if include_untagged else {"label": [LABEL]}
            listed = [str(c["Id"]) for c in self.connection.client().containers(all=True, filters=filters)]
        found = [self._describe_one(i) for i in listed]
        return [instance for instance in found if instance.state is not InstanceState.GONE]

    def describe(self, provider_ids: Collection[str]) -> dict[str, Instance]:
        """Describe by container id; removed containers come back as GONE."""
        return {i: self._describe_one(i) for i in dict.fromkeys(provider_ids)}

    def start(self, provider_id: str, *, token: str) -> Started:
        """Start, or unpause; done when it returns, so there is nothing to follow."""
        status = self._status(provider_id)
        with docker_errors(self.connection.secrets()):
            if status == "paused":
                self._client().unpause(provider_id)
                return Started(words="Docker unpaused the container.")
            if status in {"running", "restarting"}:
                return Started(already=True, words="It is running already.")
            if status == "dead":
                raise Conflict(
                    "The container is dead and cannot be started.",
                    code="dead",
                    transient=False,
                    next_step="Remove the container and create it again.",
                )
            self._client().start(provider_id)
        return Started(words="Docker started the container.")

    def stop(self, provider_id: str, *, token: str) -> Started:
        """Stop with ten seconds of grace; done when it returns."""
        status = self._status(provider_id)
        if status in {"exited", "created", "dead"}:
            return Started(already=True, words="It is stopped already.")
        with docker_errors(self.connection.secrets()):
            if status == "paused":
                # A frozen process cannot hear the signal to end.
                self._client().unpause(provider_id)
            self._client().stop(provider_id, timeout=GRACE_SECONDS)
        return Started(words="Docker stopped the container.")

    def check(self, continuation: str) -> Progress:
        """Nothing to follow on Docker: start and stop are done when they return."""
        return Progress(done=True)

    def probe(self, health_endpoint: str, *, timeout: float = 3.0) -> bool | None:
        """Ask the service itself; None when neither labels nor published ports name a port."""
        return probe_endpoint(health_endpoint, timeout=timeout)

    def cpu_seconds(self, provider_id: str) -> float | None:
        """Processor seconds that the container has used since it began; None when the engine does not say."""
        with docker_errors(self.connection.secrets()):
            told = self.connection.client().stats(_checked(provider_id), stream=False, one_shot=True)
        used = ((told.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage")
        return used / 1e9 if isinstance(used, int) and used > 0 else None

    def _client(self) -> Any:
        return self.connection.client(read_timeout=self.connection.timeouts.read + GRACE_SECONDS)

    def _status(self, provider_id: str) -> str:
        with docker_errors(self.connection.secrets()):
            return str(self.connection.client().inspect_container(_checked(provider_id))["State"]["Status"])

    def _describe_one(self, provider_id: str) -> Instance:
        try:
            with docker_errors(self.connection.secrets()):
                return self._instance(provider_id, self.connection.client().inspect_container(_checked(provider_id)))
        except NotFound:
            return Instance(
                provider_id=provider_id,
                name=provider_id[:12],
                region="",
                zone="",
                instance_type="",
                state=InstanceState.GONE,
            )

    def _instance(self, provider_id: str, raw: Mapping[str, Any]) -> Instance:
        labels = {str(k): str(v) for k, v in (raw["Config"].get("Labels") or {}).items()}
        own = curfew_labels(labels, ".")
        status = str(raw["State"]["Status"])
        state = _STATES.get(status, InstanceState.UNKNOWN)
        up = state is InstanceState.RUNNING
        endpoint = self._endpoint(raw, own) if up else ""
        return Instance(
            provider_id=provider_id,
            name=str(raw["Name"]).lstrip("/"),
            region="",
            zone=self.connection.host,
            instance_type=str(raw["Config"].get("Image", "")),
            state=state,
            endpoint=endpoint,
            node_type=own.node_type,
            gpu_tier=own.gpu_tier,
            tags=labels,
            launched_at=_time(raw["State"].get("StartedAt", "")) if up else None,
            labels_source="labels" if own.node_type else "none",
            health_endpoint=own.health_endpoint(endpoint),
            hourly_cost=own.hourly_cost,
            state_reason="paused" if status == "paused" else str(raw["State"].get("Error") or ""),
        )

    def _endpoint(self, raw: Mapping[str, Any], own: Any) -> str:
        """Return the labelled endpoint, else the first published port on the engine's host."""
        published = [
            int(binding["HostPort"])
            for bindings in ((raw.get("NetworkSettings") or {}).get("Ports") or {}).values()
            for binding in bindings or []
            if str(binding.get("HostPort", "")).isdigit()
        ]
        port = min(published) if published else None
        if port is None and "port" not in own.values and "endpoint" not in own.values:
            return ""
        return str(own.endpoint(self.connection.host, port=port))


def _checked(provider_id: str) -> str:
    """Return the id; raises InvalidRequest for one that would lead elsewhere as part of an address."""
    if not _ID.fullmatch(provider_id):
        raise InvalidRequest("This is not the id of a container.", code="bad_id", detail=provider_id)
    return provider_id


def _time(text: str) -> datetime | None:
    """Parse Docker's RFC 3339 with nanoseconds as UTC; None for its zero time."""
    if not text or text.startswith("0001-"):
        return None
    head, _, tail = text.rstrip("Z").partition(".")
    try:
        return datetime.fromisoformat(head).replace(tzinfo=UTC, microsecond=int((tail + "000000")[:6] or 0))
    except ValueError:
        return None
