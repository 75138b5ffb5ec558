"""Masking of secrets by field name and by shape. Free of Django; used by logs, audit diffs and provider errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MASK = "••••"
_SECRET_NAMES = re.compile(
    r"secret|password|passwd|token|api[_-]?key|private[_-]?key|credential|authorization|cookie|session[_-]?key|otp|recovery|client[_-]?key|ca[_-]?key",
    re.IGNORECASE,
)
_NOT_SECRET = frozenset({"token_id", "key_id", "api_key_id", "secret_set", "token_uri", "credentials_status"})
_SHAPES = (
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\b"),
    re.compile(r"\bcf[akwe]_[A-Za-z0-9_-]{12,}\b"),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL),
    re.compile(r"(?i)(?<=bearer )[A-Za-z0-9._~+/=-]{12,}"),
    re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"),
    re.compile(r"(?i)((?:secret|password|token|api[_-]?key)[\"']?\s*[=:]\s*[\"']?)[^\s\"',&}]{4,}"),
)


def is_secret_name(name: str) -> bool:
    return name not in _NOT_SECRET and bool(_SECRET_NAMES.search(name))


def redact_text(text: str) -> str:
    """Mask what looks like a key, token, private key or password inside free text."""
    for shape in _SHAPES:
        text = shape.sub(lambda m: (m.group(1) if m.re.groups else "") + MASK, text)
    return text


def redact_value(name: str, value: Any) -> Any:
    if is_secret_name(name) and not isinstance(value, (bool, type(None))):
        return MASK if value not in ("", [], {}) else value
    if isinstance(value, Mapping):
        return redact_mapping(value)
    if isinstance(value, (list, tuple)):
        return [redact_value(name, item) for item in value]
    return redact_text(value) if isinstance(value, str) else value


def redact_mapping(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with every secret masked, however deep."""
    return {str(key): redact_value(str(key), value) for key, value in values.items()}
