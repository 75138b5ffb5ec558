"""Nobody changes or deletes a line; who does it past the triggers is found out."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction

from audit import chain, selectors, triggers, verification
from audit.models import AuditEntry, AuditHead, AuditSeal
from audit.services import make_checkpoint, record_alone, seal_organization
from tests.personas import Persona

pytestmark = pytest.mark.django_db


def write(persona: Persona, count: int = 5) -> list[AuditEntry]:
    """Sealed entries, in order."""
    made = [
        record_alone(
            actor=persona.actor,
            verb="access.denied",
            target_kind="page",
            target_label=f"page {n}",
            changes={"n": [n, n + 1]},
        )
        for n in range(count)
    ]
    seal_organization(organization_id=persona.organization.id)
    return made


def sql(statement: str, *values: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_auditentry SET outcome = 'success' WHERE target_label = 'page 2'",
        "UPDATE audit_auditentry SET digest = digest",
        "DELETE FROM audit_auditentry WHERE target_label = 'page 2'",
        "DELETE FROM audit_auditentry",
        "UPDATE audit_auditseal SET hash = hash WHERE line = 2",
        "DELETE FROM audit_auditseal WHERE line = 5",
        "UPDATE audit_auditcheckpoint SET line = 1",
        "DELETE FROM audit_auditcheckpoint",
    ],
)
def test_the_database_refuses(alice: Persona, statement: str) -> None:
    write(alice)
    make_checkpoint(organization_id=alice.organization.id)
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        sql(statement)
    assert AuditEntry.objects.for_org(alice.organization).count() == 5
    assert verification.verify_chain(organization_id=alice.organization.id).ok


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
    assert {c["organization"]: c["checked"] for c in found["chains"]} == {
        str(alice.organization.id): 5,
        str(mallory.organization.id): 2,
    }


@pytest.mark.parametrize(
    ("statement", "seq", "reason"),
    [
        ("UPDATE audit_auditentry SET actor_label = 'somebody else' WHERE target_label = 'page 2'", 3, "content"),
        ("UPDATE audit_auditentry SET changes = '{\"n\": [2, 9]}' WHERE target_label = 'page 2'", 3, "content"),
        ("UPDATE audit_auditentry SET at = '2020-01-01 00:00:00+00' WHERE target_label = 'page 0'", 1, "content"),
        ("UPDATE audit_auditentry SET seq = seq + 1 WHERE target_label = 'page 0'", 1, "content"),
        ("UPDATE audit_auditentry SET canonical = replace(canonical, 'Alice', 'Bob')", 1, "text"),
        ("UPDATE audit_auditentry SET words = '' WHERE target_label = 'page 3'", 4, "text"),
        ("DELETE FROM audit_auditentry WHERE target_label = 'page 1'", 2, "entry is missing"),
        ("DELETE FROM audit_auditseal WHERE line = 2", 2, "missing"),
        ("DELETE FROM audit_auditseal WHERE line = 1", 1, "missing"),
        ("DELETE FROM audit_auditseal WHERE line = 5", 5, "head"),
        ("UPDATE audit_auditseal SET hash = prev_hash WHERE line = 5", 5, "content"),
        ("UPDATE audit_auditseal SET prev_hash = hash WHERE line = 4", 4, "follow"),
    ],
)
def test_tampering_is_found(alice: Persona, statement: str, seq: int, reason: str) -> None:
    write(alice)
    tamper(statement)
    verdict = verification.verify_chain(organization_id=alice.organization.id)
    assert (verdict.ok, verdict.seq) == (False, seq)
    assert reason in verdict.reason
    code, text = verify("--org", str(alice.organization.id))
    assert code == 1
    assert f"broken at line {seq}" in text


def test_a_forged_line_with_a_right_hash_breaks_the_next_one(alice: Persona) -> None:
    """Whoever also recomputes the hash of the altered line is betrayed by the line after it."""
    entry = write(alice)[2]
    content = selectors.as_mapping(entry) | {"detail": "nothing to see"}
    forged, canonical = chain.digest(content), chain.canonical(content).decode()
    seal = AuditSeal.objects.for_org(alice.organization).get(line=3)
    tamper(
        "UPDATE audit_auditentry SET detail = %s, digest = %s, canonical = %s, words = %s WHERE target_label = 'page 2'",
        "nothing to see",
        forged,
        canonical,
        chain.words(content),
    )
    tamper(
        "UPDATE audit_auditseal SET hash = %s WHERE line = 3",
        chain.link(str(alice.organization.id), 3, seal.prev_hash, forged),
    )
    assert verification.verify_chain(organization_id=alice.organization.id).seq == 4


def cut(persona: Persona, line: int) -> None:
    """What a chain alone cannot tell: the newest lines and the head changed together."""
    seal = AuditSeal.objects.for_org(persona.organization).get(line=line)
    tamper("DELETE FROM audit_auditentry WHERE id IN (SELECT entry_id FROM audit_auditseal WHERE line > %s)", line)
    tamper("DELETE FROM audit_auditseal WHERE line > %s", line)
    AuditHead.objects.filter(organization_id=persona.organization.id).update(seq=line, hash=seal.hash)


def test_a_cut_chain_with_a_moved_head_verifies_short_without_a_witness(alice: Persona) -> None:
    write(alice)
    cut(alice, 4)
    assert verification.verify_chain(organization_id=alice.organization.id).checked == 4


def test_a_checkpoint_and_its_anchor_remember_what_was_cut(
    alice: Persona, django_capture_on_commit_callbacks: Any
) -> None:
    write(alice)
    with django_capture_on_commit_callbacks(execute=True):
        make_checkpoint(organization_id=alice.organization.id)
    assert verification.verify_chain(organization_id=alice.organization.id).anchored == 5
    cut(alice, 4)
    assert "an anchor says 5" in verification.verify_chain(organization_id=alice.organization.id).reason
    tamper("DELETE FROM audit_auditcheckpoint")  # the anchor alone is enough
    assert "an anchor says 5" in verification.verify_chain(organization_id=alice.organization.id).reason
    tamper("DELETE FROM audit_auditentry")
    tamper("DELETE FROM audit_auditseal")
    AuditHead.objects.all().delete()
    assert verify()[0] == 1


def test_a_forged_checkpoint_is_found(alice: Persona) -> None:
    write(alice)
    made = make_checkpoint(organization_id=alice.organization.id)
    assert made is not None
    assert make_checkpoint(organization_id=alice.organization.id) == made
    tamper("UPDATE audit_auditcheckpoint SET at = '2020-01-01 00:00:00+00'")
    assert "not signed" in verification.verify_chain(organization_id=alice.organization.id).reason


def test_what_is_altered_before_it_is_sealed_is_found(alice: Persona) -> None:
    write(alice, 2)
    record_alone(actor=alice.actor, verb="access.denied", target_label="late")
    assert verification.verify_chain(organization_id=alice.organization.id).waiting == 1
    tamper("DELETE FROM audit_auditentry WHERE target_label = 'late'")
    seal_organization(organization_id=alice.organization.id)
    verdict = verification.verify_chain(organization_id=alice.organization.id)
    assert (verdict.ok, verdict.seq, verdict.reason) == (False, 3, "its entry is missing")


def test_what_nobody_sealed_is_found(alice: Persona) -> None:
    write(alice, 2)
    record_alone(actor=alice.actor, verb="access.denied", target_label="late")
    sql("UPDATE audit_auditpending SET since = '2020-01-01 00:00:00+00'")
    assert "more than a minute" in verification.verify_chain(organization_id=alice.organization.id).reason
    sql("DELETE FROM audit_auditpending")
    assert "no place in the chain" in verification.verify_chain(organization_id=alice.organization.id).reason


def test_another_organization_is_not_touched(alice: Persona, mallory: Persona) -> None:
    write(alice)
    write(mallory)
    tamper(
        "UPDATE audit_auditentry SET detail = 'x' WHERE target_label = 'page 1' AND actor_label = %s",
        mallory.actor.label,
    )
    assert verify("--org", str(alice.organization.id))[0] == 0
    assert verify("--org", str(mallory.organization.id))[0] == 1
    assert verify()[0] == 1


def test_an_unknown_organization_is_exit_code_two(db: None) -> None:
    assert verify("--org", "00000000-0000-0000-0000-000000000000")[0] == 2
