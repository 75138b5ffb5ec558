"""Structured logs: one JSON object a line, event names not sentences, secrets masked before anything is written."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from core import request_context
from core.redaction import redact_mapping, redact_text

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Time, level, logger, event, request id and the record's extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        extra = {k: v for k, v in vars(record).items() if k not in _STANDARD and not k.startswith("_")}
        row: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": redact_text(record.getMessage()),
        }
        if bound := request_context.request_id.get():
            row["request_id"] = bound
        row.update(
            redact_mapping(
                {
                    k: v if isinstance(v, (int, float, bool, type(None), dict, list)) else str(v)
                    for k, v in extra.items()
                }
            )
        )
        if record.exc_info:
            row["exception"] = redact_text(self.formatException(record.exc_info))
        return json.dumps(row, default=str)
