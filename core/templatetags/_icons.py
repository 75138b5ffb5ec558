"""Inline icons, read once from the files that `core.frontend` copied."""

from __future__ import annotations

import logging
import re
from functools import cache, lru_cache

from django.utils.html import conditional_escape
from django.utils.safestring import SafeString, mark_safe

from core.frontend import ICONS, VENDOR

log = logging.getLogger(__name__)

_KNOWN = frozenset(ICONS)
_BODY = re.compile(r"<svg\b[^>]*>(.*)</svg>", re.DOTALL)
_FRAME = re.compile(r'\s*<path stroke="none" d="M0 0h24v24H0z" fill="none"\s*/>')


@cache
def _body(name: str) -> str:
    """What is drawn inside the icon; empty (and said once in the log) when the packages were never installed."""
    if name not in _KNOWN:
        raise ValueError(f"icon {name!r} is not listed in core.frontend.ICONS")
    try:
        text = (VENDOR / "icons" / f"{name}.svg").read_text("utf-8")
    except FileNotFoundError:
        log.warning("icon_missing", extra={"icon": name, "remedy": "npm ci && python -m core.frontend"})
        return ""
    found = _BODY.search(text)
    return _FRAME.sub("", found.group(1)).strip() if found else ""


@lru_cache(maxsize=2048)
def render(name: str, css: str = "") -> SafeString:
    """The SVG element. Raises ValueError for an icon that is not listed."""
    classes = conditional_escape(f"ti {css}".strip())
    return mark_safe(  # noqa: S308 - the body is a file of ours, the classes are escaped
        f'<svg class="{classes}" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" '
        f'stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" focusable="false">{_body(name)}</svg>'
    )
