"""A whole organization with a chain of many lines, made in PostgreSQL itself: real texts, real digests, real links."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

_ENTRIES = """INSERT INTO audit_auditentry (id, organization_id, seq, at, actor_kind, actor_id, actor_label, verb, target_kind, target_id, target_label,
 outcome, changes, detail, ip, user_agent, request_id, operation_id, digest, canonical, words)
SELECT id, org, n, at, actor_kind, actor_id, actor_label, verb, 'cloud_node', target_id, target_label, outcome, changes::jsonb, '', '203.0.113.24',
 agent, request_id, NULL, encode(sha256(convert_to(canonical, 'UTF8')), 'hex'), canonical,
 lower(actor_label || E'\\n' || verb || E'\\n' || target_label || E'\\n' || target_id || E'\\n' || request_id)
FROM (SELECT *, '{"actor_id":"' || actor_id || '","actor_kind":"' || actor_kind || '","actor_label":"' || actor_label || '","at":"' ||
  to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || '","changes":' || changes || ',"detail":"","id":"' || id ||
  '","ip":"203.0.113.24","operation_id":null,"organization":"' || org || '","outcome":"' || outcome || '","request_id":"' || request_id ||
  '","seq":' || n || ',"target_id":"' || target_id || '","target_kind":"cloud_node","target_label":"' || target_label ||
  '","user_agent":"' || agent || '","verb":"' || verb || '"}' AS canonical
 FROM (SELECT n, %s::uuid AS org, md5(n::text)::uuid AS id, %s + n * interval '1 second' AS at,
  CASE WHEN n %% 5 = 0 THEN 'user' ELSE 'system' END AS actor_kind, 'actor-' || n %% 40 AS actor_id, 'Actor ' || n %% 40 AS actor_label,
  CASE WHEN n = 70000 THEN 'budget.changed' ELSE (ARRAY['operation.requested', 'operation.succeeded', 'access.denied', 'user.signed_in'])[1 + n %% 4] END AS verb,
  'node-' || n %% 500 AS target_id, CASE WHEN n %% 250000 = 70000 THEN 'Larkspur ' || n ELSE 'Node ' || n %% 500 END AS target_label,
  CASE WHEN n %% 20011 = 0 THEN 'failed' ELSE 'success' END AS outcome, '{"state":["asleep","awake"]}' AS changes,
  'Mozilla/5.0 (X11; Linux x86_64; rv:171.0) Gecko/20100101 Firefox/171.0' AS agent, md5('r' || n) AS request_id
  FROM generate_series(1, %s) n) facts) texts"""
_LINKS = """DO $$
DECLARE previous text := repeat('0', 64); own text; line bigint := 0; e record;
BEGIN
 FOR e IN SELECT id, organization_id, digest FROM audit_auditentry ORDER BY seq LOOP
  line := line + 1;
  own := encode(sha256(convert_to(E'curfew-audit-1\\n' || e.organization_id || E'\\n' || line || E'\\n' || previous || E'\\n' || e.digest, 'UTF8')), 'hex');
  INSERT INTO audit_auditseal (organization_id, entry_id, line, prev_hash, hash) VALUES (e.organization_id, e.id, line, previous, own);
  previous := own;
 END LOOP;
 INSERT INTO audit_audithead (organization_id, seq, hash) SELECT organization_id, line, previous FROM audit_auditentry LIMIT 1;
END$$"""


def fill(lines: int) -> Any:
    """The owner of an organization whose log has that many sealed lines, one a second until a minute ago."""
    from django.db import connection

    from audit import triggers
    from core import clock
    from tests.personas import make_organization, make_person

    assert connection.vendor == "postgresql", "run under python -m tests.stack --"
    organization = make_organization("Bench")
    owner = make_person("alice", organization, "owner")
    triggers.remove(connection)
    begin = (clock.now() - timedelta(seconds=lines + 60)).replace(microsecond=0)
    with connection.cursor() as cursor:
        cursor.execute(_ENTRIES, [organization.id, begin, lines])
        cursor.execute(_LINKS)
        cursor.execute("VACUUM ANALYZE")
    triggers.install(connection)
    return owner
