"""Rightsizing on real series: known days, then the days after; the whole frontier of requested core-hours against being
short, beside VPA's and KRR's rules (written anew from their documentation).

    python -m bench.rightsizing_backtest [--plot bench/plots/rightsizing.svg]

VPA: 5 % buckets from 0.01 core, half-life 24 hours, eight days, upper edge of the bucket of p90, + 15 %, at least 25m.
KRR: p95 of fourteen days, at least 10m, no margin. Every rule says one request per fold and lives with it until the end
of the test. Short: samples above the request, the mean over folds; unmet: what lay above it, of all that was used.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median

from bench import rightsizing_series as data
from bench.rightsizing_plot import Curve, draw
from bench.support import percentile, report
from clusters.analysis.usage_days import Day, UsageDays
from clusters.analysis.usage_histogram import CPU_BUCKETS, UsageHistogram
from policies.rightsizing import measured

Rule = Callable[["Known"], float]
SHORTAGES = (0.25, 0.5, 1.0, 2.0, 4.0, 7.0, 10.0, 20.0, 40.0)


@dataclass(frozen=True, slots=True)
class Known:
    """What a rule may look at: the known samples and the same as days."""

    samples: list[data.Sample]
    days: list[Day]
    ordered: list[float]
    histogram: UsageHistogram

    @classmethod
    def of(cls, fold: data.Fold) -> Known:
        days = UsageDays()
        for at, cores in fold.known:
            days.add(int(at // data.DAY), cores, None)
        end = fold.known[-1][0]
        histogram = UsageHistogram(CPU_BUCKETS)
        for at, cores in fold.known:
            if at >= end - 8 * data.DAY:
                histogram.add(cores, 1.0, datetime.fromtimestamp(at, UTC))
        recent = [cores for at, cores in fold.known if at >= end - 14 * data.DAY]
        return cls(fold.known, days.days(), sorted(recent), histogram)


def vpa(known: Known, share: float = 0.9, margin: float = 1.15) -> float:
    return max(0.025, margin * known.histogram.percentile(share))


def krr(known: Known, share: float = 0.95, margin: float = 1.0) -> float:
    place = share * (len(known.ordered) - 1)  # quantile_over_time interpolates
    low = int(place)
    high = min(low + 1, len(known.ordered) - 1)
    return max(0.010, margin * (known.ordered[low] + (known.ordered[high] - known.ordered[low]) * (place - low)))


def ours(known: Known, shortage: float = measured.SHORTAGE) -> float:
    chosen = measured.choose(known.days, shortage=shortage)
    assert chosen is not None
    return max(0.010, chosen.cores)


@dataclass(frozen=True, slots=True)
class Score:
    """A rule over some folds."""

    core_hours: float
    short: float
    worst: float
    unmet: float
    requests: tuple[float, ...]

    def figures(self) -> dict[str, float]:
        return {
            "core_hours": round(self.core_hours, 1),
            "short_percent": round(100 * self.short, 2),
            "short_percent_p95_of_folds": round(100 * self.worst, 1),
            "unmet_percent": round(100 * self.unmet, 2),
        }


def score(folds: Sequence[data.Fold], known: Sequence[Known], rule: Rule) -> Score:
    hours, shorts, unmet, used, requests = 0.0, [], 0.0, 0.0, []
    for fold, seen in zip(folds, known, strict=True):
        cores = rule(seen)
        requests.append(cores)
        hours += cores * fold.hours
        above = [value - cores for value in fold.test if value > cores]
        shorts.append(len(above) / len(fold.test))
        unmet += sum(above)
        used += sum(fold.test)
    return Score(hours, sum(shorts) / len(shorts), percentile(shorts, 95), unmet / used, tuple(requests))


def frontier(folds: Sequence[data.Fold], known: Sequence[Known]) -> dict[str, list[tuple[str, Score]]]:
    """Each family of rules along its dial."""
    margins = (1.0, 1.1, 1.2, 1.3, 1.5)
    return {
        "measured": [(f"{s:g}", score(folds, known, partial(ours, shortage=s))) for s in SHORTAGES],
        "p95 + headroom": [(f"{m - 1:.0%}", score(folds, known, partial(krr, margin=m))) for m in margins],
        "percentile": [
            (f"p{q * 100:g}", score(folds, known, partial(krr, share=q)))
            for q in (0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995)
        ],
        "VPA's, other percentile": [
            (f"p{q * 100:g}", score(folds, known, partial(vpa, share=q))) for q in (0.8, 0.85, 0.9, 0.95, 0.98)
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    if not data.available():
        raise SystemExit(f"The series are not here: {data.DATA}")
    groups = {group: data.folds(group) for group in (*data.WEEKS, *data.SHORT)}
    groups["weeks"] = [fold for group in data.WEEKS for fold in groups[group]]
    for group, folds in groups.items():
        known = [Known.of(fold) for fold in folds]
        scores = {"vpa": score(folds, known, vpa), "krr": score(folds, known, krr)}
        began = time.process_time()
        scores["measured"] = score(folds, known, ours)
        pace = (time.process_time() - began) / len(folds)
        curves = frontier(folds, known)
        report(
            "rightsizing_backtest",
            group=group,
            folds=len(folds),
            **{name: one.figures() for name, one in scores.items()},
            p95_headroom_20=dict(curves["p95 + headroom"])["20%"].figures(),
            at_most_as_short=_verdicts(curves["measured"], scores),
            median_request_of_vpa=_typical(scores["measured"], scores["vpa"]),
            median_request_of_krr=_typical(scores["measured"], scores["krr"]),
            ms_a_container=round(1000 * pace, 1),
        )
        if group == "weeks" and options.plot:
            marks = {"VPA": scores["vpa"], "KRR": scores["krr"], "measured, as shipped": scores["measured"]}
            draw(
                options.plot,
                [Curve(name, [(100 * s.short, s.core_hours, tag) for tag, s in line]) for name, line in curves.items()],
                {name: (100 * one.short, one.core_hours) for name, one in marks.items()},
            )


def _typical(mine: Score, theirs: Score) -> float:
    return round(median(a / b for a, b in zip(mine.requests, theirs.requests, strict=True)), 3)


def _verdicts(line: Sequence[tuple[str, Score]], scores: dict[str, Score]) -> dict[str, object]:
    """Of the settings that are short no more often than the other rule, the one that asks for least."""
    found: dict[str, object] = {}
    for name in ("vpa", "krr"):
        fair = [(tag, s) for tag, s in line if s.short <= scores[name].short]
        if not fair:
            found[name] = "never"
            continue
        tag, best = min(fair, key=lambda one: one[1].core_hours)
        saved = 1 - best.core_hours / scores[name].core_hours
        found[name] = {"shortage": tag, "fewer_core_hours_percent": round(100 * saved, 1), **best.figures()}
    return found


if __name__ == "__main__":
    main()
