"""Checking a chain: every line follows from the one before it, and nothing outside remembers it otherwise.

Witnesses are the head, signed checkpoints in the database, and the anchors outside. Entries that wait for their seal
are counted; one that waits longer than a minute, or that nobody queued, is a finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef

from audit import anchor_places, anchors, chain, signing
from audit.models import AuditCheckpoint, AuditEntry, AuditHead, AuditPending, AuditPurge, AuditSeal
from audit.selectors import canonical_form, iso
from core import clock

UNSEALED_FOR = timedelta(minutes=1)
CHUNK = 5000
_CONTENT = [name for name in chain.FIELDS if name not in {"id", "organization"}]
_TEXTS = ("canonical", "words")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check of an organization's chain found. `seq` is the first broken line, `reason` says how."""

    organization_id: UUID
    checked: int
    ok: bool
    seq: int | None = None
    reason: str = ""
    entry_id: UUID | None = None
    waiting: int = 0
    anchored: int = 0
    unread: str = ""
    at: datetime = field(default_factory=clock.now)


@dataclass(frozen=True, slots=True)
class Line:
    """One sealed line as it stands in the database; `content` is None when the entry is gone.

    `content` is read from the columns; `canonical` and `words` are the texts that exports and the search use.
    """

    line: int
    prev_hash: str
    hash: str
    entry_id: UUID
    content: dict[str, Any] | None
    canonical: str = ""
    words: str = ""


@dataclass(frozen=True, slots=True)
class Witness:
    """Somebody who remembers the hash of a line."""

    line: int
    hash: str
    who: str


def organizations_with_chains() -> list[UUID]:
    """Ids of the organizations that have a log or an anchor of one."""
    heads = AuditHead.objects.values_list("organization_id", flat=True)
    return sorted({*heads, *anchors.organizations(), *anchor_places.organizations()})


def verify_chain(*, organization_id: UUID) -> Verdict:
    """Recompute an organization's chain from its first kept line to its head, some thousand lines in memory at a time."""
    head = AuditHead.objects.filter(organization_id=organization_id).first()
    start, purge_reason = _start(organization_id)
    remembered, signature_reason = _witnesses(organization_id, start[0])
    away, unread = anchor_places.read_back(organization_id)
    remembered += [Witness(a.line, a.hash, "an anchor") for a in away if a.line >= start[0]]
    if head is not None:
        remembered.append(Witness(head.seq, head.hash, "its head"))
    verdict = judge(organization_id, lines_between(organization_id, start[0]), start, remembered)
    if verdict.ok:
        reason = purge_reason or signature_reason or _unsealed(organization_id)
        if reason:
            return Verdict(
                organization_id, verdict.checked, ok=False, seq=verdict.checked + start[0] + 1, reason=reason
            )
    waiting = AuditPending.objects.for_org(organization_id).count()
    anchored = max((w.line for w in remembered if w.who == "an anchor"), default=0)
    return replace(verdict, waiting=waiting, anchored=anchored, unread=unread)


def judge(
    organization_id: UUID, lines: Iterable[Line], start: tuple[int, str], witnesses: Iterable[Witness]
) -> Verdict:
    """The first line that is missing, moved or altered, if any; witnesses tell whether the end was cut off."""
    wanted: dict[int, list[Witness]] = {}
    for witness in witnesses:
        wanted.setdefault(witness.line, []).append(witness)
    last, previous = start
    for row in lines:
        reason = _wrong(organization_id, row, last + 1, previous) or _contradiction(row, wanted.pop(row.line, ()))
        if reason:
            return Verdict(
                organization_id,
                last - start[0] + 1,
                ok=False,
                seq=min(last + 1, row.line),
                reason=reason,
                entry_id=row.entry_id,
            )
        last, previous = row.line, row.hash
    count = last - start[0]
    for witness in wanted.pop(start[0], ()):
        if witness.hash != start[1]:
            return Verdict(
                organization_id, count, ok=False, seq=start[0], reason=f"{witness.who} remembers another hash"
            )
    late = [w for line, group in sorted(wanted.items()) if line > last for w in group]
    if late:
        return Verdict(
            organization_id,
            count,
            ok=False,
            seq=last + 1,
            reason=f"the chain ends at line {last} but {late[-1].who} says {late[-1].line}",
        )
    return Verdict(organization_id, count, ok=True)


