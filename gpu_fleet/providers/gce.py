"""Compute Engine instances as rented machines, for standbys and for GPUs.

`provider_id` is "zone/name"; the name is known before the instance exists, so a repeated order finds the first one's.
Every change is a long-running operation: it is followed until it ends or a few seconds have passed.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from accounts.providers.gcp import GcpConnection
from accounts.providers.gcp_errors import from_status, gcp_errors
from core.providers import CapacityUnavailable, Conflict, InvalidRequest, NotFound, ProviderError
from gpu_fleet.providers.base import Offer, Order, Query, Rental, RentalState, Rented
from gpu_fleet.providers.catalogue import GCE, fits, offer_in, sorted_offers

LABEL, HOST = "curfew-machine", "curfew-machine-host"
IMAGES = {
    "cpu": "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64",
    "gpu": "projects/ubuntu-os-accelerator-images/global/images/family/ubuntu-accelerator-2404-amd64-with-nvidia-570",
}
FOLLOW_SECONDS = 25.0
LOOK_SECONDS = 0.5
MOST_ZONES = 4
_STATES = {
    "PROVISIONING": RentalState.PENDING,
    "STAGING": RentalState.LOADING,
    "RUNNING": RentalState.RUNNING,
    "STOPPING": RentalState.STOPPED,
    "PENDING_STOP": RentalState.STOPPED,
    "SUSPENDING": RentalState.STOPPED,
    "SUSPENDED": RentalState.STOPPED,
    "TERMINATED": RentalState.STOPPED,  # Google's word for stopped; its disk is kept
    "DEPROVISIONING": RentalState.DEAD,
    "REPAIRING": RentalState.OFFLINE,
}
_ID = re.compile(r"([a-z]+-[a-z]+\d+-[a-z])/([a-z](?:[a-z0-9-]{0,61}[a-z0-9])?)")


class GceProvider:
    """Implements `GpuProvider` in the connection's region. `prices` are USD an hour on demand, by type."""

    provider = "gcp"

    def __init__(self, connection: GcpConnection, *, prices: Mapping[str, Decimal] | None = None) -> None:
        self._connection = connection
        self._prices = dict(prices or {})
        self._clients: dict[str, Any] = {}

    def _client(self, kind: str) -> Any:
        from google.cloud import compute_v1

        if kind not in self._clients:
            # REST, not gRPC: gRPC does not survive the fork of a worker process.
            address = self._connection.credentials.endpoints.get("gcp_compute") or "https://compute.googleapis.com"
            self._clients[kind] = getattr(compute_v1, kind)(
                credentials=self._connection._bearer(), transport="rest", client_options={"api_endpoint": address}
            )
        return self._clients[kind]

    def _errors(self, action: str) -> Any:
        return gcp_errors(f"compute.{action}", self._connection.secrets())

    @property
    def _call(self) -> dict[str, Any]:
        return self._connection.call

    def offers(self, query: Query) -> list[Offer]:
        """Types that fit in the zones of the region that are up and have them."""
        kinds = {kind.name: kind for kind in GCE if fits(kind, query)}
        if not kinds:
            return []
        project, offers = self._connection.project, []
        with self._errors("zones.list"):
            zones = [
                zone.name
                for zone in self._client("ZonesClient").list(project=project, **self._call)
                if zone.name.rpartition("-")[0] == self._connection.region and zone.status == "UP"
            ]
        for zone in sorted(zones)[:MOST_ZONES]:
            if query.location.lower() not in zone:
                continue
            with self._errors("machineTypes.list"):
                there = {
                    row.name
                    for row in self._client("MachineTypesClient").list(project=project, zone=zone, **self._call)
                }
            # the price book knows on-demand prices; what spot costs today is not known
            prices = {} if query.interruptible else self._prices
            offers += [offer_in(kinds[name], zone, prices.get(name), query) for name in kinds if name in there]
        return sorted_offers(offers, query)

    def rent(self, orders: Sequence[Order]) -> list[Rented]:
        """Insert all, then follow their operations together."""
        begun: list[tuple[Order, str, Any, ProviderError | None]] = []
        for order in orders:
            zone = order.offer.host_id.partition("@")[2]
            provider_id = f"{zone}/{name_of(order.label, order.offer.host_id)}"
            try:
                begun.append((order, provider_id, self._insert(order, zone, provider_id), None))
            except Conflict:
                begun.append((order, provider_id, None, None))  # it exists: an earlier call made it
            except ProviderError as failure:
                begun.append((order, provider_id, None, failure))
        return [self._outcome(*one) for one in begun]

    def _outcome(self, order: Order, provider_id: str, operation: Any, failure: ProviderError | None) -> Rented:
        offer_id = order.offer.offer_id
        if failure is None and operation is not None:
            try:
                self._follow(provider_id.partition("/")[0], operation)
            except ProviderError as bad:
                failure = bad
        try:
            there = self._describe_one(provider_id).state is not RentalState.GONE
        except ProviderError as lost:
            return Rented(offer_id, "", failure or lost, unsure=True)
        if there:
            return Rented(offer_id, provider_id, failure)
        if failure is None:
            failure = CapacityUnavailable("Google did not make the machine in time.", code="not_made")
            return Rented(offer_id, "", failure, unsure=True)
        return Rented(offer_id, "", failure, unsure=failure.transient)

    def _insert(self, order: Order, zone: str, provider_id: str) -> Any:
        from google.cloud import compute_v1

        kind = next((k for k in GCE if k.name == order.offer.host_id.partition("@")[0]), None)
        if kind is None or not zone:
            raise InvalidRequest("This is no offer of Compute Engine.", code="bad_offer", detail=order.offer.offer_id)
        script = "\n".join(
            ["#!/bin/sh", *(f"export {n}={shlex.quote(v)}" for n, v in order.env.items()), order.onstart]
        )
        spot = order.offer.interruptible
        instance = compute_v1.Instance(
            name=provider_id.partition("/")[2],
            machine_type=f"zones/{zone}/machineTypes/{kind.name}",
            labels={LABEL: _label(order.label), HOST: _label(order.offer.host_id)},
            disks=[
                compute_v1.AttachedDisk(
                    boot=True,
                    auto_delete=True,
                    initialize_params=compute_v1.AttachedDiskInitializeParams(
                        source_image=order.image or IMAGES["gpu" if kind.gpus else "cpu"],
                        disk_size_gb=max(10, order.disk_gb),
                    ),
                )
            ],
            network_interfaces=[
                compute_v1.NetworkInterface(
                    network="global/networks/default",
                    access_configs=[compute_v1.AccessConfig(name="External NAT", type_="ONE_TO_ONE_NAT")],
                )
            ],
            metadata=compute_v1.Metadata(
                items=[
                    compute_v1.Items(key="startup-script", value=script),
                    compute_v1.Items(key="curfew-label", value=order.label),
                    compute_v1.Items(key="curfew-host", value=order.offer.host_id),
                ]
            ),
            scheduling=compute_v1.Scheduling(
                provisioning_model="SPOT" if spot else "STANDARD",
                automatic_restart=not spot and not kind.gpus,
                on_host_maintenance="TERMINATE" if spot or kind.gpus else "MIGRATE",
            ),
        )
        with self._errors("instances.insert"):
            return self._client("InstancesClient").insert_unary(
                project=self._connection.project, zone=zone, instance_resource=instance, **self._call
            )

    def _follow(self, zone: str, operation: Any) -> None:
        """Until the operation ends or the patience does; raises what it ended with."""
        end = time.monotonic() + FOLLOW_SECONDS
        while operation.status.name != "DONE" and time.monotonic() < end:
            time.sleep(LOOK_SECONDS)
            with self._errors("zoneOperations.get"):
                operation = self._client("ZoneOperationsClient").get(
                    project=self._connection.project, zone=zone, operation=operation.name, **self._call
                )
        errors = list(operation.error.errors) if operation.error else []
        if operation.status.name == "DONE" and errors:
            first = errors[0]
            raise from_status(operation.http_error_status_code or 400, str(first.message), reasons=str(first.code))

    def find(self, labels: Collection[str]) -> list[Rental]:
        """By label."""
        return [rental for rental in self.everything() if rental.label in set(labels)]

    def everything(self) -> list[Rental]:
        """Instances of the project, in all zones, that bear a label of a machine."""
        with self._errors("instances.aggregatedList"):
            pages = self._client("InstancesClient").aggregated_list(
                request={"project": self._connection.project, "filter": f"labels.{LABEL}:*", "max_results": 200},
                **self._call,
            )
            return [self._rental(raw) for _, part in pages for raw in part.instances if LABEL in raw.labels]

    def describe(self, provider_ids: Collection[str]) -> dict[str, Rental]:
        """One read each; only "not found" is GONE."""
        return {i: self._describe_one(i) for i in dict.fromkeys(provider_ids)}

    def _describe_one(self, provider_id: str) -> Rental:
        zone, name = _split(provider_id)
        try:
            with self._errors("instances.get"):
                raw = self._client("InstancesClient").get(
                    project=self._connection.project, zone=zone, instance=name, **self._call
                )
            return self._rental(raw)
        except NotFound:
            return Rental(provider_id, RentalState.GONE)

    def _rental(self, raw: Any) -> Rental:
        told = {item.key: item.value for item in raw.metadata.items}
        zone, kind = raw.zone.rpartition("/")[2], raw.machine_type.rpartition("/")[2]
        known = next((k for k in GCE if k.name == kind), None)
        address = next((c.nat_i_p for n in raw.network_interfaces for c in n.access_configs if c.nat_i_p), "")
        created = _time(raw.creation_timestamp)
        return Rental(
            provider_id=f"{zone}/{raw.name}",
            state=_STATES.get(raw.status, RentalState.UNKNOWN),
            label=told.get("curfew-label", ""),
            host_id=told.get("curfew-host", ""),
            gpu_name=known.gpu_name if known else "",
            gpu_count=known.gpus if known else 0,
            hourly=None if raw.scheduling.provisioning_model == "SPOT" else self._prices.get(kind),
            location=zone,
            ssh_host=address,
            ssh_port=22 if address else 0,
            words=str(raw.status_message or ""),
            progress=raw.status,
            started_at=_time(raw.last_start_timestamp) or created,
            created_at=created,
            outbid=raw.scheduling.provisioning_model == "SPOT" and raw.status in ("STOPPING", "TERMINATED"),
        )

    def destroy(self, provider_ids: Collection[str]) -> dict[str, ProviderError | None]:
        """Order deletion of each; its operation is not waited for, as `describe` tells."""
        return {i: self._destroy_one(i) for i in dict.fromkeys(provider_ids)}

    def _destroy_one(self, provider_id: str) -> ProviderError | None:
        try:
            self._change("delete", provider_id)
        except NotFound:
            return None
        except ProviderError as failure:
            return failure
        return None

    def _change(self, verb: str, provider_id: str) -> Any:
        zone, name = _split(provider_id)
        with self._errors(f"instances.{verb}"):
            return getattr(self._client("InstancesClient"), f"{verb}_unary")(
                project=self._connection.project, zone=zone, instance=name, **self._call
            )

    def stop(self, provider_id: str) -> None:
        """Stop it; its disk is kept and goes on costing."""
        self._change("stop", provider_id)

    def start(self, provider_id: str) -> None:
        """Start it; raises CapacityUnavailable when the zone has no room now."""
        self._follow(_split(provider_id)[0], self._change("start", provider_id))


def name_of(label: str, host_id: str) -> str:
    """The instance's name: of the batch and the offer, within Google's letters and length."""
    plain = re.sub(r"[^a-z0-9-]", "-", label.lower())[:46].strip("-")
    return f"{plain}-{hashlib.sha256(f'{label} {host_id}'.encode()).hexdigest()[:10]}"


def _label(text: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "-", text.lower())[:63]


def _split(provider_id: str) -> tuple[str, str]:
    found = _ID.fullmatch(provider_id)
    if found is None:
        raise InvalidRequest("This is not an instance of Compute Engine.", code="bad_id", detail=provider_id)
    return found[1], found[2]


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if text else None
    except ValueError:
        return None
