"""Nobody changes or deletes a line; who does it past the triggers is found out."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction

from audit import selectors, triggers
from audit.models import AuditEntry, AuditHead
from audit.services import record_alone
from tests.personas import Persona

pytestmark = pytest.mark.django_db


def write(persona: Persona, count: int = 5) -> list[AuditEntry]:
    return [record_alone(actor=persona.actor, verb="access.denied", target_kind="page", target_label=f"page {n}", changes={"n": [n, n + 1]}) for n in range(count)]


def sql(statement: str, *values: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_auditentry SET outcome = 'success' WHERE seq = 2",
        "UPDATE audit_auditentry SET hash = hash",
        "DELETE FROM audit_auditentry WHERE seq = 2",
        "DELETE FROM audit_auditentry",
    ],
)
def test_the_database_refuses(alice: Persona, statement: str) -> None:
    write(alice)
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        sql(statement)
    assert AuditEntry.objects.for_org(alice.organization).count() == 5
    assert selectors.verify_chain(organization_id=alice.organization.id).ok


def test_the_orm_is_refused_too(alice: Persona) -> None:
    entry = write(alice)[0]
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        AuditEntry.objects.for_org(alice.organization).update(detail="it was not me")
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        AuditEntry.objects.for_org(alice.organization).filter(id=entry.id).delete()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        alice.organization.delete()


@pytest.mark.pg
def test_truncate_is_refused(alice: Persona) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no TRUNCATE")
    write(alice)
    connection.check_constraints()  # what the inserts have deferred would be the reason otherwise
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        sql("TRUNCATE audit_auditentry")


def tamper(statement: str, *values: object) -> None:
    """What somebody with the database in hands can do: lift the triggers first."""
    triggers.remove(connection)
    sql(statement, *values)
    triggers.install(connection)


def verify(*arguments: str) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command("verify_audit_log", *arguments, stdout=out)
    except CommandError as broken:
        return broken.returncode, out.getvalue()
    return 0, out.getvalue()


def test_an_untouched_chain_holds(alice: Persona, mallory: Persona) -> None:
    write(alice)
    write(mallory, 2)
    code, text = verify("--json")
    found = json.loads(text)
    assert code == 0
    assert found["ok"] is True
    assert {c["organization"]: c["checked"] for c in found["chains"]} == {str(alice.organization.id): 5, str(mallory.organization.id): 2}


@pytest.mark.parametrize(
    ("statement", "seq", "reason"),
    [
        ("UPDATE audit_auditentry SET actor_label = 'somebody else' WHERE seq = 3", 3, "content"),
        ("UPDATE audit_auditentry SET changes = '{\"n\": [2, 9]}' WHERE seq = 3", 3, "content"),
        ("UPDATE audit_auditentry SET at = '2020-01-01 00:00:00+00' WHERE seq = 1", 1, "content"),
        ("DELETE FROM audit_auditentry WHERE seq = 2", 2, "missing"),
        ("DELETE FROM audit_auditentry WHERE seq = 1", 1, "missing"),
        ("DELETE FROM audit_auditentry WHERE seq = 5", 5, "head"),
        ("UPDATE audit_auditentry SET hash = prev_hash WHERE seq = 5", 5, "content"),
        ("UPDATE audit_auditentry SET prev_hash = hash WHERE seq = 4", 4, "follow"),
    ],
)
def test_tampering_is_found(alice: Persona, statement: str, seq: int, reason: str) -> None:
    write(alice)
    tamper(statement)
    verdict = selectors.verify_chain(organization_id=alice.organization.id)
    assert (verdict.ok, verdict.seq) == (False, seq)
    assert reason in verdict.reason
    code, text = verify("--org", str(alice.organization.id))
    assert code == 1
    assert f"broken at line {seq}" in text


def test_a_forged_line_with_a_right_hash_breaks_the_next_one(alice: Persona) -> None:
    """Whoever also recomputes the hash of the altered line is betrayed by the line after it."""
    entry = write(alice)[2]
    forged = selectors.as_mapping(entry) | {"detail": "nothing to see"}
    from audit.chain import entry_hash

    tamper("UPDATE audit_auditentry SET detail = %s, hash = %s WHERE seq = 3", "nothing to see", entry_hash(forged))
    assert selectors.verify_chain(organization_id=alice.organization.id).seq == 4


def test_a_cut_chain_with_a_moved_head_verifies_short(alice: Persona) -> None:
    """What a chain alone cannot tell: the newest lines and the head changed together. Exports are the witness."""
    entries = write(alice)
    tamper("DELETE FROM audit_auditentry WHERE seq = 5")
    AuditHead.objects.filter(organization_id=alice.organization.id).update(seq=4, hash=entries[3].hash)
    assert selectors.verify_chain(organization_id=alice.organization.id).checked == 4


def test_another_organization_is_not_touched(alice: Persona, mallory: Persona) -> None:
    write(alice)
    write(mallory)
    tamper("UPDATE audit_auditentry SET detail = 'x' WHERE seq = 2 AND actor_label = %s", mallory.actor.label)
    assert verify("--org", str(alice.organization.id))[0] == 0
    assert verify("--org", str(mallory.organization.id))[0] == 1
    assert verify()[0] == 1


def test_an_unknown_organization_is_exit_code_two(db: None) -> None:
    assert verify("--org", "00000000-0000-0000-0000-000000000000")[0] == 2