def _wrong(organization_id: UUID, row: Line, expected: int, previous: str) -> str:
    if row.line != expected:
        return f"line {expected} is missing" if row.line > expected else f"line {row.line} is there twice"
    if row.prev_hash != previous:
        return "it does not follow from the line before it"
    if row.content is None:
        return "its entry is missing"
    canonical = chain.canonical(row.content)
    if row.hash != chain.link(str(organization_id), row.line, previous, chain.digest_of(canonical)):
        return "its content does not have its hash"
    if row.canonical.encode() != canonical or row.words != chain.words(row.content):
        return "its text is not its content"
    return ""


def _contradiction(row: Line, witnesses: Iterable[Witness]) -> str:
    return next((f"{w.who} remembers another hash" for w in witnesses if w.hash != row.hash), "")


def _start(organization_id: UUID) -> tuple[tuple[int, str], str]:
    """Line and hash after which the kept chain begins, and what is wrong with the purge that says so."""
    purge = AuditPurge.objects.for_org(organization_id).order_by("-line").first()
    if purge is None:
        return (0, chain.GENESIS), ""
    message = signing.statement("purge", str(organization_id), purge.line, purge.hash, iso(purge.at))
    good = signing.ring().is_signed(message, purge.key_id, purge.signature)
    return (
        purge.line,
        purge.hash,
    ), "" if good else f"the removal up to line {purge.line} is not signed by this installation"


def _witnesses(organization_id: UUID, after: int) -> tuple[list[Witness], str]:
    """Checkpoints and anchors from line `after` on, and what is wrong with their signatures."""
    found, reason = [], ""
    for row in AuditCheckpoint.objects.for_org(organization_id).filter(line__gte=after).order_by("line"):
        message = signing.statement("checkpoint", str(organization_id), row.line, row.hash, iso(row.at))
        if not signing.ring().is_signed(message, row.key_id, row.signature):
            reason = reason or f"the checkpoint at line {row.line} is not signed by this installation"
        found.append(Witness(row.line, row.hash, "a checkpoint"))
    outside, bad = anchors.read(organization_id)
    found += [Witness(a.line, a.hash, "an anchor") for a in outside if a.line >= after]
    return found, reason or (f"{bad} anchors are damaged or not signed by this installation" if bad else "")


def _unsealed(organization_id: UUID) -> str:
    """What is wrong with the entries that have no seal."""
    late = (
        AuditPending.objects.for_org(organization_id)
        .filter(since__lt=datetime.now(tz=clock.now().tzinfo) - UNSEALED_FOR)
        .count()
    )
    if late:
        return f"{late} entries wait for their seal for more than a minute"
    queued = AuditPending.objects.for_org(organization_id).filter(entry_id=OuterRef("id"))
    lost = AuditEntry.objects.for_org(organization_id).filter(seal__isnull=True).exclude(Exists(queued)).count()
    return f"{lost} entries have no place in the chain" if lost else ""


def lines_between(organization_id: UUID, after: int, until: int | None = None) -> Iterator[Line]:
    """The sealed lines after `after` up to `until` in order, each with the content that its entry has now.

    Some thousand lines are in memory at a time; a gone entry still has its line, without content.
    """
    seals = (
        AuditSeal.objects.for_org(organization_id).order_by("line").values_list("line", "prev_hash", "hash", "entry_id")
    )
    if until is not None:
        seals = seals.filter(line__lte=until)
    entries = AuditEntry.objects.for_org(organization_id)
    while chunk := list(seals.filter(line__gt=after)[:CHUNK]):
        here = entries.filter(seal__organization=organization_id, seal__line__gt=after, seal__line__lte=chunk[-1][0])
        contents = {row[0]: row for row in here.values_list("id", *_TEXTS, *_CONTENT)}
        for line, prev_hash, hash_, entry_id in chunk:
            row = contents.get(entry_id)
            content = (
                canonical_form(
                    {**dict(zip(_CONTENT, row[3:], strict=True)), "id": entry_id, "organization": organization_id}
                )
                if row
                else None
            )
            yield Line(line, prev_hash, hash_, entry_id, content, *(row[1:3] if row else ()))
        after = chunk[-1][0]
