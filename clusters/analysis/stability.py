"""The stability index: is saving money hurting? 0 to 100, from four components with their weights in sight.

Each component is 100 at its "good" mark, 80 at its "watch" mark and 0 at its "bad" mark, linear in between:

| component | measures | good | watch | bad | weight |
|---|---|---|---|---|---|
| pressure | share of nodes that had MemoryPressure, DiskPressure, PIDPressure or were not ready, last 24 h | 0 | 5 % | 25 % | 30 |
| restarts | restarts per 100 pods and day; an OOM kill counts three times | 0 | 5 | 50 | 30 |
| spot | nodes expected to be interrupted in a month, of all nodes | 0 | 10 % | 60 % | 20 |
| latency | 99th percentile of the API server's answers (the Kubernetes objective is 1 s) | 0.2 s | 1 s | 10 s | 20 |

A component without data is left out, its weight goes to the others in proportion, and it is named. Below 80 the gauge is
orange, below 60 red. The marks are ours; only the latency objective comes from Kubernetes.

**Spot interruptions** follow a Beta-binomial model per instance type. A trial is a node-hour. The prior is the Spot
Advisor's band for the type and region, its middle as the chance of a node to be interrupted within a month, with the
strength of `PRIOR_NODE_MONTHS` node-months of observation; observed node-hours and interruptions are added to it. A type
without a band gets the widest prior: the mean of all bands with the strength of one node-month.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from clusters.analysis.facts import HOURS_PER_MONTH

ORANGE_BELOW, RED_BELOW = 80, 60
PRIOR_NODE_MONTHS = 12
UNKNOWN_PRIOR_NODE_MONTHS = 1
# Middle of the Spot Advisor's bands <5 %, 5-10 %, 10-15 %, 15-20 %, >20 % (a month); the open one is taken as 20-30 %.
BAND_MONTHLY = (0.025, 0.075, 0.125, 0.175, 0.25)
OOM_COUNTS_AS = 3


@dataclass(frozen=True, slots=True)
class SpotObservation:
    """One instance type of the cluster's spot nodes. `band` is 0 to 4 as the Spot Advisor numbers them."""

    instance_type: str
    nodes: int
    band: int | None
    node_hours: float = 0.0
    interruptions: int = 0


@dataclass(frozen=True, slots=True)
class SpotRisk:
    """The chance of a node of that type to be interrupted within a month: mean and 90 % credible interval."""

    instance_type: str
    nodes: int
    monthly: float
    low: float
    high: float
    node_hours: float
    interruptions: int
    prior: str


@dataclass(frozen=True, slots=True)
class StabilityFacts:
    """What was observed; None where it was not. `days` is how long pods were observed for restarts."""

    nodes: int
    nodes_under_pressure: int | None = None
    pods: int = 0
    days: float = 1.0
    restarts: int | None = None
    oom_kills: int = 0
    spot: tuple[SpotObservation, ...] | None = None
    api_latency_p99: float | None = None


@dataclass(frozen=True, slots=True)
class Component:
    """`weight` is what it counts in this index, after missing ones are shared out; the weights add up to 1."""

    name: str
    score: float
    weight: float
    evidence: str


@dataclass(frozen=True, slots=True)
class Stability:
    """`index` is 0 to 100, or None when nothing was observed."""

    index: float | None
    level: str
    components: tuple[Component, ...]
    missing: tuple[str, ...]
    spot: tuple[SpotRisk, ...]


def stability(facts: StabilityFacts) -> Stability:
    """The index with everything it was made of."""
    risks = tuple(spot_risk(seen) for seen in facts.spot or ())
    found = {
        "pressure": (30, _pressure(facts)),
        "restarts": (30, _restarts(facts)),
        "spot": (20, _spot(facts, risks)),
        "latency": (20, _latency(facts)),
    }
    known = {name: (weight, part) for name, (weight, part) in found.items() if part is not None}
    total = sum(weight for weight, _ in known.values())
    components = tuple(
        Component(name, score, weight / total, words) for name, (weight, (score, words)) in known.items()
    )
    missing = tuple(name for name in found if name not in known)
    if not components:
        return Stability(None, "unknown", (), missing, risks)
    index = sum(part.score * part.weight for part in components)
    return Stability(index, level_of(index), components, missing, risks)


def level_of(index: float) -> str:
    """green, orange or red."""
    return "green" if index >= ORANGE_BELOW else "orange" if index >= RED_BELOW else "red"


