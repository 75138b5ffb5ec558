"""Reads of recommendations and changes: scoped and evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.urls import reverse

from accounts.models import Organization
from clusters.extensions import Notice
from clusters.models import Cluster
from core import clock
from core.actor import Actor
from core.errors import NotFound
from policies.enums import PERMISSION_VIEW, Rightsizing
from policies.rightsizing import due, reporting, services
from policies.rightsizing.models import SizeChange, SizeReport

SHOWN = {
    "all": "All",
    "changes": "To change",
    "up": "Too small",
    "down": "Too large",
    "held": "Held",
    "exempt": "Unmanaged",
}
RECENT = 50


@dataclass(frozen=True, slots=True)
class Gold:
    """Clusters together: what resizing could save a month. `monthly` is None while nothing is known."""

    monthly: float | None
    clusters: int


@dataclass(frozen=True, slots=True)
class Overview:
    """A cluster's recommendations with what may be done about them."""

    cluster: Cluster
    report: SizeReport | None
    ruling: reporting.Ruling
    refused: str
    waiting: Mapping[str, str]
    active: frozenset[str]

    @property
    def applies(self) -> bool:
        return self.ruling.mode is Rightsizing.APPLY


def get_overview(*, actor: Actor, cluster_id: UUID) -> Overview:
    """Everything that the report page and the API show. Raises NotFound."""
    cluster = Cluster.objects.visible_to(actor).select_related("account").filter(id=cluster_id).first()
    if cluster is None:
        raise NotFound("There is no such cluster.")
    report = SizeReport.objects.visible_to(actor).filter(cluster=cluster).first()
    ruling = reporting.ruling_of(cluster)
    past = services.history(cluster)
    waiting: dict[str, str] = {}
    if report is not None and ruling.mode is Rightsizing.APPLY:
        zone = Organization.objects.values_list("timezone", flat=True).get(id=cluster.organization_id)
        local = clock.now().astimezone(ZoneInfo(zone or "UTC"))
        night = due.in_hours(local, ruling.rules.down_from, ruling.rules.down_until)
        under_way = sum(one.active for one in past.values())
        _, waiting = due.orders(report.rows, past, clock.now(), night=night, under_way=under_way)
    active = frozenset(key for key, one in past.items() if one.active)
    return Overview(cluster, report, ruling, services.why_not(cluster), waiting, active)


def list_rows(overview: Overview, *, show: str = "all", search: str = "", namespace: str = "") -> list[dict[str, Any]]:
    """Rows of the report, filtered; an unknown filter is none."""
    rows = overview.report.rows if overview.report else []
    words = search.strip().lower()
    return [
        row
        for row in rows
        if fits(row, show) and (not words or words in row["key"].lower()) and namespace in ("", row["namespace"])
    ]


def fits(row: Mapping[str, Any], show: str) -> bool:
    """Whether a row belongs under a pill."""
    if show == "exempt":
        return bool(row["hold"] and row["hold"]["why"] == "exempt")
    if show == "held":
        return not row["changes"] and not fits(row, "exempt")
    return bool(row[show]) if show in ("changes", "up", "down") else True


def list_changes(*, actor: Actor, cluster_id: UUID, limit: int = RECENT) -> list[SizeChange]:
    """The newest changes of a cluster's workloads."""
    rows = SizeChange.objects.visible_to(actor).filter(workload__cluster_id=cluster_id)
    return list(rows.select_related("workload").order_by("-at")[:limit])


def list_reports(*, actor: Actor) -> list[SizeReport]:
    """Every cluster's report, what saves most first, without its rows."""
    rows = SizeReport.objects.visible_to(actor).select_related("cluster").defer("rows")
    return sorted(rows, key=lambda one: (-(one.potential or 0.0), one.cluster.name))


def gold(*, actor: Actor) -> Gold:
    """The gold bar: what resizing could save a month, over all clusters. One query."""
    found = SizeReport.objects.visible_to(actor).filter(saves__gt=0).values_list("saves", flat=True)
    sums = [one for one in found if one is not None]
    return Gold(sum(sums) if sums else None, len(sums))


def notice(actor: Actor, cluster: Cluster) -> Notice | None:
    """The gold bar of one cluster's page."""
    if not actor.can(PERMISSION_VIEW):
        return None
    row = SizeReport.objects.visible_to(actor).filter(cluster=cluster).values_list("saves", "changes").first()
    if row is None or not row[1]:
        return None
    url = reverse("policies:rightsizing", args=[cluster.id])
    workloads = f"{row[1]} workload{'s' if row[1] != 1 else ''}"
    if row[0] is not None and row[0] > 0:
        return Notice(f"You can save ${row[0]:,.0f} a month by resizing {workloads}.", url, "See what would change")
    return Notice(f"{workloads.capitalize()} should be resized.", url, "See what would change", gold=False)


def stale(report: SizeReport) -> bool:
    """Whether a report is too old to act on."""
    return clock.now() - report.at > services.FRESH
