"""The audit page and its filters over a million lines.

    python -m tests.stack -- python -m bench.audit_pages --lines 1000000

Each request is timed whole, middleware and rendering included, in this process; `cpu_p50` is the processor time of
this process alone, without PostgreSQL's.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from bench.support import report, setup_django, summary

QUERIES = {
    "newest": "",
    "deep": "?before={deep}",
    "by verb": "?verb=access.denied",
    "by target": "?target=cloud_node:node-77",
    "failed, 7 days": "?outcome=failed&since=7d",
    "one request": "?request={request}",
    "text, common": "?q=node",
    "text, none": "?q=nowhere-to-be-found",
    "text, four lines": "?q=larkspur",
    "text, 1 in 500": "?q=node-77",
    "one verb, one line": "?verb=budget.changed",
    "failed, 1 in 20,000": "?outcome=failed",
    "nobody": "?actor=nobody",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.audit_pages", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=12)
    options = parser.parse_args()
    setup_django(CURFEW_NO_WORKER="1", CURFEW_STATIC_FROM_SOURCE="1")
    from django.conf import settings
    from django.db import connection
    from django.test import Client

    from bench.audit_fill import fill
    from core import live

    live._send = lambda group, message: None  # type: ignore[assignment]
    settings.SECURE_SSL_REDIRECT = False
    owner = fill(options.lines)
    client = Client()
    client.force_login(owner.user)
    pages = {name: measure(client, owner, query, options) for name, query in QUERIES.items()}
    report(
        "audit_pages",
        database=connection.vendor,
        lines=options.lines,
        page_ms=pages,
    )


def measure(client: Any, owner: Any, query: str, options: argparse.Namespace) -> dict[str, float]:
    from audit import selectors
    from audit.models import AuditEntry

    middle = AuditEntry.objects.for_org(owner.organization).get(seal__line=options.lines // 2)
    path = "/audit/" + query.format(deep=selectors.cursor_of(middle), request=middle.request_id)
    spent, cpu = [], []
    for _ in range(options.repeats):
        began, used = time.perf_counter(), time.process_time()
        answer = client.get(path)
        spent.append((time.perf_counter() - began) * 1000)
        cpu.append((time.process_time() - used) * 1000)
        assert answer.status_code == 200, answer.status_code
    return {**summary(spent), "cpu_p50": summary(cpu)["p50"]}


if __name__ == "__main__":
    main()
