"""Read a cluster through the Kubernetes client, without an agent: the same builders, the same records.

Takes an `ApiClient` that the caller has made (host, authorities, token; `configuration.retries = False`, or each failure
is tried four times); lists are streamed, so a large cluster costs no more memory than its records. Slow (seconds at thousands of pods): never in a transaction, never in a request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.wire import build
from agent.wire.build.common import items, mapping, text
from agent.wire.codec import to_wire
from agent.wire.listing import BadListing, read_list
from agent.wire.message import Sample, Usage
from agent.wire.model import Source
from agent.wire.quantities import BadQuantity, nano, units
from agent.wire.resources import METRICS_GROUP, METRICS_VERSION, RESOURCES, Resource
from agent.wire.snapshot import Records, Snapshot

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

PAGE = 250
CHUNK = 65_536
_METHODS = {
    "namespaces": ("CoreV1Api", "list_namespace"),
    "nodes": ("CoreV1Api", "list_node"),
    "pods": ("CoreV1Api", "list_pod_for_all_namespaces"),
    "deployments": ("AppsV1Api", "list_deployment_for_all_namespaces"),
    "statefulsets": ("AppsV1Api", "list_stateful_set_for_all_namespaces"),
    "daemonsets": ("AppsV1Api", "list_daemon_set_for_all_namespaces"),
    "replicasets": ("AppsV1Api", "list_replica_set_for_all_namespaces"),
    "jobs": ("BatchV1Api", "list_job_for_all_namespaces"),
    "cronjobs": ("BatchV1Api", "list_cron_job_for_all_namespaces"),
    "poddisruptionbudgets": ("PolicyV1Api", "list_pod_disruption_budget_for_all_namespaces"),
    "horizontalpodautoscalers": ("AutoscalingV2Api", "list_horizontal_pod_autoscaler_for_all_namespaces"),
    "events": ("CoreV1Api", "list_event_for_all_namespaces"),
    "persistentvolumeclaims": ("CoreV1Api", "list_persistent_volume_claim_for_all_namespaces"),
    "persistentvolumes": ("CoreV1Api", "list_persistent_volume"),
}


class PollFailed(Exception):
    """The cluster could not be read. `state` is unauthorized, forbidden, absent or error; `transient` says whether to
    try again by itself."""

    def __init__(self, state: str, detail: str) -> None:
        super().__init__(f"{state}: {detail}")
        self.state, self.detail = state, detail

    @property
    def transient(self) -> bool:
        return self.state == "error"


@dataclass(slots=True)
class Polled:
    """The wire's records, how each source went, and the usage if metrics.k8s.io answered (`sample.number` is 0)."""

    cluster: dict[str, Any]
    records: Records = field(default_factory=dict)
    sources: dict[str, dict[str, str]] = field(default_factory=dict)
    sample: Sample | None = None

    def snapshot(self) -> Snapshot:
        """Return the typed snapshot."""
        return Snapshot.from_records(self.cluster, self.records, self.sources)


def poll(api: ApiClient, *, name: str = "", timeout: float = 30.0) -> Polled:
    """Read the cluster once. Raises PollFailed when it cannot be reached at all, or its nodes cannot be listed;
    any other source that fails is noted in `sources`."""
    reader = _Reader(api, timeout)
    version = reader.get("VersionApi", "get_code")
    system = reader.get("CoreV1Api", "read_namespace", "kube-system")
    polled = Polled(to_wire(build.cluster(version, system, name=name)))
    for resource in RESOURCES:
        try:
            reader.records(resource, polled.records)
        except PollFailed as failed:
            if resource.name == "nodes":
                raise
            polled.sources[resource.name] = _source(failed.state, failed.detail)
        else:
            polled.sources[resource.name] = _source("ok")
    try:
        polled.sample = reader.usage()
    except PollFailed as failed:
        polled.sources["metrics"] = _source(failed.state, failed.detail)
    else:
        polled.sources["metrics"] = _source("ok")
    return polled


def _source(state: str, detail: str = "") -> dict[str, str]:
    now = datetime.now(UTC).replace(microsecond=0)
    return to_wire(Source(state, detail, synced_at=now if state == "ok" else None))