def curve(value: float, good: float, watch: float, bad: float) -> float:
    """100 at or below `good`, 80 at `watch`, 0 at or above `bad`."""
    if value <= good:
        return 100.0
    if value <= watch:
        return 100.0 - 20.0 * (value - good) / (watch - good)
    return max(0.0, 80.0 * (bad - value) / (bad - watch))


def _pressure(facts: StabilityFacts) -> tuple[float, str] | None:
    if facts.nodes_under_pressure is None or facts.nodes <= 0:
        return None
    words = f"{facts.nodes_under_pressure} of {facts.nodes} nodes were under pressure or not ready"
    return curve(facts.nodes_under_pressure / facts.nodes, 0.0, 0.05, 0.25), words


def _restarts(facts: StabilityFacts) -> tuple[float, str] | None:
    if facts.restarts is None or facts.pods <= 0 or facts.days <= 0:
        return None
    counted = facts.restarts + (OOM_COUNTS_AS - 1) * facts.oom_kills
    rate = counted * 100 / facts.pods / facts.days
    words = f"{facts.restarts} restarts, {facts.oom_kills} of them out of memory: {rate:.1f} per 100 pods and day"
    return curve(rate, 0.0, 5.0, 50.0), words


def _spot(facts: StabilityFacts, risks: Sequence[SpotRisk]) -> tuple[float, str] | None:
    if facts.spot is None or facts.nodes <= 0:
        return None
    expected = sum(risk.monthly * risk.nodes for risk in risks)
    spot_nodes = sum(risk.nodes for risk in risks)
    words = f"{spot_nodes} spot nodes, {expected:.1f} of {facts.nodes} nodes expected to be interrupted in a month"
    return curve(expected / facts.nodes, 0.0, 0.10, 0.60), words


def _latency(facts: StabilityFacts) -> tuple[float, str] | None:
    if facts.api_latency_p99 is None:
        return None
    return curve(facts.api_latency_p99, 0.2, 1.0, 10.0), f"99 % of API answers within {facts.api_latency_p99:.2f} s"


# Spot interruptions ----------------------------------------------------------------------------------------------


def spot_risk(seen: SpotObservation) -> SpotRisk:
    """The posterior of one type. Raises ValueError for a band that does not exist."""
    if seen.band is None:
        monthly, months, words = sum(BAND_MONTHLY) / len(BAND_MONTHLY), UNKNOWN_PRIOR_NODE_MONTHS, "no band known"
    elif 0 <= seen.band < len(BAND_MONTHLY):
        monthly, months = BAND_MONTHLY[seen.band], PRIOR_NODE_MONTHS
        words = f"Spot Advisor band {('<5 %', '5-10 %', '10-15 %', '15-20 %', '>20 %')[seen.band]}"
    else:
        raise ValueError(f"there is no band {seen.band}")
    hourly = 1 - (1 - monthly) ** (1 / HOURS_PER_MONTH)
    strength = months * HOURS_PER_MONTH
    trials = max(seen.node_hours, float(seen.interruptions))
    alpha = hourly * strength + seen.interruptions
    beta = (1 - hourly) * strength + trials - seen.interruptions
    low, high = beta_quantile(0.05, alpha, beta), beta_quantile(0.95, alpha, beta)
    return SpotRisk(
        seen.instance_type,
        seen.nodes,
        _monthly(alpha / (alpha + beta)),
        _monthly(low),
        _monthly(high),
        seen.node_hours,
        seen.interruptions,
        words,
    )


def _monthly(hourly: float) -> float:
    return 1 - (1 - hourly) ** HOURS_PER_MONTH


def beta_quantile(share: float, alpha: float, beta: float) -> float:
    """The x below which a Beta(alpha, beta) lies with that probability, to 1e-12, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if beta_cdf(middle, alpha, beta) < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def beta_cdf(x: float, alpha: float, beta: float) -> float:
    """The regularized incomplete beta function, by its continued fraction."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (alpha + 1) / (alpha + beta + 2):
        return 1.0 - beta_cdf(1 - x, beta, alpha)
    log_front = (
        math.lgamma(alpha + beta) - math.lgamma(alpha) - math.lgamma(beta) + alpha * math.log(x) + beta * math.log1p(-x)
    )
    return math.exp(log_front) * _fraction(x, alpha, beta) / alpha


def _fraction(x: float, a: float, b: float) -> float:
    """Evaluated front to back (Lentz); converges fast where `beta_cdf` uses it."""
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    result = d
    for m in range(1, 500):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 + step * d
            c = 1.0 + step / c
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = c if abs(c) > tiny else tiny
            result *= c * d
        if abs(c * d - 1.0) < 1e-14:
            break
    return result
