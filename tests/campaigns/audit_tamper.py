"""Random tampering with a chain whose head is anchored; every one must be found.

    python -m tests.campaigns.audit_tamper --tampers 10000 --seed 1

Who tampers has the database in hands: may lift the triggers, edit, delete, reorder and insert anything, recompute every
hash, move the head, drop or rewrite checkpoints and queue. The signing key and the anchor file are out of reach.
Every tamper is made on the same anchored chain in a transaction that is rolled back afterwards. Prints one line of
JSON; exit code 1 when any tamper went unseen or the untouched chain does not verify.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

LINES = 30
Dice = random.Random


def _sql(statement: str, *values: Any) -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return int(cursor.rowcount)


def _entry_at(org: UUID, line: int) -> Any:
    from audit.models import AuditEntry

    return AuditEntry.objects.for_org(org).get(seal__line=line)


def forged_texts(content: Any) -> dict[str, str]:
    """What a careful forger also puts in order."""
    from audit import chain

    return {
        "digest": chain.digest(content),
        "canonical": chain.canonical(content).decode(),
        "words": chain.words(content),
    }


def rehash(org: UUID, start: int = 1) -> None:
    """Make digests, links and head right again from line `start` on, as the definitions say."""
    from audit import chain
    from audit.models import AuditEntry, AuditHead, AuditSeal
    from audit.selectors import as_mapping

    seals = list(AuditSeal.objects.for_org(org).order_by("line").select_related("entry"))
    previous, line = chain.GENESIS, 0
    for seal in seals:
        line += 1
        if line >= start:
            texts = forged_texts(as_mapping(seal.entry))
            own = chain.link(str(org), line, previous, texts["digest"])
            AuditEntry.objects.for_org(org).filter(pk=seal.pk).update(**texts)
            AuditSeal.objects.for_org(org).filter(pk=seal.pk).update(line=line, prev_hash=previous, hash=own)
            seal.hash = own
        previous = seal.hash
    AuditHead.objects.filter(organization_id=org).update(seq=line, hash=previous)


def edit(org: UUID, dice: Dice) -> None:
    field, value = dice.choice(
        [
            ("detail", "nothing to see"),
            ("actor_label", "Somebody Else"),
            ("outcome", "denied"),
            ("ip", "192.0.2.1"),
            ("at", "2020-01-01 00:00:00+00"),
            ("changes", '{"n": [7, 7]}'),
            ("target_id", "other"),
            ("seq", 5),
            ("verb", "user.signed_in"),
            ("request_id", "req-forged"),
            ("actor_kind", "agent"),
            ("canonical", "{}"),
            ("words", "nobody"),
        ]
    )
    _sql(
        f"UPDATE audit_auditentry SET {field} = %s WHERE id = %s",
        value,
        _key(_entry_at(org, dice.randint(1, LINES)).pk),
    )


def edit_and_rehash_line(org: UUID, dice: Dice) -> None:
    from audit import chain
    from audit.models import AuditEntry, AuditSeal
    from audit.selectors import as_mapping

    entry = _entry_at(org, dice.randint(1, LINES))
    entry.detail = f"forged {dice.random()}"
    texts = forged_texts(as_mapping(entry))
    AuditEntry.objects.for_org(org).filter(pk=entry.pk).update(detail=entry.detail, **texts)
    seal = AuditSeal.objects.for_org(org).get(pk=entry.pk)
    AuditSeal.objects.for_org(org).filter(pk=entry.pk).update(
        hash=chain.link(str(org), seal.line, seal.prev_hash, texts["digest"])
    )


def edit_and_rehash_all(org: UUID, dice: Dice) -> None:
    edit_and_rehash_line(org, dice)
    rehash(org)
    _forget_checkpoints(org, dice)


def delete(org: UUID, dice: Dice) -> None:
    key = _key(_entry_at(org, dice.randint(1, LINES)).pk)
    which = dice.choice(["entry", "seal", "both"])
    if which != "seal":
        _sql("DELETE FROM audit_auditentry WHERE id = %s", key)
    if which != "entry":
        _sql("DELETE FROM audit_auditseal WHERE entry_id = %s", key)


def delete_and_rehash(org: UUID, dice: Dice) -> None:
    key = _key(_entry_at(org, dice.randint(1, LINES)).pk)
    _sql("DELETE FROM audit_auditentry WHERE id = %s", key)
    _sql("DELETE FROM audit_auditseal WHERE entry_id = %s", key)
    rehash(org)
    _forget_checkpoints(org, dice)


def reorder(org: UUID, dice: Dice) -> None:
    from audit.models import AuditSeal

    first, second = (AuditSeal.objects.for_org(org).get(line=n) for n in dice.sample(range(1, LINES + 1), 2))
    one, two = (first.line, first.prev_hash, first.hash), (second.line, second.prev_hash, second.hash)
    for seal, line in ((first, 10_000), (second, one[0]), (first, two[0])):
        AuditSeal.objects.for_org(org).filter(pk=seal.pk).update(line=line)
    if dice.random() < 0.5:  # the hashes stay with the places
        AuditSeal.objects.for_org(org).filter(pk=first.pk).update(prev_hash=two[1], hash=two[2])
        AuditSeal.objects.for_org(org).filter(pk=second.pk).update(prev_hash=one[1], hash=one[2])
    if dice.random() < 0.3:
        rehash(org)
        _forget_checkpoints(org, dice)


def cut_tail(org: UUID, dice: Dice) -> None:
    from audit.models import AuditHead, AuditSeal

    line = dice.randint(1, LINES - 1)
    _sql("DELETE FROM audit_auditentry WHERE id IN (SELECT entry_id FROM audit_auditseal WHERE line > %s)", line)
    _sql("DELETE FROM audit_auditseal WHERE line > %s", line)
    AuditHead.objects.filter(organization_id=org).update(
        seq=line, hash=AuditSeal.objects.for_org(org).get(line=line).hash
    )
    _sql("DELETE FROM audit_auditcheckpoint WHERE line > %s", line)


def delete_chain(org: UUID, dice: Dice) -> None:
    from audit.models import AuditHead

    for table in ("audit_auditentry", "audit_auditseal", "audit_auditcheckpoint", "audit_auditpending"):
        _sql(f"DELETE FROM {table}")
    if dice.random() < 0.5:
        AuditHead.objects.filter(organization_id=org).delete()
    else:
        AuditHead.objects.filter(organization_id=org).update(seq=0, hash="0" * 64)


def insert(org: UUID, dice: Dice) -> None:
    from audit.models import AuditEntry, AuditSeal

    entry = _entry_at(org, dice.randint(1, LINES))
    entry.pk, entry.detail = uuid4(), "never happened"
    entry.save(force_insert=True)
    assert AuditEntry.objects.for_org(org).filter(pk=entry.pk).exists()
    _sql("DELETE FROM audit_auditpending")
    if dice.random() < 0.5:
        line = dice.randint(1, LINES)
        for seal in AuditSeal.objects.for_org(org).filter(line__gte=line).order_by("-line"):
            AuditSeal.objects.for_org(org).filter(pk=seal.pk).update(line=seal.line + 1)
        AuditSeal.objects.for_org(org).create(
            organization_id=org, entry_id=entry.pk, line=line, prev_hash="0" * 64, hash="0" * 64
        )
        rehash(org)
        _forget_checkpoints(org, dice)


def forge_purge(org: UUID, dice: Dice) -> None:
    from audit.models import AuditPurge, AuditSeal
    from core import clock

    seal = AuditSeal.objects.for_org(org).get(line=dice.randint(1, LINES - 1))
    AuditPurge.objects.for_org(org).create(
        organization_id=org,
        line=seal.line,
        hash=seal.hash,
        at=clock.now(),
        key_id="a1",
        signature=f"{dice.getrandbits(512):0128x}",
    )
    _sql("DELETE FROM audit_auditentry WHERE id IN (SELECT entry_id FROM audit_auditseal WHERE line <= %s)", seal.line)
    _sql("DELETE FROM audit_auditseal WHERE line <= %s", seal.line)


def forge_checkpoint(org: UUID, dice: Dice) -> None:
    field, value = dice.choice(
        [
            ("hash", f"{dice.getrandbits(256):064x}"),
            ("line", dice.randint(1, LINES - 1)),
            ("signature", f"{dice.getrandbits(512):0128x}"),
            ("key_id", "b2"),
        ]
    )
    _sql(f"UPDATE audit_auditcheckpoint SET {field} = %s", value)


def _forget_checkpoints(org: UUID, dice: Dice) -> None:
    if dice.random() < 0.7:
        _sql("DELETE FROM audit_auditcheckpoint")


def _key(value: UUID) -> Any:
    from django.db import connection

    return value.hex if connection.vendor == "sqlite" else value


TAMPERS: tuple[Callable[[UUID, Dice], None], ...] = (
    edit,
    edit_and_rehash_line,
    edit_and_rehash_all,
    delete,
    delete_and_rehash,
    reorder,
    cut_tail,
    delete_chain,
    insert,
    forge_purge,
    forge_checkpoint,
)


def build() -> UUID:
    """A sealed chain of LINES lines with its head signed and anchored; must run where commits are real."""
    from audit import services
    from core.actor import Actor
    from tests.personas import make_organization

    organization = make_organization("Tampered")
    actor = Actor.system("campaign", organization.id)
    for n in range(LINES):
        services.record_alone(
            actor=actor, verb="access.denied", target_kind="page", target_id=str(n), changes={"n": [n, n + 1]}
        )
    services.seal_organization(organization_id=organization.id)
    services.make_checkpoint(organization_id=organization.id)
    return UUID(str(organization.id))


def campaign(org: UUID, tampers: int, seed: int) -> dict[str, Any]:
    """Tamper and verify; `missed` lists what went unseen."""
    from django.db import connection, transaction

    from audit import triggers, verification

    untouched = verification.verify_chain(organization_id=org)
    found: Counter[str] = Counter()
    missed: list[str] = []
    triggers.remove(connection)
    try:
        for number in range(tampers):
            dice = random.Random(f"{seed}.{number}")
            tamper = dice.choice(TAMPERS)
            with transaction.atomic():
                tamper(org, dice)
                verdict = verification.verify_chain(organization_id=org)
                transaction.set_rollback(True)
            if verdict.ok:
                missed.append(f"{tamper.__name__} {seed}.{number}")
            else:
                found[tamper.__name__] += 1
    finally:
        triggers.install(connection)
    return {
        "tampers": tampers,
        "seed": seed,
        "found": sum(found.values()),
        "by_kind": dict(sorted(found.items())),
        "missed": missed,
        "untouched_ok": untouched.ok and untouched.anchored == LINES,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.audit_tamper",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tampers", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    from bench.support import setup_django

    setup_django(CURFEW_NO_WORKER="1")
    from core import live

    live._send = lambda group, message: None  # type: ignore[assignment]
    began = time.monotonic()
    result = campaign(build(), options.tampers, options.seed)
    sys.stdout.write(json.dumps({**result, "seconds": round(time.monotonic() - began, 1)}) + "\n")
    return 1 if result["missed"] or not result["untouched_ok"] else 0


if __name__ == "__main__":
    sys.exit(main())
