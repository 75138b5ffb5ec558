"""Azure virtual machines as cloud nodes."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit

from accounts.providers.azure import AzureConnection
from accounts.providers.azure_errors import azure_errors, from_code
from cloudnodes.providers.base import Instance, InstanceState, Progress, Started
from cloudnodes.providers.labels import curfew_labels
from cloudnodes.providers.load import Load, azure_processors, put_together, whole_periods
from cloudnodes.providers.probe import probe_endpoint
from core.providers import BadAnswer, InvalidRequest, NotFound

# Up to this many machines are read one by one; more are read with two listings.
SINGLE_READS = 3
_ID = re.compile(
    r"/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/Microsoft\.Compute/virtualMachines/([^/]+)", re.IGNORECASE
)
_METRICS = {"Percentage CPU": "maximum", "Network In Total": "total", "Network Out Total": "total"}
_POWER = {
    "running": InstanceState.RUNNING,
    "starting": InstanceState.STARTING,
    "stopping": InstanceState.STOPPING,
    "deallocating": InstanceState.STOPPING,
    "deallocated": InstanceState.STOPPED,
    "stopped": InstanceState.STOPPED_BILLING,
}


class AzureNodeProvider:
    """The virtual machines of one subscription. `provider_id` is the ARM id."""

    provider = "azure"

    def __init__(self, connection: AzureConnection) -> None:
        self.connection = connection

    def discover(self, *, include_untagged: bool = False) -> list[Instance]:
        """List machines tagged `curfew:node-type`, or all, with two listings whatever their number."""
        states = None
        found = []
        for raw in self._list():
            own = curfew_labels(raw.tags, ":")
            if not own.node_type and not include_untagged:
                continue
            if states is None:
                states = self._states()
            found.append(self._instance(raw, states.get(raw.id.lower())))
        return found

    def describe(self, provider_ids: Collection[str]) -> dict[str, Instance]:
        """Describe by ARM id; machines that are not there come back as GONE."""
        ids = list(dict.fromkeys(provider_ids))
        if len(ids) <= SINGLE_READS:
            return {i: self._describe_one(i) for i in ids}
        machines = {raw.id.lower(): raw for raw in self._list()}
        states = self._states()
        found = {}
        for i in ids:
            raw = machines.get(i.lower())
            # A listing leaves out what a narrowed role may not see: only a direct answer proves absence.
            found[i] = (
                self._instance(raw, states.get(i.lower()), provider_id=i) if raw is not None else self._describe_one(i)
            )
        return found

    def start(self, provider_id: str, *, token: str) -> Started:
        """Order a start and return at once; `token` becomes the x-ms-client-request-id."""
        return self._order(provider_id, "start", token)

    def stop(self, provider_id: str, *, token: str) -> Started:
        """Deallocate: a machine that is only powered off is charged in full."""
        return self._order(provider_id, "deallocate", token)

    def check(self, continuation: str) -> Progress:
        """Read the operation behind a continuation once. A forgotten operation counts as done: `describe` is the truth."""
        if not continuation:
            return Progress(done=True)
        try:
            data = json.loads(continuation)
            url, verb = str(data["url"]), str(data.get("verb", ""))
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidRequest(
                "This is not a continuation of an Azure operation.", code="bad_continuation", detail=repr(error)
            ) from None
        if f"/subscriptions/{self.connection.subscription_id}/" not in urlsplit(url).path.lower():
            raise InvalidRequest("This operation belongs to another subscription.", code="foreign_address")
        try:
            body = self.connection.get_json(url, action="Microsoft.Compute/locations/operations/read")
        except NotFound:
            return Progress(done=True, words="Azure no longer keeps this operation.")
        status = str(body.get("status", ""))
        if not status:
            raise BadAnswer("Azure gave an answer without the expected fields.", detail="no status of the operation")
        if status in {"Failed", "Canceled"}:
            failure = body.get("error") or {}
            return Progress(
                done=True,
                error=from_code(str(failure.get("code") or status), str(failure.get("message", ""))),
                words=f"Azure: {verb} failed.",
            )
        if status == "Succeeded":
            return Progress(done=True, words=f"Azure: {verb} succeeded.")
        return Progress(done=False, words=f"Azure: {verb} is under way.")

    def probe(self, health_endpoint: str, *, timeout: float = 3.0) -> bool | None:
        """Ask the service itself; None when the tags name no endpoint."""
        return probe_endpoint(health_endpoint, timeout=timeout)

    def load(self, provider_id: str, *, instance_type: str, now: datetime) -> Load | None:
        """CPU and network from Azure Monitor's five-minute figures, in one call."""
        self._split(provider_id)
        start, end = whole_periods(now)
        body = self.connection.get_json(
            f"{provider_id}/providers/Microsoft.Insights/metrics?api-version=2018-01-01"
            f"&metricnames={quote(','.join(_METRICS))}&timespan={start:%Y-%m-%dT%H:%M:%SZ}/{end:%Y-%m-%dT%H:%M:%SZ}"
            "&interval=PT5M&aggregation=Maximum,Total",
            action="Microsoft.Insights/metrics/read",
        )
        try:
            told = {one["name"]["value"]: _figures(one, _METRICS[one["name"]["value"]]) for one in body["value"]}
            cpu, received, sent = (told.get(name, {}) for name in _METRICS)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise BadAnswer("Azure gave an answer without the expected fields.", detail=repr(error)) from None
        return put_together(cpu, received, sent, azure_processors(instance_type))

    def _order(self, provider_id: str, verb: str, token: str) -> Started:
        group, name = self._split(provider_id)
        state = self._power(group, name)
        # A stop also of a machine that is merely off: only deallocation ends the charges.
        already = {"start": {InstanceState.RUNNING}, "deallocate": {InstanceState.STOPPED}}[verb]
        if state in already:
            return Started(
                already=True, words="It is running already." if verb == "start" else "It is deallocated already."
            )
        action = f"Microsoft.Compute/virtualMachines/{verb}/action"
        headers: dict[str, str] = {}
        with azure_errors(action, self.connection.secrets()):
            machines = self.connection.compute().virtual_machines
            order = machines.begin_start if verb == "start" else machines.begin_deallocate
            order(
                group,
                name,
                polling=False,
                headers={"x-ms-client-request-id": token},
                raw_response_hook=lambda response: headers.update(response.http_response.headers),
            )
        low = {k.lower(): v for k, v in headers.items()}
        url = low.get("azure-asyncoperation") or ""
        words = "Azure is starting the machine." if verb == "start" else "Azure is deallocating the machine."
        return Started(continuation=json.dumps({"url": url, "verb": verb}) if url else "", words=words)

    def _split(self, provider_id: str) -> tuple[str, str]:
        match = _ID.fullmatch(provider_id)
        if not match:
            raise InvalidRequest("This is not the id of an Azure virtual machine.", code="bad_id", detail=provider_id)
        if match[1].lower() != self.connection.subscription_id:
            raise InvalidRequest("This machine belongs to another subscription.", code="foreign_address")
        return match[2], match[3]

    def _power(self, group: str, name: str) -> InstanceState:
        with azure_errors("Microsoft.Compute/virtualMachines/instanceView/read", self.connection.secrets()):
            view = self.connection.compute().virtual_machines.instance_view(
                group, name, raw_response_hook=_expect("statuses")
            )
            return _state(view)[0]

    def _list(self) -> list[Any]:
        with azure_errors("Microsoft.Compute/virtualMachines/read", self.connection.secrets()):
            return list(self.connection.compute().virtual_machines.list_all(raw_response_hook=_expect("value")))

    def _states(self) -> dict[str, Any]:
        """Return the instance view of every machine of the subscription by lower-case ARM id."""
        with azure_errors("Microsoft.Compute/virtualMachines/read", self.connection.secrets()):
            machines = self.connection.compute().virtual_machines.list_all(
                status_only="true", raw_response_hook=_expect("value")
            )
            return {raw.id.lower(): raw.instance_view for raw in machines}

    def _describe_one(self, provider_id: str) -> Instance:
        group, name = self._split(provider_id)
        try:
            with azure_errors("Microsoft.Compute/virtualMachines/read", self.connection.secrets()):
                raw = self.connection.compute().virtual_machines.get(
                    group, name, expand="instanceView", raw_response_hook=_expect("id")
                )
                return self._instance(raw, raw.instance_view, provider_id=provider_id)
        except NotFound as error:
            # A missing subscription or a withdrawn role also answers 404: that proves nothing about the machine.
            if error.code == "unknown_subscription":
                raise
            return _gone(provider_id)

    def _instance(self, raw: Any, view: Any, *, provider_id: str = "") -> Instance:
        tags: Mapping[str, str] = dict(raw.tags or {})
        own = curfew_labels(tags, ":")
        state, since, reason = _state(view)
        up = state in {InstanceState.RUNNING, InstanceState.STARTING}
        endpoint = own.endpoint("") if up else ""
        size = raw.hardware_profile.vm_size if raw.hardware_profile else ""
        return Instance(
            provider_id=provider_id or raw.id,
            name=raw.name,
            region=raw.location or "",
            zone=(raw.zones or [""])[0],
            instance_type=str(getattr(size, "value", size) or ""),
            state=state,
            endpoint=endpoint,
            node_type=own.node_type,
            gpu_tier=own.gpu_tier,
            tags=tags,
            launched_at=since if up else None,
            lifecycle="spot" if str(raw.priority or "").lower().endswith(("spot", "low")) else "on_demand",
            labels_source="tags" if own.node_type else "none",
            health_endpoint=own.health_endpoint(endpoint),
            hourly_cost=own.hourly_cost,
            state_reason=reason,
        )


