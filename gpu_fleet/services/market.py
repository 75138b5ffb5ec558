"""Looks at the market: what is offered now, kept as samples that all reports are made of."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import transaction
from django.db.models import F, Q

from accounts.models import CloudAccount
from core import clock
from core.providers import ProviderError
from gpu_fleet import gateway
from gpu_fleet.models import MarketHost, OfferSample
from gpu_fleet.providers.base import Offer, Query

SAMPLES_KEPT = timedelta(days=120)
HOSTS_KEPT = timedelta(days=30)
MOST_OFFERS = 500
SOURCES = ("vast",)


def sample_all() -> int:
    """Look once at the market of every account that has one; returns how many accounts were read."""
    count = 0
    played = Q(is_sandbox=True, provider="aws")  # so that the market of the demo's month goes on
    for account in CloudAccount.objects.all_orgs().filter(Q(provider__in=SOURCES) | played).exclude(method=""):
        try:
            provider = gateway.open_provider(account)
            for interruptible in (False, True):
                gpus = 1 if account.is_sandbox else 0
                offers = provider.offers(Query(limit=MOST_OFFERS, interruptible=interruptible, min_gpus=gpus))
                keep_samples(account=account, offers=offers, at=clock.now(), interruptible=interruptible)
            count += 1
        except ProviderError:
            continue  # the account's own page says what is wrong with it
    return count


def keep_samples(*, account: CloudAccount, offers: Sequence[Offer], at: datetime, interruptible: bool) -> int:
    """Write one sample for each GPU type that is offered, and count the hosts that were seen."""
    by_gpu: dict[str, list[Offer]] = defaultdict(list)
    for offer in offers:
        if offer.hourly is not None and offer.gpu_count > 0 and offer.gpu_name:
            by_gpu[offer.gpu_name[:80]].append(offer)
    samples = [_sample(account, name, rows, at, interruptible) for name, rows in sorted(by_gpu.items())]
    with transaction.atomic():
        OfferSample.objects.for_org(account.organization_id).bulk_create(samples)
        if not interruptible:
            _count_hosts(account, offers, at)
    return len(samples)


def _sample(account: CloudAccount, name: str, rows: list[Offer], at: datetime, interruptible: bool) -> OfferSample:
    prices = sorted(offer.hourly / offer.gpu_count for offer in rows if offer.hourly is not None)
    known = [offer.reliability for offer in rows if offer.reliability is not None]
    return OfferSample(
        organization_id=account.organization_id,
        account=account,
        at=at,
        gpu_name=name,
        interruptible=interruptible,
        offers=len(rows),
        gpus=sum(offer.gpu_count for offer in rows),
        vram_mb=max(offer.vram_mb for offer in rows),
        low=prices[0].quantize(Decimal("0.000001")),
        median=statistics.median(prices).quantize(Decimal("0.000001")),
        high=prices[-1].quantize(Decimal("0.000001")),
        reliability=statistics.mean(known) if known else None,
    )


def _count_hosts(account: CloudAccount, offers: Sequence[Offer], at: datetime) -> None:
    mine = MarketHost.objects.for_org(account.organization_id).filter(account=account)
    mine.update(looks=F("looks") + 1)
    known = {(host.host_id, host.gpu_name): host for host in mine}
    fresh: dict[tuple[str, str], MarketHost] = {}
    again: list[MarketHost] = []
    for offer in offers:
        key = (offer.host_id, offer.gpu_name[:80])
        facts = {
            "gpu_count": offer.gpu_count,
            "location": offer.location[:120],
            "reliability": offer.reliability,
            "hourly": offer.hourly,
            "last_seen": at,
        }
        host = known.get(key)
        if host is None:
            fresh.setdefault(
                key,
                MarketHost(
                    organization_id=account.organization_id,
                    account=account,
                    host_id=key[0],
                    gpu_name=key[1],
                    first_seen=at,
                    seen=1,
                    looks=1,
                    **facts,
                ),
            )
        elif host.last_seen != at:
            host.seen = F("seen") + 1
            for name, value in facts.items():
                setattr(host, name, value)
            again.append(host)
    MarketHost.objects.for_org(account.organization_id).bulk_update(
        again, ["seen", "gpu_count", "location", "reliability", "hourly", "last_seen"], batch_size=100
    )
    MarketHost.objects.for_org(account.organization_id).bulk_create(list(fresh.values()), ignore_conflicts=True)


def forget_samples() -> int:
    """Old samples and hosts that were not seen for a month go."""
    now = clock.now()
    count, _ = OfferSample.objects.all_orgs().filter(at__lt=now - SAMPLES_KEPT).delete()
    MarketHost.objects.all_orgs().filter(last_seen__lt=now - HOSTS_KEPT).delete()
    return count
