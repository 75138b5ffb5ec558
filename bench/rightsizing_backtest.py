"""Rightsizing on real series, day by day: each day's request from the days before it; requested core-hours against being
short, beside VPA's and KRR's rules (written anew from their documentation).

    python -m bench.rightsizing_backtest [--plot bench/plots/rightsizing_frontier.svg]

VPA: 5 % buckets from 0.01 core, half-life 24 hours, upper edge of the bucket of p90, + 15 %, at least 25m. KRR: p95 of
fourteen days, at least 10m, no margin. Every rule is asked anew each midnight and carried out alike, as the product does
it: up at once, down when the last change is seven days old. Short: samples above the request, the mean over all days and
machines; unmet: what lay above it, of all that was used.

Held out: the machines are halved by name. The setting of `measured` that asks for least while being short at most as often
as the other rule is found on one half and judged on the other, both ways, and the two judged halves are added up. In sight:
the same along the policy's dial, with all machines seen. The bound is what a constant request a week could save that knows
the week: the least core-hours at the same mean rate, none being short for more than `measured.MOST_SHORT` of its week.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bench import rightsizing_series as data
from bench.rightsizing_plot import Curve, draw
from bench.support import percentile, report
from clusters.analysis.usage_days import Day, UsageDays
from clusters.analysis.usage_histogram import CPU_BUCKETS, UsageHistogram
from policies.rightsizing import due, measured

Rule = Callable[["Known"], float]
SHARES = (0.8, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995)
DIAL = (10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 22, 25, 30, 40, 50)  # per cent of headroom
DOWN_DAYS = due.DOWN_EVERY.days


@dataclass(frozen=True, slots=True)
class Known:
    """What a rule may look at on one morning: the days before, and shares of VPA's histogram and of the last 14 days."""

    days: tuple[Day, ...]
    histogram: dict[float, float]
    plain: dict[float, float]


