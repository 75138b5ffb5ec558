"""How far a task says it is: a structured line, or the last percentage that it printed. Pure.

A structured line is `::progress 42` or `::progress 42 loading weights`, or JSON with a `progress` from 0 to 100.
"""

from __future__ import annotations

import json
import re

_STRUCTURED = re.compile(rb"^::progress\s+(\d{1,3}(?:\.\d+)?)(?:\s+([^\r\n]{0,200}))?", re.MULTILINE)
_PERCENT = re.compile(rb"(?<![\d.])(\d{1,3}(?:\.\d+)?)\s?%")
_JSON = re.compile(rb'^\{[^\r\n]{0,2000}"progress"[^\r\n]{0,2000}\}\s*$', re.MULTILINE)
_LOOKED_AT = 16 * 1024


def read(data: bytes) -> tuple[int, str] | None:
    """Percent (0 to 100) and words from the newest such line of a piece of log; None when there is none."""
    tail = data[-_LOOKED_AT:]
    found = None
    for match in _STRUCTURED.finditer(tail):
        found = _whole(match[1]), (match[2] or b"").decode("utf-8", "replace").strip()
    if found:
        return found
    for match in _JSON.finditer(tail):
        try:
            said = json.loads(match[0])
        except ValueError:
            continue
        value = said.get("progress")
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100:
            found = int(value), str(said.get("message", ""))[:200]
    if found:
        return found
    percents = [value for match in _PERCENT.finditer(tail) if (value := float(match[1])) <= 100]
    return (int(percents[-1]), "") if percents else None


def _whole(text: bytes) -> int:
    return max(0, min(100, int(float(text))))
