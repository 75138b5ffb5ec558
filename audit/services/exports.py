"""Exports: a contiguous piece of a chain as JSON Lines or CSV, streamed, with a signed sidecar at the end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Max, Min
from django.db.models.functions import Concat

from audit import bulk, chain, signing
from audit.enums import ExportFormat
from audit.models import AuditExport, AuditSeal
from audit.selectors import iso
from audit.services.checkpoints import as_anchor, make_checkpoint
from audit.services.recording import record
from audit.services.sealing import seal_organization
from audit.verifier.audit_verify import sidecar_message
from core import clock
from core.actor import Actor, ActorKind
from core.errors import Forbidden, InvalidInput, NotFound

PERIODS: dict[str, timedelta] = {"30d": timedelta(days=30), "quarter": timedelta(days=92)}


@dataclass(frozen=True, slots=True)
class Download:
    """An export under way: iterate `chunks` to its end, and the sidecar is kept."""

    export: AuditExport
    file_name: str
    content_type: str
    chunks: Iterator[bytes]


def start_export(
    *, actor: Actor, file_format: str, period: str = "30d", start: datetime | None = None, end: datetime | None = None
) -> Download:
    """Fix the piece of the chain, record the export, and return the stream. Memory stays constant.

    `period` is "30d", "quarter", "all" or "custom" with `start` and `end` (end excluded). Raises Forbidden, InvalidInput.
    """
    actor.require("audit.export", "export the audit log")
    if actor.org_id is None:
        raise Forbidden("Act in one organization to export its log.")
    since, until = _bounds(period, start, end)
    if file_format not in ExportFormat.values:
        raise InvalidInput(errors={"format": ["Choose CSV or JSON Lines."]})
    with transaction.atomic():
        record(actor=actor, verb="audit.exported", target_kind="audit", target_label=f"{period}, {file_format}")
    seal_organization(organization_id=actor.org_id)
    export = _prepare(actor, actor.org_id, file_format, since, until)
    suffix = ExportFormat(file_format).value
    name = f"audit-{export.created_at:%Y%m%d-%H%M%S}-{export.id.hex[:8]}.{suffix}"
    kind = "text/csv; charset=utf-8" if suffix == "csv" else "application/jsonl"
    return Download(export, name, kind, _stream(export, name))


def get_export(*, actor: Actor, export_id: UUID) -> AuditExport:
    """A finished or running export of the actor's organization; NotFound otherwise."""
    actor.require("audit.export", "export the audit log")
    found = AuditExport.objects.visible_to(actor).filter(id=export_id).first()
    if found is None:
        raise NotFound("There is no such export.")
    return found


def _bounds(period: str, start: datetime | None, end: datetime | None) -> tuple[datetime | None, datetime | None]:
    if period in PERIODS:
        return clock.now() - PERIODS[period], None
    if period == "all":
        return None, None
    if period != "custom":
        raise InvalidInput(errors={"period": ["Choose 30d, quarter, all or custom."]})
    if start is None or end is None or end <= start:
        raise InvalidInput(errors={"end": ["Give a start and a later end."]})
    return start, end


def _prepare(
    actor: Actor, org_id: UUID, file_format: str, since: datetime | None, until: datetime | None
) -> AuditExport:
    checkpoint = make_checkpoint(organization_id=org_id)
    if checkpoint is None:
        raise InvalidInput("The log is empty.")
    seals = AuditSeal.objects.for_org(org_id).filter(line__lte=checkpoint.line)
    if since:
        seals = seals.filter(entry__at__gte=since)
    if until:
        seals = seals.filter(entry__at__lt=until)
    found = seals.aggregate(first=Min("line"), last=Max("line"))
    first, last = (found["first"], found["last"]) if found["first"] else (checkpoint.line + 1, checkpoint.line)
    return AuditExport.objects.for_org(org_id).create(
        organization_id=org_id,
        made_by=actor.label[:200],
        format=file_format,
        first_line=first,
        last_line=last,
        created_at=clock.now(),
        checkpoint=_mapping(checkpoint),
    )


def _mapping(checkpoint: Any) -> dict[str, Any]:
    anchor = as_anchor(checkpoint)
    return {name: getattr(anchor, name) for name in anchor.__slots__}


def _stream(export: AuditExport, name: str) -> Iterator[bytes]:
    whole, size = hashlib.sha256(), 0
    if export.format == ExportFormat.CSV:
        head = (",".join(bulk.COLUMNS) + "\n").encode()
        whole.update(head)
        size += len(head)
        yield head
    rows = bulk.csv_rows if export.format == ExportFormat.CSV else bulk.json_lines
    for piece in rows(export.organization_id, export.first_line, export.last_line):
        whole.update(piece)
        size += len(piece)
        yield piece
    count = export.last_line + 1 - export.first_line
    ends = dict(
        AuditSeal.objects.for_org(export.organization_id)
        .filter(line__in=[export.first_line, export.last_line])
        .values_list("line", Concat("prev_hash", "hash"))
    )
    facts = {
        "sha256": whole.hexdigest(),
        "size": size,
        "lines": count,
        "prev_hash": ends[export.first_line][:64] if count else chain.GENESIS,
        "last_hash": ends[export.last_line][64:] if count else "",
    }
    _finish(export, name, facts)


def _finish(export: AuditExport, name: str, facts: dict[str, Any]) -> None:
    keys = signing.ring()
    sidecar = {
        "version": 1,
        "file": name,
        "format": export.format,
        "organization": str(export.organization_id),
        "created_at": iso(export.created_at),
        "first_line": export.first_line,
        "last_line": export.last_line,
        **facts,
        "checkpoint": export.checkpoint,
        "key_id": keys.active_id,
        "public_key": keys.public_keys()[keys.active_id],
    }
    sidecar["signature"] = keys.sign(sidecar_message(sidecar))[1]
    AuditExport.objects.for_org(export.organization_id).filter(id=export.id).update(
        sidecar=sidecar, sha256=facts["sha256"], lines=facts["lines"], finished_at=clock.now()
    )


def operator(organization_id: UUID) -> Actor:
    """Who exports from the command line."""
    return Actor(ActorKind.SYSTEM, "command_line", "Command line", organization_id, frozenset({"*"}))