def _state(view: Any) -> tuple[InstanceState, datetime | None, str]:
    """Return power state, the time it was entered (when told) and Azure's words."""
    for status in getattr(view, "statuses", None) or []:
        code = str(status.code or "")
        if code.startswith("PowerState/"):
            return (
                _POWER.get(code.partition("/")[2].lower(), InstanceState.UNKNOWN),
                status.time,
                status.display_status or "",
            )
    return InstanceState.UNKNOWN, None, ""


def _figures(metric: Mapping[str, Any], statistic: str) -> dict[datetime, float]:
    """Figures by the beginning of their period; periods without one are left out by Azure or say null."""
    return {
        datetime.fromisoformat(point["timeStamp"]): float(point[statistic])
        for series in metric["timeseries"]
        for point in series["data"]
        if point.get(statistic) is not None
    }


def _expect(key: str) -> Any:
    """Return a response hook that refuses a successful answer without `key`: an empty list would read as "all gone"."""

    def look(response: Any) -> None:
        http = response.http_response
        if http.status_code != 200:
            return
        body = json.loads(http.text())
        if not isinstance(body, dict) or key not in body:
            raise BadAnswer("Azure gave an answer without the expected fields.", detail=f"no {key} in the answer")

    return look


def _gone(provider_id: str) -> Instance:
    return Instance(
        provider_id=provider_id,
        name=provider_id.rsplit("/", 1)[-1],
        region="",
        zone="",
        instance_type="",
        state=InstanceState.GONE,
    )
