"""The settings file of a data folder, `curfew.env`: generated once, mode 0600, never overwritten."""

from __future__ import annotations

import base64
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from launcher.console import Failure

FILE_NAME = "curfew.env"
HEADER = """\
# Keys and settings of this Curfew. Keep a copy in a safe place: without CURFEW_ENCRYPTION_KEYS the cloud
# credentials in the database cannot be read again. The environment wins over this file.
"""
_LINE = re.compile(r"^\s*(?:export\s+)?([A-Z][A-Z0-9_]*)\s*=\s*(.*?)\s*$")


def new_encryption_key() -> str:
    """A key ring with one fresh 256-bit key named k1."""
    return "k1:" + base64.b64encode(secrets.token_bytes(32)).decode()


GENERATED: Mapping[str, Callable[[], str]] = {
    "CURFEW_SECRET_KEY": lambda: secrets.token_urlsafe(50),
    "CURFEW_ENCRYPTION_KEYS": new_encryption_key,
    "CURFEW_JWT_KEY": lambda: secrets.token_urlsafe(48),
}


def parse(text: str) -> dict[str, str]:
    """NAME=value lines; comments and other lines are left out, one pair of quotes around a value is removed."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match:
            name, value = match.groups()
            if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
                value = value[1:-1]
            values[name] = value
    return values


def read(data: Path) -> dict[str, str]:
    """The values in the folder's file; empty when there is none. Raises `Failure` when it cannot be read."""
    try:
        return parse((data / FILE_NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{data / FILE_NAME} cannot be read: {error}") from error


def ensure(data: Path, *, defaults: Mapping[str, str], environ: Mapping[str, str] | None = None) -> list[str]:
    """Add the keys and `defaults` that neither the file nor the environment has; return the names that were added.

    Raises `Failure` when the encryption keys are gone but a database is there: new keys could not read it.
    """
    given = os.environ if environ is None else environ
    path = data / FILE_NAME
    present = read(data)
    missing = [name for name in GENERATED if not present.get(name) and not given.get(name)]
    if "CURFEW_ENCRYPTION_KEYS" in missing and any(data.glob("*.sqlite3")):
        raise Failure(
            f"{data} holds a database but {FILE_NAME} has no CURFEW_ENCRYPTION_KEYS, so its cloud credentials\n"
            f"could not be read again. Put the file back from your copy, or choose another --data folder."
        )
    added = {name: GENERATED[name]() for name in missing}
    added.update({name: value for name, value in defaults.items() if not present.get(name) and not given.get(name)})
    if added:
        old = path.read_text(encoding="utf-8") if path.exists() else HEADER
        if not old.endswith("\n"):
            old += "\n"
        _write_private(path, old + "".join(f"{name}={value}\n" for name, value in added.items()))
    elif path.exists() and path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return list(added)


def _write_private(path: Path, text: str) -> None:
    """Replace the file in one step; it is never readable by others and never half written."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def is_local(url: str) -> bool:
    """Whether the address points at this machine only."""
    return urlsplit(url).hostname in {"localhost", "127.0.0.1", "::1"}


def base_url_for_run(data: Path, *, port: int, environ: Mapping[str, str] | None = None) -> str | None:
    """The address to use for this run when the stored one is local and names another port; None to keep it."""
    given = os.environ if environ is None else environ
    stored = read(data).get("CURFEW_BASE_URL", "")
    if given.get("CURFEW_BASE_URL") or not is_local(stored) or urlsplit(stored).port == port:
        return None
    return f"http://localhost:{port}"
