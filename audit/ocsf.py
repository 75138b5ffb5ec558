"""A sealed line as an event of the Open Cybersecurity Schema Framework 1.4. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from audit.verification import Line

VERSION = "1.4.0"
_ACTIVITY = {
    1: ("created", "added", "registered", "connected", "requested", "imported", "invited"),
    2: ("exported", "viewed", "downloaded", "verified"),
    3: ("changed", "updated", "renamed", "enabled", "disabled", "retried", "replayed"),
    4: ("deleted", "removed", "revoked", "purged", "disconnected"),
}
_STATUS = {"success": (1, "Success"), "failed": (2, "Failure"), "denied": (2, "Failure")}
_SEVERITY = {"success": 1, "failed": 2, "denied": 3}


def event(line: Line) -> dict[str, Any]:
    """Authentication (3002) for signing in and out, API Activity (6003) for everything else; `metadata.uid` is the entry's id."""
    content = line.content or {}
    verb, outcome = str(content.get("verb", "")), str(content.get("outcome", ""))
    is_sign_in = verb in {"user.signed_in", "user.sign_in_failed", "user.signed_out"}
    class_uid, activity = (3002, 2 if verb == "user.signed_out" else 1) if is_sign_in else (6003, _activity(verb))
    status_id, status = _STATUS.get(outcome, (0, "Unknown"))
    user = {
        "uid": content.get("actor_id"),
        "name": content.get("actor_label"),
        "type": "User" if content.get("actor_kind") == "user" else "System",
        "type_id": 1 if content.get("actor_kind") == "user" else 3,
    }
    http = {
        name: content[kept] for name, kept in (("uid", "request_id"), ("user_agent", "user_agent")) if content.get(kept)
    }
    found: dict[str, Any] = {
        "class_uid": class_uid,
        "category_uid": class_uid // 1000,
        "activity_id": activity,
        "type_uid": class_uid * 100 + activity,
        "severity_id": _SEVERITY.get(outcome, 0),
        "status_id": status_id,
        "status": status,
        "status_detail": content.get("detail") or outcome,
        "time": _milliseconds(content.get("at")),
        "metadata": {
            "version": VERSION,
            "uid": str(line.entry_id),
            "sequence": line.line,
            "tenant_uid": content.get("organization"),
            "product": {"name": "Curfew", "vendor_name": "Curfew", "feature": {"name": "Audit log"}},
        },
        "actor": {"user": user},
        "src_endpoint": {"ip": content["ip"]} if content.get("ip") else {"name": "Curfew"},
        **({"http_request": http} if http else {}),
        "unmapped": {"line": line.line, "prev_hash": line.prev_hash, "hash": line.hash, "entry": content},
    }
    if is_sign_in:
        return {**found, "user": user, "service": {"name": "Curfew"}}
    names = {"uid": "target_id", "name": "target_label", "type": "target_kind"}
    resource = {name: content[kept] for name, kept in names.items() if content.get(kept)}
    request = {"request": {"uid": content["request_id"]}} if content.get("request_id") else {}
    named = {"resources": [resource]} if resource.keys() & {"uid", "name"} else {}
    return {**found, "api": {"operation": verb, **request}, **named}


def _activity(verb: str) -> int:
    last = verb.rpartition(".")[2]
    return next((number for number, words in _ACTIVITY.items() if any(last.endswith(word) for word in words)), 99)


def _milliseconds(at: Any) -> int | None:
    return round(datetime.fromisoformat(str(at)).timestamp() * 1000) if at else None
