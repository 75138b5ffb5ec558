"""How an operation looks in every answer of the HTTP interface: the list, the detail, and the body of each 202."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from operations.models import Operation

OPERATION_PATH = "/api/operations/"


def moment(value: datetime | None) -> str | None:
    """ISO 8601 in UTC with milliseconds; None stays None."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if value else None


def operation_url(operation_id: UUID) -> str:
    """The canonical path, for the `Location` header of a 202."""
    return f"{OPERATION_PATH}{operation_id}"


def operation_shape(operation: Operation) -> dict[str, Any]:
    """Plain JSON values of one operation. `error` is null unless something went wrong (also while it waits to try
    again); `expected_seconds` and `seconds_left` are null when nothing is known. Reads no further rows."""
    error = None
    if operation.error_code or operation.error:
        error = {"code": operation.error_code, "message": operation.error, "next_step": operation.next_step}
    return {
        "id": str(operation.id),
        "kind": operation.kind,
        "status": str(operation.status),
        "progress": operation.progress,
        "step": operation.step,
        "steps_done": operation.steps_done,
        "steps_total": operation.steps_total,
        "attempt": operation.attempt,
        "max_attempts": operation.max_attempts,
        "created_at": moment(operation.created_at),
        "started_at": moment(operation.started_at),
        "finished_at": moment(operation.finished_at),
        "not_before": moment(operation.not_before),
        "expected_seconds": operation.expected_seconds,
        "seconds_left": operation.seconds_left,
        "cancel_requested": operation.cancel_requested_at is not None,
        "can_cancel": operation.can_cancel,
        "can_retry": operation.can_retry,
        "resource": {
            "kind": operation.resource_kind,
            "id": str(operation.resource_id),
            "label": operation.resource_label,
        },
        "requested_by": {"kind": operation.actor_kind, "label": operation.actor_label},
        "reason": operation.reason,
        "error": error,
        "result": operation.result,
        "retry_of": str(operation.retry_of_id) if operation.retry_of_id else None,
    }


def accepted(operation: Operation) -> tuple[dict[str, Any], dict[str, str]]:
    """Body and headers of a 202: `body, headers = accepted(operation)`."""
    return {"operation": operation_shape(operation)}, {"Location": operation_url(operation.id)}
