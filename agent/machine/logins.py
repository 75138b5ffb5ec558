"""Who may log in besides Curfew itself: the keys that the platform tells, in a part of their own of authorized_keys.

Whatever else stands in the file stays as it is.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

log = logging.getLogger("curfew.agent.logins")
FILE = Path("/root/.ssh/authorized_keys")
BEGIN, END = "# Curfew: keys of people, begin", "# Curfew: keys of people, end"


def write(keys: Iterable[object], file: Path | None = None) -> bool:
    """Put these keys in place of the last ones; whether something changed. A file that cannot be written is logged."""
    target = file or FILE
    lines = [key for key in keys if isinstance(key, str) and key.isprintable() and key.strip()]
    try:
        before = target.read_text(encoding="utf-8", errors="surrogateescape") if target.exists() else ""
        after = _with(before, lines)
        if after == before:
            return False
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.curfew")
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as opened:
            opened.write(after)
        part.replace(target)
    except OSError as bad:
        log.warning("login_keys_not_written reason=%s", bad)
        return False
    log.info("login_keys_written count=%s", len(lines))
    return True


def _with(text: str, keys: list[str]) -> str:
    kept, ours = [], False
    for line in text.splitlines():
        if line == BEGIN:
            ours = True
        elif line == END:
            ours = False
        elif not ours:
            kept.append(line)
    block = [BEGIN, *keys, END] if keys else []
    return "".join(f"{line}\n" for line in [*kept, *block])