@dataclass(slots=True)
class Machine:
    """A series with what was known on each tested morning and what the day then used."""

    walk: data.Walk
    known: list[Known] = field(default_factory=list)
    used: list[list[float]] = field(default_factory=list)

    @classmethod
    def of(cls, walk: data.Walk) -> Machine:
        made, days, histogram = cls(walk), UsageDays(), UsageHistogram(CPU_BUCKETS)
        tested = set(walk.tested())
        for number, samples in enumerate(walk.days):
            if number in tested:
                recent = sorted(cores for day in walk.days[max(0, number - 14) : number] for _, cores in day)
                shares = {share: histogram.percentile(share) for share in SHARES}
                made.known.append(Known(tuple(days.days()), shares, {s: _quantile(recent, s) for s in SHARES}))
                made.used.append([cores for _, cores in samples])
            for at, cores in samples:
                days.add(int(at // data.DAY), cores, None)
                histogram.add(cores, 1.0, datetime.fromtimestamp(at, UTC))
        return made


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)  # quantile_over_time interpolates
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def vpa(known: Known, share: float = 0.9) -> float:
    return max(0.025, 1.15 * known.histogram[share])


def krr(known: Known, share: float = 0.95, margin: float = 1.0) -> float:
    return max(0.010, margin * known.plain[share])


def ours(known: Known, headroom: int = measured.USUAL) -> float:
    chosen = measured.choose(known.days, known.histogram[measured.LATELY], headroom=headroom)
    assert chosen is not None
    return max(0.010, chosen.cores)


def carried_out(wanted: Iterable[float]) -> list[float]:
    """What is requested on each day, where a rule wants these."""
    found: list[float] = []
    since = 0
    for day, cores in enumerate(wanted):
        if not found or cores > found[-1] or (cores < found[-1] and day - since >= DOWN_DAYS):
            since = day
            found.append(cores)
        else:
            found.append(found[-1])
    return found


@dataclass(frozen=True, slots=True)
class Score:
    """A rule on some machines. `short` has one share a day and machine."""

    core_hours: float
    short: tuple[float, ...]
    worst: float
    above: float
    used: float

    @property
    def rate(self) -> float:
        return sum(self.short) / len(self.short)

    def figures(self) -> dict[str, float]:
        return {
            "core_hours": round(self.core_hours, 1),
            "short_percent": round(100 * self.rate, 2),
            "short_percent_p95_of_machines": round(100 * self.worst, 1),
            "unmet_percent": round(100 * self.above / self.used, 2),
        }


def score(machines: Sequence[Machine], rule: Rule) -> Score:
    hours, shorts, above, used, worst = 0.0, list[float](), 0.0, 0.0, list[float]()
    for machine in machines:
        mine = []
        for cores, day in zip(carried_out(map(rule, machine.known)), machine.used, strict=True):
            over = [value - cores for value in day if value > cores]
            hours += cores * len(day) * machine.walk.step / 3600
            mine.append(len(over) / len(day))
            above += sum(over)
            used += sum(day)
        shorts += mine
        worst.append(sum(mine) / len(mine))
    return Score(hours, tuple(shorts), percentile(worst, 95), above, used)


def both(one: Score, other: Score) -> Score:
    return Score(
        one.core_hours + other.core_hours,
        one.short + other.short,
        max(one.worst, other.worst),
        one.above + other.above,
        one.used + other.used,
    )


def held_out(machines: Sequence[Machine], theirs: Rule) -> dict[str, object]:
    """The setting found on one half and judged on the other, both ways."""
    halves = [[m for m in machines if m.walk.half == half] for half in (0, 1)]
    mine, other, chosen = list[Score](), list[Score](), list[int]()
    for half in (0, 1):
        limit = score(halves[1 - half], theirs).rate
        tuned = [(h, score(halves[1 - half], partial(ours, headroom=h))) for h in DIAL]
        fair = [(found.core_hours, h) for h, found in tuned if found.rate <= limit]
        if not fair:
            return {"verdict": "never as seldom short"}
        chosen.append(min(fair)[1])
        mine.append(score(halves[half], partial(ours, headroom=chosen[-1])))
        other.append(score(halves[half], theirs))
    ours_there, theirs_there = both(*mine), both(*other)
    return {
        "headrooms": chosen,
        "fewer_core_hours_percent": round(100 * (1 - ours_there.core_hours / theirs_there.core_hours), 1),
        "each_half": [round(100 * (1 - a.core_hours / b.core_hours), 1) for a, b in zip(mine, other, strict=True)],
        "each_half_short": [[round(100 * a.rate, 2), round(100 * b.rate, 2)] for a, b in zip(mine, other, strict=True)],
        "short_percent_of_theirs": round(100 * theirs_there.rate, 2),
        **ours_there.figures(),
    }


def bound(machines: Sequence[Machine], rate: float) -> float:
    """Core-hours of the best constant requests of a week each, chosen by the week itself, at this mean rate."""
    weeks = []
    for machine in machines:
        for start in range(0, len(machine.used), 7):
            days = machine.used[start : start + 7]
            values = sorted(value for day in days for value in day)
            hours, step = len(values) * machine.walk.step / 3600, max(1, len(values) // 300)
            part = step / len(values)
            weeks.append((values[::-step][: 1 + int(measured.MOST_SHORT / part)], hours, len(days), part))
    total = sum(count for _, _, count, _ in weeks)
    low, high = 0.0, 1e6
    best = 0.0
    for _ in range(40):
        price = (low + high) / 2 if high < 1e6 else max(1.0, low * 4)
        cost = short = 0.0
        for values, hours, count, part in weeks:
            at = min(range(len(values)), key=lambda n: values[n] * hours + price * n * part * count)
            cost += max(0.010, values[at]) * hours
            short += at * part * count
        if short / total <= rate:
            high, best = price, cost
        else:
            low = price
    return best


def frontier(machines: Sequence[Machine]) -> dict[str, list[tuple[str, Score]]]:
    """Each family of rules along its dial."""
    return {
        "measured": [(f"{h} %", score(machines, partial(ours, headroom=h))) for h in DIAL],
        "p95 + headroom": [
            (f"{m - 1:.0%}", score(machines, partial(krr, margin=m))) for m in (1.0, 1.1, 1.2, 1.3, 1.5)
        ],
        "percentile": [(f"p{q * 100:g}", score(machines, partial(krr, share=q))) for q in SHARES],
        "VPA's, other percentile": [(f"p{q * 100:g}", score(machines, partial(vpa, share=q))) for q in SHARES[:6]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    if not data.available():
        raise SystemExit(f"The series are not here: {data.DATA}")
    groups = {group: [Machine.of(walk) for walk in data.walks(group)] for group in data.FIRST}
    groups["weeks"] = [machine for group in data.WEEKS for machine in groups[group]]
    for group, machines in groups.items():
        began, mornings = time.process_time(), sum(len(m.known) for m in machines)
        scores = {"measured": score(machines, ours)}
        pace = (time.process_time() - began) / mornings
        scores |= {"vpa": score(machines, vpa), "krr": score(machines, krr)}
        more: dict[str, object] = {}
        if group == "weeks":
            more = {f"held_out_{name}": held_out(machines, rule) for name, rule in (("vpa", vpa), ("krr", krr))}
            along = [(headroom, score(machines, partial(ours, headroom=headroom))) for headroom in DIAL]
            more["dial"] = {
                h: [round(s.core_hours, 1), round(100 * s.rate, 2), s.figures()["unmet_percent"]] for h, s in along
            }
            for name in ("vpa", "krr"):
                fair = [s.core_hours for _, s in along if s.rate <= scores[name].rate]
                saved = 100 * (1 - min(fair) / scores[name].core_hours) if fair else None
                more[f"in_sight_{name}_percent"] = saved if saved is None else round(saved, 1)
                least = bound(machines, scores[name].rate)
                more[f"bound_{name}_percent"] = round(100 * (1 - least / scores[name].core_hours), 1)
        report(
            "rightsizing_backtest",
            group=group,
            machines=len(machines),
            days=mornings,
            **{name: one.figures() for name, one in scores.items()},
            **more,
            ms_a_container=round(1000 * pace, 1),
        )
        if group == "weeks" and options.plot:
            _plot(options.plot, frontier(machines), scores)


def _plot(path: Path, curves: dict[str, list[tuple[str, Score]]], scores: dict[str, Score]) -> None:
    names = {"vpa": "VPA", "krr": "KRR", "measured": "measured, as shipped"}
    draw(
        path,
        [Curve(name, [(100 * s.rate, s.core_hours, tag) for tag, s in line]) for name, line in curves.items()],
        {names[name]: (100 * one.rate, one.core_hours) for name, one in scores.items()},
    )


if __name__ == "__main__":
    main()
