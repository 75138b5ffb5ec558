"""Exports: a contiguous piece of a chain as JSON Lines or CSV, streamed, with a signed sidecar at the end."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Max, Min

from audit import chain, signing
from audit.enums import ExportFormat
from audit.models import AuditExport, AuditSeal
from audit.selectors import iso
from audit.services.checkpoints import as_anchor, make_checkpoint
from audit.services.recording import record
from audit.services.sealing import seal_organization
from audit.verification import Line, lines_between
from audit.verifier.audit_verify import sidecar_message
from core import clock
from core.actor import Actor, ActorKind
from core.errors import Forbidden, InvalidInput, NotFound

PERIODS: dict[str, timedelta] = {"30d": timedelta(days=30), "quarter": timedelta(days=92)}
COLUMNS = ["line", *chain.FIELDS, "prev_hash", "hash"]
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_PIECE = 500


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
    whole, size, count = hashlib.sha256(), 0, 0
    prev_hash, last_hash = "", ""
    write = _as_csv if export.format == ExportFormat.CSV else _as_jsonl
    piece: list[Line] = []
    if export.format == ExportFormat.CSV:
        head = (",".join(COLUMNS) + "\r\n").encode()
        whole.update(head)
        size += len(head)
        yield head
    rows = lines_between(export.organization_id, export.first_line - 1, export.last_line)
    while True:
        piece = [row for _, row in zip(range(_PIECE), rows, strict=False)]
        if not piece:
            break
        prev_hash = prev_hash or piece[0].prev_hash
        last_hash, count = piece[-1].hash, count + len(piece)
        data = write(piece)
        whole.update(data)
        size += len(data)
        yield data
    _finish(
        export,
        name,
        {
            "sha256": whole.hexdigest(),
            "size": size,
            "lines": count,
            "prev_hash": prev_hash or chain.GENESIS,
            "last_hash": last_hash,
        },
    )


def _as_jsonl(rows: list[Line]) -> bytes:
    parts = []
    for row in rows:
        if row.content is None:
            raise InvalidInput(f"Line {row.line} of the log has lost its entry; verify the chain.")
        parts.append(
            b'{"line":%d,"prev_hash":"%s","hash":"%s","entry":%s}\n'
            % (row.line, row.prev_hash.encode(), row.hash.encode(), chain.canonical(row.content))
        )
    return b"".join(parts)


def _as_csv(rows: list[Line]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    for row in rows:
        content = row.content or {}
        values = {**content, "changes": json.dumps(content.get("changes", {}), ensure_ascii=False, sort_keys=True)}
        writer.writerow([row.line, *(safe_cell(values.get(name)) for name in chain.FIELDS), row.prev_hash, row.hash])
    return out.getvalue().encode()


def safe_cell(value: Any) -> str:
    """Text that no spreadsheet takes for a formula: a leading = + - @, tab or line break gets an apostrophe before it."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


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
