"""Masking of secrets by field name and by shape. Free of Django; used by logs, audit diffs and provider errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from core.providers import MASK, redact

_SECRET_NAMES = re.compile(
    r"secret|password|passwd|token|api[_-]?key|private[_-]?key|credential|authorization|cookie|session[_-]?key|otp|recovery|client[_-]?key|ca[_-]?key",
    re.IGNORECASE,
)
_NOT_SECRET = frozenset({"token_id", "key_id", "api_key_id", "secret_set", "token_uri", "credentials_status"})
_OWN_TOKEN = re.compile(r"\bcf[akwe]_[A-Za-z0-9_-]{12,}\b")


def is_secret_name(name: str) -> bool:
    return name not in _NOT_SECRET and bool(_SECRET_NAMES.search(name))


def redact_text(text: str) -> str:
    """Mask what looks like a key, token, private key or password inside free text."""
    return _OWN_TOKEN.sub(MASK, redact(text))


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
