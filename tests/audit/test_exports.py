"""Exports: what leaves is whole, verifiable by anybody, and harmless in a spreadsheet. Retention keeps it so."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.core.management import CommandError, call_command
from django.db import DatabaseError, transaction

from audit import services, verification
from audit.models import AuditEntry, AuditExport, AuditPurge, AuditSeal
from audit.verifier import audit_verify
from core import clock
from core.errors import Forbidden, InvalidInput
from tests.audit.test_append_only import sql, tamper, write
from tests.personas import Persona

VERIFIER = Path(audit_verify.__file__)
pytestmark = pytest.mark.django_db


def export(persona: Persona, folder: Path, kind: str = "jsonl", **asked: Any) -> Path:
    path = folder / f"log.{kind}"
    call_command("export_audit_log", str(path), org=persona.organization.id, format=kind, **asked)
    return path


def run(path: Path, *more: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-I", str(VERIFIER), str(path), *more], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_an_auditor_can_verify_without_us(alice: Persona, tmp_path: Path) -> None:
    write(alice, 7)
    path = export(alice, tmp_path)
    code, words = run(path)
    assert code == 0, words
    assert "8 lines" in words  # the export itself is the eighth
    sidecar = json.loads(Path(f"{path}.sidecar.json").read_text())
    assert run(path, "--key", sidecar["public_key"])[0] == 0
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()
    assert run(path, "--key", other) == (1, "BROKEN: the sidecar is not signed by the key\n")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: [*lines[:2], lines[2].replace(b"page 2", b"page 9"), *lines[3:]], "line 3: its content"),
        (lambda lines: [*lines[:2], *lines[3:]], "line 3 is missing"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "line 1 is missing"),
        (lambda lines: lines[:-1], "ends after"),
        (lambda lines: lines[1:], "line 1 is missing"),
        (lambda lines: [*lines, lines[-1]], "is missing"),
        (lambda lines: [lines[0].replace(b'"entry":{', b'"entry":{ '), *lines[1:]], "line 1: its content"),
        (lambda lines: [lines[0].replace(b'{"line"', b'{ "line"'), *lines[1:]], "line 1: it does not have the form"),
    ],
)
def test_a_changed_file_is_found(alice: Persona, tmp_path: Path, change: Any, words: str) -> None:
    write(alice)
    path = export(alice, tmp_path)
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    code, said = run(path)
    assert code == 1
    assert words in said


def test_anchors_kept_elsewhere_show_a_cut(
    alice: Persona, tmp_path: Path, anchors_of_this_test: Path, django_capture_on_commit_callbacks: Any
) -> None:
    write(alice)
    path = export(alice, tmp_path)
    write(alice)
    with django_capture_on_commit_callbacks(execute=True):
        services.make_checkpoint(organization_id=alice.organization.id)
    kept = anchors_of_this_test / f"{alice.organization.id}.jsonl"
    code, said = run(path, "--anchors", str(kept))
    assert code == 1
    assert "lines were cut off" in said


def test_the_plain_python_signature_check_agrees_with_the_library() -> None:
    for number in range(12):
        key = Ed25519PrivateKey.from_private_bytes(bytes([number + 1]) * 32)
        message = b"m" * number
        public, signature = key.public_key().public_bytes_raw(), key.sign(message)
        assert audit_verify.is_signed(public, message, signature)
        assert not audit_verify.is_signed(public, message + b"x", signature)
        for bit in (0, 200, 300, 511):
            wrong = bytearray(signature)
            wrong[bit // 8] ^= 1 << bit % 8
            assert not audit_verify.is_signed(public, message, bytes(wrong))
        high = signature[:32] + (int.from_bytes(signature[32:], "little") + audit_verify.ORDER).to_bytes(32, "little")
        assert not audit_verify.is_signed(public, message, high)


@pytest.mark.parametrize("label", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1+1"])
def test_no_cell_is_a_formula(alice: Persona, tmp_path: Path, label: str) -> None:
    services.record_alone(
        actor=alice.actor, verb="access.denied", target_kind="page", target_label=label, detail='quo"te, comma\nline'
    )
    path = export(alice, tmp_path, "csv")
    with path.open(newline="", encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    assert row["target_label"] == f"'{label}"
    assert row["detail"] == 'quo"te, comma\nline'
    assert run(path)[0] == 0
    path.write_bytes(path.read_bytes() + b"x")
    assert run(path)[0] == 1


def test_periods_are_pieces_of_the_chain(alice: Persona, tmp_path: Path) -> None:
    now = clock.now()
    for days in (100, 60, 20, 5):
        with clock.at(now - timedelta(days=days)):
            write(alice, 2)
    path = export(alice, tmp_path, period="30d")
    assert [json.loads(line)["line"] for line in path.read_bytes().splitlines()] == [5, 6, 7, 8, 9]
    assert run(path)[0] == 0
    custom = export(alice, tmp_path, period="custom", start=(now - timedelta(days=70)), end=(now - timedelta(days=10)))
    assert [json.loads(line)["line"] for line in custom.read_bytes().splitlines()] == [3, 4, 5, 6]
    assert run(custom)[0] == 0


def test_who_may_and_what_makes_no_sense(alice: Persona, bob: Persona, tmp_path: Path) -> None:
    write(alice)
    with pytest.raises(Forbidden):
        services.start_export(actor=bob.actor, file_format="csv")
    for asked in (
        {"file_format": "xls"},
        {"file_format": "csv", "period": "ever"},
        {"file_format": "csv", "period": "custom"},
    ):
        with pytest.raises(InvalidInput):
            services.start_export(actor=alice.actor, **asked)
    with pytest.raises(CommandError):
        call_command("export_audit_log", str(tmp_path / "x"), org="00000000-0000-0000-0000-000000000000")


def test_an_export_is_recorded_before_its_first_byte(alice: Persona) -> None:
    write(alice)
    services.start_export(actor=alice.actor, file_format="csv")
    assert AuditEntry.objects.for_org(alice.organization).filter(verb="audit.exported").count() == 1
    assert AuditExport.objects.for_org(alice.organization).get().sidecar is None


@pytest.fixture
def old_log(alice: Persona, django_capture_on_commit_callbacks: Any) -> Persona:
    """Ten lines of last year under an anchored checkpoint, and three of today."""
    with clock.at(clock.now() - timedelta(days=400)), django_capture_on_commit_callbacks(execute=True):
        write(alice, 10)
        services.make_checkpoint(organization_id=alice.organization.id)
    write(alice, 3)
    return alice


def test_old_lines_go_and_the_chain_still_verifies(old_log: Persona, tmp_path: Path) -> None:
    org = old_log.organization.id
    services.change_settings(actor=old_log.actor, retention_days=365, legal_hold=False)
    assert services.purge_all() == 10
    services.seal_organization(organization_id=org)
    verdict = verification.verify_chain(organization_id=org)
    assert (verdict.ok, verdict.checked) == (True, 5), verdict  # three, the settings, the purge
    assert AuditSeal.objects.for_org(org).order_by("line").first().line == 11
    assert services.purge_all() == 0
    assert run(export(old_log, tmp_path))[0] == 0
    tamper("UPDATE audit_auditpurge SET line = 11")
    assert not verification.verify_chain(organization_id=org).ok


def test_a_purge_that_nobody_signed_is_found(old_log: Persona) -> None:
    org = old_log.organization.id
    seal = AuditSeal.objects.for_org(org).get(line=12)
    AuditPurge.objects.for_org(org).create(
        organization_id=org, line=12, hash=seal.hash, at=clock.now(), key_id="a1", signature="00" * 64
    )
    sql("DELETE FROM audit_auditentry WHERE id IN (SELECT entry_id FROM audit_auditseal WHERE line <= 12)")
    sql("DELETE FROM audit_auditseal WHERE line <= 12")
    assert "not signed" in verification.verify_chain(organization_id=org).reason


def test_nothing_goes_under_a_hold_without_an_anchor_or_before_its_time(
    old_log: Persona, anchors_of_this_test: Path
) -> None:
    actor = old_log.actor
    services.change_settings(actor=actor, retention_days=365, legal_hold=True, hold_reason="case 7")
    assert services.purge_all() == services.purge(organization_id=old_log.organization.id) == 0
    services.change_settings(actor=actor, retention_days=500, legal_hold=False)
    assert services.purge_all() == 0
    next(anchors_of_this_test.glob("*.jsonl")).unlink()
    services.change_settings(actor=actor, retention_days=365, legal_hold=False)
    assert services.purge_all() == 0
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        sql("DELETE FROM audit_auditseal WHERE line = 1")


def test_settings_are_checked(alice: Persona, bob: Persona) -> None:
    with pytest.raises(Forbidden):
        services.change_settings(actor=bob.actor, retention_days=None, legal_hold=False)
    for asked in ({"retention_days": 29}, {"retention_days": 3651}, {"retention_days": 30, "legal_hold": True}):
        with pytest.raises(InvalidInput):
            services.change_settings(actor=alice.actor, **{"legal_hold": False, **asked})
