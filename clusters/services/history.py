"""History of clusters: looks summed up into five minutes, hours and days at once; what is too old is forgotten."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import F

from clusters import histograms, packed
from clusters.enums import SPAN_KEPT, SPAN_LENGTH, Span, State
from clusters.inventory import ingest
from clusters.models import Alert, Cluster, ClusterNode, Sample, UsageHistograms
from core import clock

MEANS = (
    "nodes",
    "spot_nodes",
    "pods",
    "cpu_milli",
    "memory_bytes",
    "requested_cpu_milli",
    "requested_memory_bytes",
    "used_cpu_milli",
    "used_memory_bytes",
    "hourly_cost",
    "api_ms",
)
COUNTS = ("pressure", "restarts", "kills", "interruptions")
NODES_KEPT = timedelta(days=92)
LATEST_FUTURE = timedelta(minutes=5)
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a cluster; `means` by name of `MEANS`, None where nobody knows; `counts` of events since the last."""

    at: datetime
    means: dict[str, Any]
    counts: dict[str, int]


def start_of(span: Span | str, at: datetime) -> datetime:
    """The beginning of the span that holds a moment, in UTC."""
    seconds = int(SPAN_LENGTH[Span(span)].total_seconds())
    return datetime.fromtimestamp(int(at.timestamp()) // seconds * seconds, UTC)


def standing(cluster: Cluster) -> dict[str, Any]:
    """What the cluster's row says now, as the means of a look; usage is left open."""
    spot = ClusterNode.objects.for_org(cluster.organization_id).filter(
        cluster_id=cluster.id, gone_at=None, lifecycle="spot"
    )
    return {
        "nodes": cluster.node_count,
        "spot_nodes": spot.count(),
        "pods": cluster.pod_count,
        "cpu_milli": cluster.cpu_milli,
        "memory_bytes": cluster.memory_bytes,
        "requested_cpu_milli": cluster.requested_cpu_milli,
        "requested_memory_bytes": cluster.requested_memory_bytes,
        "used_cpu_milli": None,
        "used_memory_bytes": None,
        "hourly_cost": cluster.hourly_cost,
        "api_ms": cluster.api_ms,
    }


def add_usage(cluster: Cluster, samples: Sequence[ingest.Sample], now: datetime) -> None:
    """Usage samples become looks. Samples from the future (a clock set wrong) count as now."""
    fresh = Cluster.objects.for_org(cluster.organization_id).get(id=cluster.id)
    base = standing(fresh)
    looks = []
    for sample in samples:
        cpu, memory = used_by(sample)
        at = min(sample.at, now) if sample.at > now + LATEST_FUTURE else sample.at
        looks.append(Look(at, {**base, "used_cpu_milli": cpu, "used_memory_bytes": memory}, {}))
    add_looks(fresh, looks)


def used_by(sample: ingest.Sample) -> tuple[int | None, int | None]:
    """Thousandths of a core and bytes in use: the nodes' own measure, else the sum of the containers."""
    pairs: Iterable[ingest.Usage] = sample.nodes.values()
    if not sample.nodes:
        pairs = [used for boxes in sample.pods.values() for used in boxes.values()]
    found = list(pairs)
    cpu = [used.cpu for used in found if used.cpu is not None]
    memory = [used.memory for used in found if used.memory is not None]
    return (sum(cpu) // MILLION if cpu else None), (sum(memory) if memory else None)


def add_looks(cluster: Cluster, looks: Sequence[Look]) -> None:
    """Work looks into the five minutes, the hour and the day that they belong to."""
    for span in Span:
        buckets: dict[datetime, list[Look]] = defaultdict(list)
        for look in looks:
            if look.at > clock.now() - SPAN_KEPT[span]:
                buckets[start_of(span, look.at)].append(look)
        rows = Sample.objects.for_org(cluster.organization_id)
        existing = {row.at: row for row in rows.filter(cluster_id=cluster.id, span=span, at__in=list(buckets))}
        new, old = [], []
        for at, seen in buckets.items():
            row = existing.get(at)
            if row is None:
                row = Sample(organization_id=cluster.organization_id, cluster_id=cluster.id, span=span, at=at, n=0)
                new.append(row)
            else:
                old.append(row)
            for look in seen:
                _work_in(row, look)
        rows.bulk_create(new, batch_size=200)
        if old:
            rows.bulk_update(old, ["n", *MEANS, *COUNTS], batch_size=100)


def _work_in(row: Sample, look: Look) -> None:
    """Running means; a value that nobody knew leaves the mean of those who did."""
    for name in MEANS:
        value = look.means.get(name)
        before = getattr(row, name) if row.n else None
        if value is None:
            setattr(row, name, before if before is not None or Sample._meta.get_field(name).null else 0)
        elif before is None:
            setattr(row, name, value)
        else:
            kind = Decimal if name == "hourly_cost" else float
            setattr(row, name, before + (kind(value) - before) / (row.n + 1))
    for name in COUNTS:
        setattr(row, name, getattr(row, name) + look.counts.get(name, 0))
    row.n += 1


def count_changes(cluster: Cluster, number: int, now: datetime) -> None:
    """What changed in the cluster's objects is the trace that its API's users leave: counted for the activity."""
    for span in Span:
        rows = Sample.objects.for_org(cluster.organization_id).filter(
            cluster_id=cluster.id, span=span, at=start_of(span, now)
        )
        if not rows.exclude(changes=None).update(changes=F("changes") + number):
            rows.update(changes=number)


def add_quiet_looks() -> int:
    """Clusters that report but had nothing to say for five minutes get their look all the same. Returns how many."""
    now = clock.now()
    at = start_of(Span.FIVE_MINUTES, now)
    live = Cluster.objects.all_orgs().filter(state=State.LIVE, reported_at__isnull=False)
    seen = set(Sample.objects.all_orgs().filter(span=Span.FIVE_MINUTES, at=at).values_list("cluster_id", flat=True))
    done = 0
    for cluster in live.iterator(chunk_size=200):
        if cluster.id not in seen:
            with transaction.atomic():
                Cluster.objects.for_org(cluster.organization_id).select_for_update().filter(id=cluster.id).first()
                add_looks(cluster, [Look(now, standing(cluster), {})])
            done += 1
    return done


def forget_old() -> int:
    """Delete history, gone nodes and ended alerts that are older than they are kept. Returns how many rows."""
    now, gone = clock.now(), 0
    for span, kept in SPAN_KEPT.items():
        gone += Sample.objects.all_orgs().filter(span=span, at__lt=now - kept).delete()[0]
    gone += ClusterNode.objects.all_orgs().filter(gone_at__lt=now - NODES_KEPT).delete()[0]
    gone += Alert.objects.all_orgs().filter(ended_at__lt=now - NODES_KEPT).delete()[0]
    return gone


def fed_histograms(
    cluster: Cluster, samples: Sequence[ingest.Sample], tables: Mapping[str, Mapping[str, Any]], now: datetime
) -> tuple[int, bytes] | None:
    """The cluster's histograms with these samples counted, packed, and how many containers they are of; None when the
    samples are of no pod. Slow at thousands of pods: call it outside the transaction."""
    if not any(sample.pods for sample in samples):
        return None
    row = UsageHistograms.objects.for_org(cluster.organization_id).filter(cluster_id=cluster.id).first()
    kept = histograms.Histograms.load(packed.unpack(row.packed)) if row else histograms.Histograms()
    facts = histograms.pod_facts(tables)
    for sample in samples:
        kept.add_sample(sample.at, sample.pods, facts)
    kept.prune(now)
    return len(kept.containers), packed.pack(kept.dump())


def usage_until(cluster: Cluster) -> str | None:
    """Up to when usage of the cluster's containers was counted, ISO; None when none ever was."""
    row = UsageHistograms.objects.for_org(cluster.organization_id).filter(cluster_id=cluster.id).first()
    kept = histograms.Histograms.load(packed.unpack(row.packed)).containers.values() if row else ()
    last = max((use.last_at for use in kept), default=0.0)
    return datetime.fromtimestamp(last, UTC).isoformat() if last else None


def store_histograms(cluster: Cluster, fed: tuple[int, bytes], now: datetime) -> None:
    """Keep what `fed_histograms` made; the caller's conditional update of the cluster guards against mixing."""
    facts = {"organization_id": cluster.organization_id, "at": now, "containers": fed[0], "packed": fed[1]}
    rows = UsageHistograms.objects.for_org(cluster.organization_id)
    rows.update_or_create(cluster_id=cluster.id, defaults=facts)
