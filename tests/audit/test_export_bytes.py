"""The CSV of PostgreSQL's own COPY and the one made in Python are the same bytes, whatever the log holds."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection

from audit import bulk, chain
from audit import services as audit
from audit.models import AuditEntry
from core.actor import Actor, ActorKind
from core.errors import InvalidInput
from tests.audit.test_append_only import tamper, write
from tests.audit.test_hostile import HOSTILE
from tests.personas import Persona

pytestmark = pytest.mark.django_db
ODD = (
    *HOSTILE,
    "",
    " ",
    "'=1",
    '"',
    '""',
    ",",
    "\\.",
    "\\N",
    "NULL",
    "a\\b",
    "\n",
    "\r\n",
    "\r",
    "\x7f",
    "=",
    "ﬀ€\U0001f600",
)


def hostile_log(persona: Persona) -> None:
    """Every odd text in every field that takes text, and values of every shape in the changes."""
    shapes: dict[str, Any] = {
        "b": [None, True],
        "a": [1, 10**30],
        "c": [1.5, -0.0],
        "detail": [{"zz": 1, "a": "ä"}, []],
        "changes": [{"changes": {}, "detail": "", "id": "x"}, {"a": ',"changes":', "changes": ["", ","]}],
    }
    for number, text in enumerate(ODD):
        audit.record_alone(
            actor=Actor(ActorKind.USER, text, text, persona.organization.id, ip=text[:45], user_agent=text),
            verb="access.denied",
            target_kind=text,
            target_id=text,
            target_label=text,
            detail=text,
            changes={**shapes, text: [text, {text: [text]}], '","detail":"': ["x", text]},
            operation_id=uuid4() if number % 2 else None,
        )
    audit.seal_organization(organization_id=persona.organization.id)


def in_python(persona: Persona) -> Iterator[bytes]:
    """What a database without COPY gives."""
    return map(bulk._as_csv, bulk.json_lines(persona.organization.id, 1, len(ODD)))


def test_both_ways_to_write_a_csv_give_the_same_bytes(alice: Persona, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "PIECE", 7)
    hostile_log(alice)
    made = b"".join(bulk.csv_rows(alice.organization.id, 1, len(ODD)))
    assert made == b"".join(in_python(alice))
    rows = list(csv.DictReader(io.StringIO(made.decode(), newline=""), fieldnames=bulk.COLUMNS))
    entries = AuditEntry.objects.for_org(alice.organization).order_by("seal__line")
    assert len(rows) == len(entries) == len(ODD)
    for row, entry in zip(rows, entries, strict=True):
        content = json.loads(entry.canonical)
        assert json.loads(row["changes"]) == content["changes"]
        for name in set(chain.FIELDS) - {"changes"}:
            wanted = "" if content[name] is None else str(content[name])
            assert row[name] == (f"'{wanted}" if wanted.startswith(bulk.FORMULA) else wanted)
            assert not row[name].startswith(bulk.FORMULA)


def test_a_hole_in_the_log_stops_either_form(alice: Persona) -> None:
    write(alice)
    tamper("DELETE FROM audit_auditentry WHERE target_label = 'page 2'")
    for rows in (bulk.csv_rows, bulk.json_lines):
        with pytest.raises(InvalidInput, match="lost entries"):
            list(rows(alice.organization.id, 1, 5))


@pytest.mark.pg
def test_postgresql_writes_its_own_rows(alice: Persona, monkeypatch: pytest.MonkeyPatch) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no COPY")
    write(alice)
    monkeypatch.setattr(bulk, "_as_csv", None)
    assert len(b"".join(bulk.csv_rows(alice.organization.id, 1, 5)).splitlines()) == 5
