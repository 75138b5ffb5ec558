"""A search over every connected market."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from accounts.models import CloudAccount
from core.actor import Actor
from core.errors import NotFound
from core.providers import ProviderError
from gpu_fleet import gateway
from gpu_fleet.enums import VIEW
from gpu_fleet.models import Machine
from gpu_fleet.providers.base import Offer, Query
from gpu_fleet.providers.registry import GPU_PROVIDERS, STANDBY_PROVIDERS
from gpu_fleet.wanted import Wanted


@dataclass(slots=True)
class FoundOffers:
    """Offers with their accounts, cheapest first, and what could not be read, in words."""

    offers: list[tuple[CloudAccount, Offer]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def rental_accounts(*, actor: Actor) -> list[CloudAccount]:
    """Connected accounts that machines can be rented from; the sandbox has none that lets anybody log in."""
    rows = (
        CloudAccount.objects.visible_to(actor).filter(provider__in=GPU_PROVIDERS, is_sandbox=False).exclude(method="")
    )
    return list(rows.order_by("name"))


def standby_accounts(*, actor: Actor) -> list[CloudAccount]:
    """Connected accounts in which a CPU machine can stand by."""
    rows = CloudAccount.objects.visible_to(actor).filter(provider__in=STANDBY_PROVIDERS, is_sandbox=False)
    rows = rows.exclude(method="")
    return list(rows.order_by("name"))


def search_offers(*, actor: Actor, wanted: Wanted, account_id: UUID | None = None) -> FoundOffers:
    """Ask the markets now. Raises NotFound for an account that is not the actor's."""
    actor.require(VIEW, "search offers")
    accounts = rental_accounts(actor=actor)
    if account_id is not None:
        accounts = [account for account in accounts if account.id == account_id]
        if not accounts:
            raise NotFound("There is no such cloud account.")
    found = FoundOffers()
    for account in accounts:
        try:
            found.offers += [(account, offer) for offer in gateway.open_provider(account).offers(query_of(wanted))]
        except ProviderError as failure:
            found.problems.append(f"{account.name}: {failure.message}")
    found.offers.sort(key=lambda pair: pair[1].hourly if pair[1].hourly is not None else Decimal("1e9"))
    return found


def best_elsewhere(*, actor: Actor, machine: Machine, given: Mapping[str, Any]) -> tuple[Offer | None, list[str]]:
    """The cheapest offer of another host for a machine that is to move, and what could not be read."""
    found = search_offers(actor=actor, account_id=machine.account_id, wanted=Wanted.of({**machine.wanted, **given}))
    left = machine.rental.host_id if machine.rental else ""
    return next((offer for _, offer in found.offers if offer.host_id != left), None), found.problems


def query_of(wanted: Wanted) -> Query:
    """The provider's question for what a machine wants."""
    return Query(
        gpu_name=wanted.gpu_name,
        min_gpus=wanted.min_gpus,
        min_vram_mb=wanted.min_vram_gb * 1000,
        max_hourly=Decimal(wanted.max_hourly) if wanted.max_hourly else None,
        min_reliability=wanted.min_reliability,
        disk_gb=wanted.disk_gb,
        location=wanted.location,
        interruptible=wanted.interruptible,
    )
