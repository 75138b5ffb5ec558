"""Rentals at Vast.ai. What is null there is unknown here; nothing is gone before a read that worked says so."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from accounts.providers.base import Credentials, Identity, Timeouts
from core.providers import BadAnswer, CapacityUnavailable, NotFound, ProviderError, Throttled, Unreachable
from gpu_fleet.providers.base import Offer, Order, Query, Rental, RentalState, Rented
from gpu_fleet.providers.vast_http import HttpTransport, Pace, Refused, Transport, VastApi

BASE = "https://console.vast.ai"
PAGE = 25
LARGEST_ONSTART = 4000
_STATES = {
    "running": RentalState.RUNNING,
    "loading": RentalState.LOADING,
    "rebooting": RentalState.LOADING,
    "created": RentalState.LOADING,
    "frozen": RentalState.RUNNING,
    "stopped": RentalState.STOPPED,
    "exited": RentalState.DEAD,
    "unknown": RentalState.UNKNOWN,
    "offline": RentalState.OFFLINE,
}
_DEAD_WORDS = ("oci runtime create failed", "no such image", "manifest unknown", "pull access denied")
# One pace for each key of this process: limits are counted by key and address, not by connection.
_paces: dict[str, Pace] = {}


class VastConnection:
    """An account at Vast.ai, by API key."""

    def __init__(
        self, credentials: Credentials, *, timeouts: Timeouts | None = None, transport: Transport | None = None
    ) -> None:
        self.credentials = credentials
        (key,) = credentials.require("api_key")
        limits = timeouts or Timeouts(5.0, 30.0)
        self._transport = transport or HttpTransport(
            credentials.endpoints.get("vast") or BASE, connect=limits.connect, read=limits.read
        )
        self.api = VastApi(key, self._transport, _paces.setdefault(key, Pace()))

    def verify(self) -> Identity:
        """Ask who the key belongs to; raises AuthenticationFailed for a wrong one."""
        found = self.api.call("GET", "/api/v0/users/current/", "user")
        number = str(found.get("id") or "")
        if not number:
            raise BadAnswer("This address answers, but not like Vast.ai.")
        return Identity(number, str(found.get("username") or "Vast.ai"), str(found.get("email") or number))


class VastProvider:
    """Implements `GpuProvider` for one account."""

    provider = "vast"

    def __init__(self, api: VastApi) -> None:
        self._api = api

    def offers(self, query: Query) -> list[Offer]:
        """Search the market; the disk is in the price."""
        body: dict[str, Any] = {
            "rentable": {"eq": True},
            "rented": {"eq": False},
            "type": "bid" if query.interruptible else "ondemand",
            "order": [["dph_total", "asc"]],
            "limit": query.limit,
            "allocated_storage": query.disk_gb,
            "disk_space": {"gte": query.disk_gb},
        }
        if query.gpu_name:
            body["gpu_name"] = {"eq": query.gpu_name.replace("_", " ")}
        if query.min_gpus:
            body["num_gpus"] = {"gte": query.min_gpus}
        if query.min_vram_mb:
            body["gpu_ram"] = {"gte": query.min_vram_mb}
        if query.max_hourly is not None:
            body["dph_total"] = {"lte": float(query.max_hourly)}
        if query.min_reliability is not None:
            body["reliability2"] = {"gte": query.min_reliability}
        found = self._api.call("POST", "/api/v0/bundles/", "search", body=body, repeat=True)
        offers = [_offer(row, interruptible=query.interruptible) for row in _rows(found, "offers")]
        place = query.location.lower()
        return [offer for offer in offers if not place or place in offer.location.lower()]

    def rent(self, orders: Sequence[Order]) -> list[Rented]:
        """Several at once by the bulk call, one by the single call.

        The bulk answer is not trusted for who got what: `find` tells by label and host.
        """
        if not orders:
            return []
        if len(orders) == 1:
            return [self._rent_one(orders[0])]
        ids = [_number(o.offer.offer_id) for o in orders]
        body = {**_order_body(orders[0]), "ids": ids}
        try:
            self._api.call("POST", "/api/v0/asks/bulk/", "bulk", body=body, repeat=False)
        except (Throttled, Unreachable) as never:
            return [Rented(o.offer.offer_id, error=never) for o in orders]
        except NotFound:
            return [self._rent_one(order) for order in orders]
        except ProviderError as failure:
            return [Rented(o.offer.offer_id, error=failure, unsure=True) for o in orders]
        open_end = CapacityUnavailable("This offer did not become a rental.", code="offer_gone", transient=False)
        return [Rented(o.offer.offer_id, error=open_end, unsure=True) for o in orders]

    def _rent_one(self, order: Order) -> Rented:
        offer = order.offer.offer_id
        try:
            found = self._api.call(
                "PUT", f"/api/v0/asks/{_number(offer)}/", "create", body=_order_body(order), repeat=False
            )
        except Refused as refused:
            return Rented(offer, refused.contract, refused)
        except ProviderError as failure:
            sure = isinstance(failure, Throttled | Unreachable) or not failure.transient
            return Rented(offer, error=failure, unsure=not sure)
        contract = str(found.get("new_contract") or "")
        return Rented(offer, contract, unsure=not contract)

    def find(self, labels: Collection[str]) -> list[Rental]:
        """Pages through the account, as labels cannot be matched by set there."""
        wanted = set(labels)
        return [rental for rental in self.everything() if rental.label in wanted]

    def describe(self, provider_ids: Collection[str]) -> dict[str, Rental]:
        """One id by its own address, several by the list. Missing from a complete list is GONE."""
        ids = list(dict.fromkeys(provider_ids))
        if not ids:
            return {}
        if len(ids) == 1:
            return {ids[0]: self._describe_one(ids[0])}
        known = {rental.provider_id: rental for rental in self.everything()}
        return {i: known.get(i) or Rental(i, RentalState.GONE) for i in ids}

    def _describe_one(self, provider_id: str) -> Rental:
        try:
            found = self._api.call("GET", f"/api/v0/instances/{_number(provider_id)}/", "show")
        except NotFound:
            return Rental(provider_id, RentalState.GONE)
        if "instances" not in found:
            raise BadAnswer("Vast.ai's answer does not name the instance.", detail=str(found)[:200])
        row = found["instances"]
        return _rental(row) if isinstance(row, dict) and row.get("id") else Rental(provider_id, RentalState.GONE)

    def everything(self) -> list[Rental]:
        """All pages of the account's instances."""
        return [_rental(row) for row in self._instances()]

    def _instances(self) -> Iterator[Mapping[str, Any]]:
        after = ""
        seen: set[str] = set()
        while True:
            query: dict[str, Any] = {"limit": PAGE, **({"after_token": after} if after else {})}
            found = self._api.call("GET", "/api/v1/instances/", "list", query=query)
            yield from _rows(found, "instances")
            after = str(found.get("next_token") or "")
            if not after or after in seen:
                return
            seen.add(after)

    def destroy(self, provider_ids: Collection[str]) -> dict[str, ProviderError | None]:
        """Several by one call. An authentication failure can look like 404 there: only the right words are "gone"."""
        ids = list(dict.fromkeys(provider_ids))
        if len(ids) > 1:
            try:
                body = {"instance_ids": [_number(i) for i in ids]}
                self._api.call("DELETE", "/api/v0/instances/", "destroy", body=body, repeat=True)
            except ProviderError as failure:
                return dict.fromkeys(ids, failure)
            return dict.fromkeys(ids, None)
        return {i: self._destroy_one(i) for i in ids}

    def _destroy_one(self, provider_id: str) -> ProviderError | None:
        try:
            self._api.call("DELETE", f"/api/v0/instances/{_number(provider_id)}/", "destroy", repeat=True)
        except NotFound:
            return None
        except ProviderError as failure:
            return failure
        return None

    def stop(self, provider_id: str) -> None:
        """Disk is charged on."""
        self._change(provider_id, "stopped")

    def start(self, provider_id: str) -> None:
        """Its GPU may be rented by others meanwhile; then it stays in the queue, which `describe` shows."""
        self._change(provider_id, "running")

    def _change(self, provider_id: str, state: str) -> None:
        path = f"/api/v0/instances/{_number(provider_id)}/"
        self._api.call("PUT", path, "change", body={"state": state}, repeat=True)


