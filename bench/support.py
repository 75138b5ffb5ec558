"""What every benchmark needs: Django on a database of its own, percentiles, one line of JSON at the end."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def setup_django(**env: str) -> None:
    """Fresh data folder and keys, migrated; PostgreSQL and Redis when DATABASE_URL and REDIS_URL are set."""
    sys.path.insert(0, str(ROOT))
    os.environ.update(env)
    os.environ.setdefault("CURFEW_DATA", tempfile.mkdtemp(prefix="curfew-bench-"))
    os.environ.setdefault("CURFEW_LOG_LEVEL", "ERROR")
    from tests import env as _test_environment  # noqa: F401  sets keys where none are set
    from tests import prepared

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    if not os.environ.get("DATABASE_URL"):
        prepared.put_into(Path(os.environ["CURFEW_DATA"]))
    django.setup()
    from django.db import connection

    if connection.vendor == "postgresql" and not connection.introspection.table_names():
        prepared.fill_postgres(os.environ["DATABASE_URL"], str(connection.settings_dict["NAME"]))


def percentile(values: Sequence[float], p: float) -> float:
    """Nearest-rank percentile of a non-empty sequence."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(p / 100 * len(ordered)) - 1)]


def summary(values: Sequence[float]) -> dict[str, float]:
    """Count, median, p95, p99 and maximum."""
    return {
        "n": len(values),
        "p50": round(percentile(values, 50), 4),
        "p95": round(percentile(values, 95), 4),
        "p99": round(percentile(values, 99), 4),
        "max": round(max(values), 4),
    }


def report(name: str, **figures: object) -> None:
    """Print one JSON line with the machine's cores and its load (others' work included) over the last minute."""
    machine = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1), "python": platform.python_version()}
    print(json.dumps({"bench": name, **machine, **figures}))
