"""The audit page, its filters and the export over a million lines.

    python -m tests.stack -- python -m bench.audit_pages --lines 1000000

Lines are made by one INSERT in the database (their hashes are placeholders: what is measured is reading). Each request
is timed whole, middleware and rendering included, in this process. The export is drained as the server would send it,
beside PostgreSQL's own COPY of the same rows; peak memory is that of this process.
"""

from __future__ import annotations

import argparse
import resource
import time
from datetime import timedelta
from typing import Any

from bench.support import report, setup_django, summary

ENTRIES = """INSERT INTO audit_auditentry (id, organization_id, seq, at, actor_kind, actor_id, actor_label, verb, target_kind, target_id, target_label,
 outcome, changes, detail, ip, user_agent, request_id, operation_id, digest)
 SELECT md5(n::text)::uuid, %s, n, %s + n * interval '1 second', CASE WHEN n %% 5 = 0 THEN 'user' ELSE 'system' END, 'actor-' || n %% 40, 'Actor ' || n %% 40,
 (ARRAY['operation.requested', 'operation.succeeded', 'access.denied', 'user.signed_in', 'budget.changed'])[1 + n %% 5], 'cloud_node', 'node-' || n %% 500,
 'Node ' || n %% 500, CASE WHEN n %% 97 = 0 THEN 'failed' ELSE 'success' END, '{"state": ["asleep", "awake"]}', '', '203.0.113.24',
 'Mozilla/5.0 (X11; Linux x86_64; rv:171.0) Gecko/20100101 Firefox/171.0', md5('r' || n), NULL, repeat('0', 64) FROM generate_series(1, %s) n"""
SEALS = """INSERT INTO audit_auditseal (organization_id, entry_id, line, prev_hash, hash)
 SELECT %s, md5(n::text)::uuid, n, repeat('0', 64), repeat('0', 64) FROM generate_series(1, %s) n"""
QUERIES = {
    "newest": "",
    "deep": "?before={deep}",
    "by verb": "?verb=access.denied",
    "by target": "?target=cloud_node:node-77",
    "failed, 7 days": "?outcome=failed&since=7d",
    "one request": "?request={request}",
    "text, common": "?q=node",
    "text, rare": "?q=nowhere-to-be-found",
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

    from core import live

    live._send = lambda group, message: None  # type: ignore[assignment]
    settings.SECURE_SSL_REDIRECT = False
    owner = fill(options.lines)
    client = Client()
    client.force_login(owner.user, backend="allauth.account.auth_backends.AuthenticationBackend")
    pages = {name: measure(client, owner, query, options) for name, query in QUERIES.items()}
    copied = copy_seconds(connection)
    began = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = export(owner)
    seconds = time.perf_counter() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    report(
        "audit_pages",
        database=connection.vendor,
        lines=options.lines,
        page_ms=pages,
        export_s=round(seconds, 1),
        export_mb=round(size / 1e6),
        copy_s=round(copied, 1),
        ratio=round(seconds / copied, 1),
        peak_grew_mb=round(grown),
    )


def fill(lines: int) -> Any:
    from django.db import connection

    from audit import triggers
    from audit.models import AuditHead
    from core import clock
    from tests.personas import make_organization, make_person

    organization = make_organization("Bench")
    owner = make_person("alice", organization, "owner")
    triggers.remove(connection)
    with connection.cursor() as cursor:
        cursor.execute(ENTRIES, [organization.id, clock.now() - timedelta(seconds=lines + 60), lines])
        cursor.execute(SEALS, [organization.id, lines])
        cursor.execute("ANALYZE")
    AuditHead.objects.create(organization=organization, seq=lines)
    triggers.install(connection)
    return owner


def measure(client: Any, owner: Any, query: str, options: argparse.Namespace) -> dict[str, float]:
    from audit import selectors
    from audit.models import AuditEntry

    middle = AuditEntry.objects.for_org(owner.organization).get(seal__line=options.lines // 2)
    path = "/audit/" + query.format(deep=selectors.cursor_of(middle), request=middle.request_id)
    spent = []
    for _ in range(options.repeats):
        began = time.perf_counter()
        answer = client.get(path)
        spent.append((time.perf_counter() - began) * 1000)
        assert answer.status_code == 200, answer.status_code
    return summary(spent)


def copy_seconds(connection: Any) -> float:
    began = time.perf_counter()
    with (
        connection.cursor() as cursor,
        cursor.cursor.copy(
            "COPY (SELECT s.line, s.prev_hash, s.hash, e.* FROM audit_auditseal s JOIN audit_auditentry e ON e.id = s.entry_id ORDER BY s.line) TO STDOUT"
        ) as copy,
    ):
        for _ in copy:
            pass
    return time.perf_counter() - began


def export(owner: Any) -> int:
    from audit import services

    return sum(
        len(piece) for piece in services.start_export(actor=owner.actor, file_format="jsonl", period="all").chunks
    )


if __name__ == "__main__":
    main()