class _Reader:
    def __init__(self, api: ApiClient, timeout: float) -> None:
        self._api, self._timeout = api, timeout

    def _open(self, api: str, method: str, *arguments: str, **query: Any) -> Any:
        from kubernetes import client
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        call = getattr(getattr(client, api)(self._api), method)
        try:
            return call(*arguments, **query, _preload_content=False, _request_timeout=self._timeout)
        except ApiException as refused:
            raise _failure(refused) from None
        except (HTTPError, OSError) as problem:
            raise PollFailed("error", _short(problem)) from None

    def _chunks(self, answer: Any) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError

        try:
            yield from answer.stream(CHUNK)
        except (HTTPError, OSError) as problem:
            raise PollFailed("error", _short(problem)) from None
        finally:
            answer.release_conn()

    def get(self, api: str, method: str, *arguments: str) -> dict[str, Any]:
        """Return one object."""
        try:
            found = json.loads(b"".join(self._chunks(self._open(api, method, *arguments))))
        except ValueError:
            raise PollFailed("error", "the API server did not answer with JSON") from None
        if not isinstance(found, dict):
            raise PollFailed("error", "the API server did not answer with an object")
        return found

    def _list(self, call: Callable[..., Any], found: Callable[[dict[str, Any]], None]) -> None:
        """Read every page of a list; `call` opens one."""
        query: dict[str, Any] = {"limit": PAGE}
        while True:
            try:
                rest = read_list(self._chunks(call(**query)), found)
            except BadListing as bad:
                raise PollFailed("error", str(bad)) from None
            token = str((rest.get("metadata") or {}).get("continue") or "")
            if not token:
                return
            query["_continue"] = token

    def _custom(self, group: str, version: str, plural: str) -> Callable[..., Any]:
        return partial(self._open, "CustomObjectsApi", "list_cluster_custom_object", group, version, plural)

    def _lister(self, resource: Resource) -> Callable[..., Any]:
        known = _METHODS.get(resource.name)
        return partial(self._open, *known) if known else self._custom(resource.group, resource.version, resource.name)

    def records(self, resource: Resource, records: Records) -> None:
        """Add one resource's records; none of them when the list breaks off."""
        found: dict[str, dict[str, Any]] = {}
        specs: dict[str, dict[str, Any]] = {}

        def take(obj: dict[str, Any]) -> None:
            try:
                built = resource.built(obj)
            except (KeyError, TypeError):
                return
            if built.record is not None:
                found[built.key] = built.record
            if built.spec is not None:
                specs[built.spec_key] = built.spec

        self._list(self._lister(resource), take)
        for collection, table in ((resource.collection, found), ("specs", specs)):
            if table:
                records.setdefault(collection, {}).update(table)

    def usage(self) -> Sample:
        """Return one usage sample."""
        nodes: dict[str, Usage] = {}
        pods: dict[str, dict[str, Usage]] = {}

        def node(item: dict[str, Any]) -> None:
            used = _used(mapping(item, "usage"))
            if used is not None:
                nodes[text(item, "metadata", "name")] = used

        def pod(item: dict[str, Any]) -> None:
            boxes = {text(box, "name"): _used(mapping(box, "usage")) for box in items(item, "containers")}
            known = {name: used for name, used in boxes.items() if used is not None}
            if known:
                pods[f"{text(item, 'metadata', 'namespace')}/{text(item, 'metadata', 'name')}"] = known

        self._list(self._custom(METRICS_GROUP, METRICS_VERSION, "nodes"), node)
        self._list(self._custom(METRICS_GROUP, METRICS_VERSION, "pods"), pod)
        return Sample(0, datetime.now(UTC).replace(microsecond=0), nodes=nodes, pods=pods)


def _used(usage: dict[str, Any]) -> Usage | None:
    try:
        return Usage(nano(usage["cpu"]), units(usage["memory"]))
    except (KeyError, BadQuantity):
        return None


def _failure(refused: Any) -> PollFailed:
    state = {401: "unauthorized", 403: "forbidden", 404: "absent"}.get(refused.status, "error")
    try:
        detail = str(json.loads(refused.body or "{}").get("message") or refused.reason or "")
    except (ValueError, AttributeError):
        detail = str(refused.reason or "")
    return PollFailed(state, f"{refused.status} {detail}"[:300])


def _short(problem: Exception) -> str:
    return f"{type(problem).__name__}: {problem}"[:300]
