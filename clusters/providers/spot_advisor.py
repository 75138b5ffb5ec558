"""The Spot Instance Advisor's bands: how often machines of a type are interrupted in a region, as AWS publishes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from core.providers import BadAnswer, Unreachable

URL = "https://spot-bid-advisor.s3.amazonaws.com/spot-advisor-data.json"
READ_SECONDS, CONNECT_SECONDS = 30.0, 5.0
LARGEST = 64 * 1024 * 1024
BANDS = range(5)


@dataclass(frozen=True, slots=True)
class Band:
    """`band` is 0 (less than 5 % a month) to 4 (more than 20 %), for Linux."""

    region: str
    instance_type: str
    band: int


def fetch(url: str = URL) -> list[Band]:
    """Read the published file. Raises Unreachable, BadAnswer."""
    import httpx  # loads its command line, too

    try:
        with httpx.Client(timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)) as client:
            answer = client.get(url)
            answer.raise_for_status()
    except httpx.HTTPStatusError as refused:
        raise BadAnswer(f"The Spot Advisor answered {refused.response.status_code}.") from None
    except httpx.HTTPError as lost:
        raise Unreachable("The Spot Advisor cannot be reached.", detail=type(lost).__name__) from None
    return parse(answer.text)


def parse(text: str) -> list[Band]:
    """The bands of a file. Raises BadAnswer for one that holds none."""
    if len(text) > LARGEST:
        raise BadAnswer("The Spot Advisor's file is too large.")
    try:
        found = list(_bands(json.loads(text)))
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise BadAnswer("The Spot Advisor's file cannot be read.") from None
    if not found:
        raise BadAnswer("The Spot Advisor's file holds no bands.")
    return found


def _bands(told: Any) -> Iterator[Band]:
    for region, systems in told["spot_advisor"].items() if "spot_advisor" in told else ():
        for kind, facts in systems.get("Linux", {}).items():
            band = facts.get("r")
            if isinstance(band, int) and band in BANDS and len(region) <= 60 and len(kind) <= 60:
                yield Band(region, kind, band)