def _order_body(order: Order) -> dict[str, Any]:
    body: dict[str, Any] = {
        "client_id": "me",
        "image": order.image,
        "disk": max(8, order.disk_gb),
        "runtype": "ssh_direct",
        "env": dict(order.env),
        "onstart": order.onstart[:LARGEST_ONSTART],
        "label": order.label,
        "target_state": "running",
        "cancel_unavail": True,
    }
    if order.bid is not None:
        body["price"] = float(order.bid)
    return body


def _rows(found: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    rows = found.get(name)
    if not isinstance(rows, list):
        raise BadAnswer("Vast.ai's answer has another shape than expected.", detail=f"no list {name!r}")
    return [row for row in rows if isinstance(row, dict)]


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadAnswer(f"{text!r} is not an id of Vast.ai.", transient=False) from None


def _money(value: Any) -> Decimal | None:
    if value is None:
        return None
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        return None
    return found if found.is_finite() and found >= 0 else None


def _time(value: Any) -> datetime | None:
    return datetime.fromtimestamp(float(value), UTC) if isinstance(value, int | float) and value > 0 else None


def _offer(row: Mapping[str, Any], *, interruptible: bool) -> Offer:
    price = row.get("min_bid") if interruptible else row.get("dph_total")
    return Offer(
        offer_id=str(row["id"]),
        host_id=str(row.get("machine_id") or row["id"]),
        gpu_name=str(row.get("gpu_name") or ""),
        gpu_count=int(row.get("num_gpus") or 0),
        vram_mb=int(row.get("gpu_ram") or 0),
        hourly=_money(price),
        stopped_hourly=_money(row.get("storage_total_cost")),
        location=str(row.get("geolocation") or ""),
        reliability=None if row.get("reliability2") is None else float(row["reliability2"]),
        cpu_cores=float(row.get("cpu_cores_effective") or 0),
        ram_mb=int(row.get("cpu_ram") or 0),
        disk_gb=float(row.get("disk_space") or 0),
        down_mbps=None if row.get("inet_down") is None else float(row["inet_down"]),
        interruptible=interruptible,
        verified=None if row.get("verification") is None else row["verification"] == "verified",
    )


def _rental(row: Mapping[str, Any]) -> Rental:
    words = str(row.get("status_msg") or "")
    host, port = _ssh(row)
    return Rental(
        provider_id=str(row["id"]),
        state=_state(row, words),
        label=str(row.get("label") or ""),
        host_id=str(row.get("machine_id") or ""),
        gpu_name=str(row.get("gpu_name") or ""),
        gpu_count=int(row.get("num_gpus") or 0),
        hourly=_money(row.get("dph_total")),
        location=str(row.get("geolocation") or ""),
        ssh_host=host,
        ssh_port=port,
        words=words[:300],
        progress=words[:120],
        started_at=_time(row.get("start_date")),
        created_at=_time(row.get("start_date")),
        gpu_load=None if row.get("gpu_util") is None else float(row["gpu_util"]),
        outbid=_outbid(row),
    )


def _state(row: Mapping[str, Any], words: str) -> RentalState:
    said = row.get("actual_status")
    if any(word in words.lower() for word in _DEAD_WORDS) and said != "running":
        return RentalState.DEAD
    if said is None:
        stopped = row.get("cur_state") == "stopped" and row.get("intended_status") == "stopped"
        return RentalState.STOPPED if stopped else RentalState.PENDING
    return _STATES.get(str(said), RentalState.UNKNOWN)


def _outbid(row: Mapping[str, Any]) -> bool:
    return {row.get("cur_state"), row.get("intended_status"), row.get("next_state")} == {"stopped"}


def _ssh(row: Mapping[str, Any]) -> tuple[str, int]:
    """Directly where a port is mapped, else by the provider's proxy."""
    ports = row.get("ports")
    mapped = ports.get("22/tcp") if isinstance(ports, dict) else None
    if isinstance(mapped, list) and mapped and row.get("public_ipaddr"):
        port = str(mapped[0].get("HostPort", ""))
        if port.isdigit():
            return str(row["public_ipaddr"]).strip(), int(port)
    told = row.get("ssh_port")
    return (str(row.get("ssh_host") or ""), int(told)) if row.get("ssh_host") and told else ("", 0)
