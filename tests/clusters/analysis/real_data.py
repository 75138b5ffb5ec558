"""Real traces and price lists, read from a folder outside the project; tests skip where it is absent."""

from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("CURFEW_SHARED_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data")


def rows(name: str) -> list[dict[str, str]]:
    """The rows of one file, such as `eol_dates/ref/release_cycles.csv.gz`; skips the test when it is not there."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"no real data at {path}; set CURFEW_SHARED_DATA to the folder that holds it")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
