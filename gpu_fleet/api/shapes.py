"""How machines, snapshots and offers look in answers. What nobody knows is null."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from gpu_fleet.models import FleetSettings, Machine, Rental, Snapshot
from gpu_fleet.providers.base import Offer
from operations.api.shapes import moment, operation_shape
from operations.models import Operation

CURRENCY = "USD"


def money(amount: Decimal | None) -> str | None:
    """A decimal string; null stays null."""
    return None if amount is None else f"{amount.normalize():f}"


def rental_shape(rental: Rental) -> dict[str, Any]:
    """One lane of a race, or the rental in use."""
    return {
        "id": str(rental.id),
        "round": rental.round,
        "provider": rental.provider,
        "provider_id": rental.provider_id or None,
        "host_id": rental.host_id,
        "gpu_name": rental.gpu_name,
        "gpu_count": rental.gpu_count,
        "location": rental.location,
        "hourly_cost": money(rental.hourly),
        "lane": rental.lane,
        "outcome": rental.outcome or None,
        "progress": rental.progress or None,
        "intended_at": moment(rental.intended_at),
        "created_at": moment(rental.created_at),
        "running_at": moment(rental.running_at),
        "ready_at": moment(rental.ready_at),
        "gone_at": moment(rental.gone_at),
    }


def address_shape(rental: Rental | None) -> dict[str, Any] | None:
    """Where to log in now, with the host keys to accept; null when nowhere."""
    if rental is None or not rental.ssh_port:
        return None
    return {"host": rental.ssh_host, "port": rental.ssh_port, "user": "root", "host_keys": list(rental.host_keys)}


def machine_shape(machine: Machine, operation: Operation | None = None) -> dict[str, Any]:
    """One machine as it is now."""
    rental = machine.rental
    ssh = {"host": rental.ssh_host, "port": rental.ssh_port, "user": "root"} if rental and rental.ssh_port else None
    return {
        "id": str(machine.id),
        "name": machine.name,
        "provider": machine.provider,
        "account_id": str(machine.account_id),
        "status": machine.observed_state,
        "desired": machine.desired_state,
        "provider_status": machine.provider_state or None,
        "generation": machine.generation,
        "gpu_name": rental.gpu_name if rental else machine.wanted.get("gpu_name") or None,
        "gpu_count": rental.gpu_count if rental else None,
        "location": rental.location if rental else None,
        "hourly_cost": money(machine.hourly_cost),
        "currency": CURRENCY,
        "ssh": ssh,
        "heard_at": moment(machine.heard_at),
        "metrics": machine.told or None,
        "idle": {
            "verdict": machine.verdict or None,
            "why": machine.verdict_why or None,
            "since": moment(machine.idle_since),
            "sleep_at": moment(machine.sleep_at),
            "keep_awake_until": moment(machine.keep_awake_until),
            "auto_sleep": machine.auto_sleep,
            "minutes": machine.idle_minutes,
            "destroy_at": moment(machine.destroy_at),
        },
        "restored": machine.restored,
        "wanted": machine.wanted,
        "error": {"code": machine.error_code, "message": machine.error, "next_step": machine.next_step}
        if machine.error_code
        else None,
        "operation": operation_shape(operation) if operation else None,
        "created_at": moment(machine.created_at),
    }


def snapshot_shape(snapshot: Snapshot) -> dict[str, Any]:
    """One snapshot."""
    return {
        "id": str(snapshot.id),
        "machine_id": str(snapshot.machine_id),
        "restic_id": snapshot.restic_id or None,
        "parent_id": str(snapshot.parent_id) if snapshot.parent_id else None,
        "state": snapshot.state,
        "paths": snapshot.paths,
        "files": snapshot.files,
        "size_bytes": snapshot.size,
        "added_bytes": snapshot.added,
        "digest": snapshot.digest or None,
        "checks": snapshot.checks or None,
        "error": snapshot.error or None,
        "created_at": moment(snapshot.created_at),
        "verified_at": moment(snapshot.verified_at),
        "restored_at": moment(snapshot.restored_at),
    }


def offer_shape(offer: Offer) -> dict[str, Any]:
    """One offer of the market."""
    return {
        "offer_id": offer.offer_id,
        "host_id": offer.host_id,
        "gpu_name": offer.gpu_name,
        "gpu_count": offer.gpu_count,
        "vram_gb": round(offer.vram_mb / 1000, 1) if offer.vram_mb else None,
        "hourly_cost": money(offer.hourly),
        "currency": CURRENCY,
        "location": offer.location or None,
        "reliability": offer.reliability,
        "cpu_cores": offer.cpu_cores or None,
        "ram_gb": round(offer.ram_mb / 1000, 1) if offer.ram_mb else None,
        "disk_gb": offer.disk_gb or None,
        "interruptible": offer.interruptible,
        "verified": offer.verified,
    }


def settings_shape(rules: FleetSettings) -> dict[str, Any]:
    """No secret; whether a storage key is stored."""
    return {
        **rules.shown(),
        "storage_key_stored": bool(rules.sealed),
        "rclone_stored": bool(rules.rclone_sealed),
        "ssh_public_key": rules.ssh_public,
    }
