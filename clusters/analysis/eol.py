"""Is the Kubernetes version supported, until when, and what being late costs: the end-of-life badge in dollars.

The table holds small facts: release and end dates from endoflife.date (MIT), as of 2026-08-22. An operator may load a
newer one with `SupportTable.from_rows`. Prices: Amazon EKS charges 0.10 a cluster hour in standard support and 0.60 in
extended support (AWS price list, as of 2026-08). For other providers no surcharge is recorded, and none is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum

from clusters.analysis.facts import HOURS_PER_MONTH

AS_OF = date(2026, 8, 22)
SOURCE = "endoflife.date"
EKS_STANDARD_HOURLY = Decimal("0.10")
EKS_EXTENDED_HOURLY = Decimal("0.60")
ENDING_SOON_DAYS = 60
_PRODUCTS = {
    "kubernetes": "kubernetes",
    "amazon-eks": "eks",
    "azure-kubernetes-service": "aks",
    "google-kubernetes-engine": "gke",
}
# provider, version, released, end of support, end of extended support
_TABLE = """
eks 1.28 2023-09-26 2024-11-26 2025-11-26
eks 1.29 2024-01-23 2025-03-23 2026-03-23
eks 1.30 2024-05-23 2025-07-23 2026-07-23
eks 1.31 2024-09-26 2025-11-26 2026-11-26
eks 1.32 2025-01-25 2026-03-23 2027-03-23
eks 1.33 2025-05-28 2026-07-29 2027-07-29
eks 1.34 2025-10-06 2026-12-02 2027-12-02
eks 1.35 2026-01-28 2027-03-27 2028-03-27
eks 1.36 2026-06-02 2027-08-02 2028-08-02
aks 1.30 2024-08-05 2025-08-22 2026-07-31
aks 1.31 2024-10-25 2025-11-01 2026-11-30
aks 1.32 2025-04-06 2026-03-31 2027-03-31
aks 1.33 2025-06-17 2026-07-31 2027-07-31
aks 1.34 2026-01-04 2026-11-30 2027-11-30
aks 1.35 2026-03-05 2027-03-31 2028-03-31
aks 1.36 2026-06-30 2027-06-30 2028-06-30
gke 1.30 2024-07-31 2025-09-30 -
gke 1.31 2024-10-25 2026-01-16 -
gke 1.32 2025-02-11 2026-04-11 -
gke 1.33 2025-06-03 2026-08-03 -
gke 1.34 2025-09-30 2026-10-01 -
gke 1.35 2026-02-11 2027-04-11 -
gke 1.36 2026-06-09 2027-08-09 -
kubernetes 1.30 2024-04-17 2025-07-15 -
kubernetes 1.31 2024-08-13 2025-11-11 -
kubernetes 1.32 2024-12-11 2026-02-28 -
kubernetes 1.33 2025-04-23 2026-06-28 -
kubernetes 1.34 2025-08-27 2026-10-27 -
kubernetes 1.35 2025-12-17 2027-02-28 -
kubernetes 1.36 2026-04-22 2027-06-28 -
"""


class Support(StrEnum):
    """Where a version stands on a day."""

    SUPPORTED = "supported"
    ENDING_SOON = "ending_soon"
    EXTENDED = "extended"
    ENDED = "ended"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Release:
    """The life of one minor version at one provider. `ends` is None while no end is set."""

    provider: str
    version: str
    released: date | None
    ends: date | None
    extended_ends: date | None
    ended_undated: bool = False


@dataclass(frozen=True, slots=True)
class EolBadge:
    """`monthly_extra` is what the cluster pays a month for being late (0 when it is not; None when not recorded)."""

    support: Support
    version: str
    label: str
    ends: date | None
    monthly_extra: Decimal | None
    upgrade_to: str | None
    source: str
    as_of: date


class SupportTable:
    """Releases by provider and version. The provider "kubernetes" is upstream, for clusters that run themselves."""

    def __init__(self, releases: Iterable[Release], *, as_of: date, source: str = SOURCE) -> None:
        self._releases = {(release.provider, release.version): release for release in releases}
        self.as_of, self.source = as_of, source

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, str]], *, as_of: date, source: str = SOURCE) -> SupportTable:
        """From rows with `product, cycle, release_date, eol, extended_support_ends` as endoflife.date has them.

        `eol` may be True (ended, no date) or False (no end set). Products that are not Kubernetes are left out. Raises
        ValueError for a date that is none.
        """
        releases = []
        for row in rows:
            provider = _PRODUCTS.get(row.get("product", ""))
            if provider is None:
                continue
            releases.append(
                Release(
                    provider,
                    row["cycle"],
                    _date(row.get("release_date", "")),
                    _date(row.get("eol", "")),
                    _date(row.get("extended_support_ends", "")),
                    row.get("eol", "").strip().lower() == "true",
                )
            )
        return cls(releases, as_of=as_of, source=source)

    def release(self, provider: str, version: str) -> Release | None:
        return self._releases.get((provider, version))

    def newest(self, provider: str, today: date) -> str | None:
        """The newest version released by that day."""
        known = [
            release.version
            for (of, _), release in self._releases.items()
            if of == provider and (release.released is None or release.released <= today)
        ]
        return max(known, key=_order, default=None)

    def badge(self, provider: str, version: str, today: date) -> EolBadge:
        """The badge of a cluster. `version` may be as the API server says it, such as v1.31.14-eks-64."""
        minor = minor_version(version)
        release = self._releases.get((provider, minor)) if minor else None
        if release is None:
            words = f"No support dates known for {version or 'this version'}"
            return EolBadge(Support.UNKNOWN, minor or version, words, None, None, None, self.source, self.as_of)
        support, ends = _standing(release, today)
        extra = _monthly_extra(provider, support)
        newest = self.newest(provider, today)
        later = newest if newest and _order(newest) > _order(release.version) else None
        label = _label(release, support, ends, extra, today)
        return EolBadge(support, release.version, label, ends, extra, later, self.source, self.as_of)


def minor_version(version: str) -> str | None:
    """`1.31` of `v1.31.14-eks-64` or `1.31+`; None of what has no such form."""
    found = re.match(r"v?(\d+)\.(\d+)", version.strip())
    return f"{found.group(1)}.{found.group(2)}" if found else None


def _standing(release: Release, today: date) -> tuple[Support, date | None]:
    if release.ended_undated:
        return Support.ENDED, None
    if release.ends is None or today <= release.ends:
        soon = release.ends is not None and (release.ends - today).days <= ENDING_SOON_DAYS
        return (Support.ENDING_SOON if soon else Support.SUPPORTED), release.ends
    if release.extended_ends is not None and today <= release.extended_ends:
        return Support.EXTENDED, release.extended_ends
    return Support.ENDED, release.extended_ends or release.ends


def _monthly_extra(provider: str, support: Support) -> Decimal | None:
    if provider == "eks":
        late = support is Support.EXTENDED
        return (EKS_EXTENDED_HOURLY - EKS_STANDARD_HOURLY) * HOURS_PER_MONTH if late else Decimal(0)
    return None if support is Support.EXTENDED else Decimal(0)


def _label(release: Release, support: Support, ends: date | None, extra: Decimal | None, today: date) -> str:
    name = f"Kubernetes {release.version}"
    match support:
        case Support.SUPPORTED:
            return f"{name} is supported" + (f" until {ends.isoformat()}" if ends else "")
        case Support.ENDING_SOON:
            assert ends is not None
            return f"{name}: support ends on {ends.isoformat()}, in {(ends - today).days} days"
        case Support.EXTENDED:
            assert ends is not None
            price = f", +${extra:.0f} a month" if extra else ""
            return f"{name} is in extended support until {ends.isoformat()}{price}"
    return f"{name}: support has ended" + (f" on {ends.isoformat()}" if ends else "")


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _date(text: str) -> date | None:
    text = text.strip()
    return None if text in {"", "-"} or text.lower() in {"true", "false"} else date.fromisoformat(text)


def _built_in() -> SupportTable:
    rows = [line.split() for line in _TABLE.strip().splitlines()]
    return SupportTable(
        (Release(row[0], row[1], _date(row[2]), _date(row[3]), _date(row[4])) for row in rows), as_of=AS_OF
    )


BUILT_IN = _built_in()
