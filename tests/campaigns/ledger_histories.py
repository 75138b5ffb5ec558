"""Random lives of machines, told badly, against an independent integrator: the ledger must agree to the cent.

    python -m tests.campaigns.ledger_histories --histories 100000 --seed 1

A life is a random walk of provider states at AWS, Azure, Cloud Run or Docker over two days, with price changes in the middle
of hours, machines shut down without being deallocated, starts that last seconds, and deletions. It is told to the ledger
as the poller would tell it, but with repetitions, late and out of order, under keys that repeat. The judge never sees
events or intervals: it walks the true life second by second of change and charges what each provider's price page says, in
whole numbers. Prints one line of JSON; exit code 1 when any history differs by more than a thousandth of a cent.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

START = datetime(2026, 3, 28, 21, tzinfo=UTC)
SPAN = 48 * 3600
PROVIDERS = ("aws", "azure", "gcp", "docker")
# From each state, where a machine can go, and how long it stays (seconds, at most).
WALK: dict[str, tuple[tuple[str, ...], int]] = {
    "stopped": (("starting", "starting", "gone"), 9000),
    "starting": (("running", "running", "stopped"), 180),
    "running": (("stopping", "stopping", "gone", "unknown"), 20_000),
    "unknown": (("running",), 600),
    "stopping": (("stopped", "stopped_billing"), 120),
    "stopped_billing": (("starting", "stopping"), 9000),
    "gone": (("stopped",), 4000),
}


@dataclass(frozen=True)
class Life:
    """What really happened: states from moments on (seconds), hourly prices awake and asleep in hundred-millionths."""

    provider: str
    states: list[tuple[int, str]]
    prices: list[tuple[int, int, int]]
    window: tuple[int, int]


def live(dice: random.Random) -> Life:
    provider = dice.choice(PROVIDERS)
    at, state = dice.randrange(600), dice.choice(["stopped", "running"])
    states = [(at, state)]
    while at < SPAN and len(states) < 40:
        ways, longest = WALK[state]
        state = dice.choice([w for w in ways if w != "stopped_billing" or provider == "azure"])
        at += dice.choice([1, 7, dice.randrange(1, 90), dice.randrange(1, longest)])
        states.append((at, state))
    prices = [(0, dice.randrange(0, 40 * 10**8), dice.randrange(0, 10**8))]
    changes = range(dice.randrange(4))
    prices += [(dice.randrange(1, SPAN), dice.randrange(0, 40 * 10**8), dice.randrange(0, 10**8)) for _ in changes]
    left, right = sorted(dice.sample(range(SPAN), 2))
    return Life(provider, states, sorted({p[0]: p for p in prices}.values()), (left, right))


def judge(life: Life) -> Fraction:
    """Dollars in the window. AWS: `running` only, sixty seconds at least for each start. Azure: everything but
    deallocated. Cloud Run and Docker: from the order to start until they are really down. Unknown is what it was before.
    """
    billed: list[tuple[int, int, bool]] = []
    known = "gone"
    edges = [*life.states, (10 * SPAN, "end")]
    ends_at, was_on = 0, False
    for (at, state), (until, _) in pairwise(edges):
        known = known if state == "unknown" else state
        if known == "gone":
            on: bool | None = None
        elif life.provider == "aws":
            on = known == "running"
        elif life.provider == "azure":
            on = known != "stopped"
        else:
            on = known in ("starting", "running", "stopping")
        begin = max(at, ends_at)
        if on and life.provider == "aws" and not was_on:
            ends_at = begin + 60
        was_on = bool(on)
        stop = max(until, ends_at) if on else until
        if stop > begin and on is not None:
            billed.append((begin, stop, on))
    total = Fraction(0)
    for begin, stop, on in billed:
        cuts = sorted({begin, stop, *(p[0] for p in life.prices), *life.window})
        for left, right in pairwise(cuts):
            if left < max(begin, life.window[0]) or right > min(stop, life.window[1]):
                continue
            price = [p for p in life.prices if p[0] <= left][-1]
            total += Fraction(price[1] if on else price[2], 10**8) * Fraction(right - left, 3600)
    return total


def tell(life: Life, dice: random.Random) -> Decimal:
    """The same through the platform: rules of the providers, events told badly, intervals, sums."""
    from cloudnodes import rules
    from costs import ledger

    def moment(second: int) -> datetime:
        return START + timedelta(seconds=second)

    events: list[ledger.Event] = []
    phase, since = "", moment(0)
    for second, state in life.states:
        found = rules.phase_of(life.provider, state, "manual")
        if found is None or found.value == phase or (found.value == "gone" and not phase):
            continue
        at = rules.billed_until(life.provider, phase, since, moment(second))
        phase, since = found.value, at
        events.append(ledger.Event(at, len(events), phase, f"{len(events)}:{phase}"))
    told = [*events, *dice.sample(events, dice.randrange(len(events) + 1))]
    dice.shuffle(told)
    prices = [ledger.Price(moment(a), Decimal(b) / 10**8, Decimal(c) / 10**8, "test") for a, b, c in life.prices]
    dice.shuffle(prices)
    left, right = map(moment, life.window)
    total = Decimal(0)
    for span in ledger.spans(told, prices):
        part = ledger.overlap(span.start, span.end, left, right)
        if part is not None:
            total += ledger.amount(span.price, *part)
    return total


def run(histories: int, seed: int) -> dict[str, object]:
    """Judge so many histories; what differed is listed with the number that makes it again."""
    by, wrong, worst, dollars = Counter[str](), [], Fraction(0), Fraction(0)
    for number in range(histories):
        dice = random.Random(seed * 1_000_003 + number)
        life = live(dice)
        wanted, got = judge(life), Fraction(tell(life, dice))
        by[life.provider] += 1
        dollars += wanted
        worst = max(worst, abs(wanted - got))
        if abs(wanted - got) > Fraction(1, 100_000):
            wrong.append({"history": number, "provider": life.provider, "judge": float(wanted), "ledger": float(got)})
    return {
        "histories": histories,
        "by_provider": dict(by),
        "dollars": round(float(dollars), 2),
        "worst_difference": f"{float(worst):.12f}",
        "wrong": len(wrong),
        "first_wrong": wrong[:5],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.ledger_histories", description=__doc__)
    parser.add_argument("--histories", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    found = run(options.histories, options.seed)
    line = {"campaign": "ledger_histories", "seconds": round(time.monotonic() - began, 1), **found}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.exit(1 if found["wrong"] else 0)


if __name__ == "__main__":
    from bench.support import setup_django

    setup_django()
    main()
