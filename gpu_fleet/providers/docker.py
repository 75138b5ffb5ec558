"""Containers of a Docker engine as rented machines: with sshd, our agent and a shared folder for their repository.

They use the host's network and listen on its loopback alone, so that nothing of a machine is open to the outside. The
container's name is the rental's id and is known before it exists, so a repeated order finds what the first one made.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from accounts.providers.docker import DockerConnection
from accounts.providers.docker_errors import docker_errors
from core.providers import Conflict, InvalidRequest, NotFound, ProviderError
from gpu_fleet.providers import docker_image
from gpu_fleet.providers.base import Offer, Order, Query, Rental, RentalState, Rented

LABEL = "curfew.machine"
HOST = "curfew.machine-host"
PORT = "curfew.machine-ssh-port"
SLOTS = 8
FIRST_PORT, PORTS = 22_000, 20_000
LOCAL_IMAGE = "local"
CREATE_SECONDS = 120.0
_STATES = {
    "created": RentalState.PENDING,
    "restarting": RentalState.LOADING,
    "running": RentalState.RUNNING,
    "paused": RentalState.STOPPED,
    "exited": RentalState.DEAD,
    "dead": RentalState.DEAD,
    "removing": RentalState.DEAD,
}
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,120}")


class DockerGpuProvider:
    """Implements `GpuProvider` for one engine. `hourly` is what an hour of it costs you; None: nobody said."""

    provider = "docker"

    def __init__(self, connection: DockerConnection, *, hourly: Decimal | None = None) -> None:
        self._connection = connection
        self._hourly = hourly

    def _client(self) -> Any:
        return self._connection.client(read_timeout=CREATE_SECONDS)

    def offers(self, query: Query) -> list[Offer]:
        """Eight places on the engine's host, less those that are taken. No bound on GPUs can be met without a GPU."""
        with docker_errors(self._connection.secrets()):
            info = self._client().info()
        gpu = "nvidia" in (info.get("Runtimes") or {})
        if (query.min_gpus or query.gpu_name or query.min_vram_mb) and not gpu:
            return []
        price = self._hourly if self._hourly is not None else Decimal(0)
        if query.max_hourly is not None and price > query.max_hourly:
            return []
        engine, taken = str(info["ID"]), {r.host_id for r in self.everything()}
        hosts = [_host(engine, slot) for slot in range(SLOTS)]
        return [
            Offer(
                offer_id=host,
                host_id=host,
                gpu_name="NVIDIA GPU" if gpu else "CPU only",
                gpu_count=1 if gpu else 0,
                vram_mb=0,
                hourly=price,
                stopped_hourly=Decimal(0),
                location=str(info.get("Name") or self._connection.host),
                cpu_cores=float(info.get("NCPU") or 0),
                ram_mb=int(info.get("MemTotal") or 0) // 1_000_000,
            )
            for host in hosts
            if host not in taken
        ]

    def rent(self, orders: Sequence[Order]) -> list[Rented]:
        """Create and start one container after the other."""
        return [self._rent_one(order) for order in orders]

    def _rent_one(self, order: Order) -> Rented:
        name = name_of(order.label, order.offer.host_id)
        try:
            with docker_errors(self._connection.secrets()):
                client = self._client()
                image = docker_image.ensure(client) if order.image in ("", LOCAL_IMAGE) else order.image
                try:
                    self._create(client, name, image, order)
                except Exception as refused:  # the engine's own error; only a taken name is handled here
                    if getattr(refused, "status_code", None) != 409:
                        raise
                client.start(name)
        except ProviderError as failure:
            return Rented(order.offer.offer_id, name if self._exists(name) else "", failure, unsure=failure.transient)
        return Rented(order.offer.offer_id, name)

    def _create(self, client: Any, name: str, image: str, order: Order) -> None:
        port = FIRST_PORT + secrets.randbelow(PORTS)
        environment = {
            **order.env,
            "CURFEW_INSTANCE": name,
            "CURFEW_SSH_PORT": str(port),
            # the network is the host's: its traffic says nothing about this machine
            "CURFEW_ABSENT": "net",
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        }
        limits = client.create_host_config(
            network_mode="host",
            binds={host: {"bind": inside, "mode": "rw"} for host, inside in order.folders.items()},
            device_requests=_gpus(order.offer),
            security_opt=["no-new-privileges"] if not order.offer.gpu_count else None,
        )
        labels = {LABEL: order.label, HOST: order.offer.host_id, PORT: str(port)}
        command = ["/curfew-start"] if order.image in ("", LOCAL_IMAGE) else ["/bin/sh", "-c", order.onstart]
        client.create_container(
            image, command, name=name, environment=environment, labels=labels, host_config=limits, hostname=name[:60]
        )

    def _exists(self, name: str) -> bool:
        try:
            return self._describe_one(name).state is not RentalState.GONE
        except ProviderError:
            return False

    def find(self, labels: Collection[str]) -> list[Rental]:
        """By the label that each of ours carries."""
        return [rental for rental in self.everything() if rental.label in set(labels)]

    def everything(self) -> list[Rental]:
        """Every container that is a machine; other containers are nobody's rental."""
        with docker_errors(self._connection.secrets()):
            rows = self._client().containers(all=True, filters={"label": [LABEL]})
            names = [str(row["Names"][0]).lstrip("/") for row in rows if row.get("Names")]
        found = [self._describe_one(name) for name in names]
        return [rental for rental in found if rental.state is not RentalState.GONE]

    def describe(self, provider_ids: Collection[str]) -> dict[str, Rental]:
        """By name; a removed container is GONE."""
        return {name: self._describe_one(name) for name in dict.fromkeys(provider_ids)}

    def _describe_one(self, name: str) -> Rental:
        try:
            with docker_errors(self._connection.secrets()):
                return self._rental(self._client().inspect_container(_checked(name)))
        except NotFound:
            return Rental(name, RentalState.GONE)

    def _rental(self, raw: Mapping[str, Any]) -> Rental:
        labels = raw["Config"].get("Labels") or {}
        state = raw["State"]
        word = _STATES.get(str(state["Status"]), RentalState.UNKNOWN)
        port = str(labels.get(PORT, ""))
        return Rental(
            provider_id=str(raw["Name"]).lstrip("/"),
            state=word,
            label=str(labels.get(LABEL, "")),
            host_id=str(labels.get(HOST, "")),
            hourly=self._hourly if self._hourly is not None else Decimal(0),
            location=self._connection.host,
            ssh_host=self._connection.host,
            ssh_port=int(port) if port.isdigit() else 0,
            words=str(state.get("Error") or ""),
            progress=str(state["Status"]),
            started_at=_time(str(state.get("StartedAt") or "")),
            created_at=_time(str(raw.get("Created") or "")),
        )

    def destroy(self, provider_ids: Collection[str]) -> dict[str, ProviderError | None]:
        """Kill and remove, with their volumes."""
        return {name: self._destroy_one(name) for name in dict.fromkeys(provider_ids)}

    def _destroy_one(self, name: str) -> ProviderError | None:
        try:
            with docker_errors(self._connection.secrets()):
                self._client().remove_container(_checked(name), force=True, v=True)
        except (NotFound, Conflict):
            return None  # gone, or being removed already
        except ProviderError as failure:
            return failure
        return None

    def stop(self, provider_id: str) -> None:
        """Freeze every process."""
        if self._describe_one(provider_id).state is not RentalState.STOPPED:
            with docker_errors(self._connection.secrets()):
                self._client().pause(_checked(provider_id))

    def start(self, provider_id: str) -> None:
        """Let them go on."""
        if self._describe_one(provider_id).state is RentalState.STOPPED:
            with docker_errors(self._connection.secrets()):
                self._client().unpause(_checked(provider_id))


def name_of(label: str, host_id: str) -> str:
    """The container's name: of the batch and the place."""
    return f"{label}-{host_id.rpartition('-')[2]}"


def _host(engine: str, slot: int) -> str:
    return f"{re.sub('[^a-zA-Z0-9]', '', engine)[:12]}-{slot}"


def _gpus(offer: Offer) -> list[Any] | None:
    if not offer.gpu_count:
        return None
    from docker.types import DeviceRequest

    return [DeviceRequest(driver="nvidia", count=offer.gpu_count, capabilities=[["gpu"]])]


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidRequest("This is not the name of a container.", code="bad_id", detail=name)
    return name


def _time(text: str) -> datetime | None:
    if not text or text.startswith("0001-"):
        return None
    head, _, tail = text.rstrip("Z").partition(".")
    try:
        return datetime.fromisoformat(head).replace(tzinfo=UTC, microsecond=int((tail + "000000")[:6] or 0))
    except ValueError:
        return None
