"""What a submission may hold, told field by field. Pure: the form, the API and the schedule all ask here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from taskrunner import images
from taskrunner.enums import RETRYABLE

MOST_SECONDS = 30 * 24 * 3600
MOST_FILES_BYTES = 1024 * 1024
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}")
_WHOLE = {
    "cpu": (10, 1_024_000, "millicores"),
    "memory": (4, 16 * 1024 * 1024, "MiB"),
    "storage": (0, 1024 * 1024 * 1024, "MiB"),
    "gpus": (0, 64, "GPUs"),
    "timeout_seconds": (1, MOST_SECONDS, "seconds"),
    "retries": (0, 20, "retries"),
    "priority": (-100, 100, ""),
}
DEFAULTS: dict[str, Any] = {
    "description": "",
    "command": [],
    "cpu": 1000,
    "memory": 512,
    "storage": 0,
    "gpus": 0,
    "labels": {},
    "environment": {},
    "secrets": {},
    "files": {},
    "network": True,
    "timeout_seconds": 3600,
    "retries": 0,
    "retry_on": ["lost"],
    "priority": 0,
    "shared": False,
}


class Wrong(ValueError):
    """`errors` maps each field to what is wrong with it."""

    def __init__(self, errors: dict[str, list[str]]) -> None:
        super().__init__(str(errors))
        self.errors = errors


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a submission, complete and in the form that is stored. Raises Wrong."""
    fields = {**DEFAULTS, **{key: value for key, value in given.items() if value is not None}}
    errors: dict[str, list[str]] = {}
    unknown = sorted(set(given) - set(DEFAULTS) - {"name", "image"})
    for name in unknown:
        errors[name] = ["There is no such field."]
    for name, read in _READERS.items():
        try:
            fields[name] = read(fields.get(name))
        except ValueError as wrong:
            errors[name] = [str(wrong)]
    for name, (least, most, unit) in _WHOLE.items():
        value = fields[name]
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            errors[name] = [f"A whole number from {least} to {most}{' ' + unit if unit else ''}."]
    twice = sorted(set(fields["environment"]) & set(fields["secrets"])) if not errors else []
    if twice:
        errors["secrets"] = [f"{', '.join(twice)} is set twice."]
    if errors:
        raise Wrong(errors)
    return fields


def _text(most: int, *, empty: bool = True) -> Any:
    def read(value: Any) -> str:
        text = str(value or "").strip()
        if not text and not empty:
            raise ValueError("Fill this in.")
        if len(text) > most:
            raise ValueError(f"At most {most} characters.")
        if any(not c.isprintable() and c != "\n" for c in text):
            raise ValueError("Control characters are not allowed here.")
        return text

    return read


def _image(value: Any) -> str:
    return str(images.parse(str(value or "").strip()))


def command(value: Any) -> list[str]:
    """A list of words, or one line as a shell would part it (nothing is expanded)."""
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError as bad:
            raise ValueError(f"The command cannot be parted into words: {bad}.") from None
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise ValueError("A list of words.")
    if sum(len(word.encode()) for word in value) > 64 * 1024 or any("\0" in word for word in value):
        raise ValueError("At most 64 KiB, without NUL.")
    return value


def _variables(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("An object of names and values.")
    for name, text in value.items():
        if not _NAME.fullmatch(str(name)):
            raise ValueError(f"{str(name)[:40]!r} is not a variable name.")
        if not isinstance(text, str) or "\0" in text or len(text) > 32 * 1024:
            raise ValueError(f"{name}: a text of at most 32 KiB, without NUL.")
    return dict(value)


def labels(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > 32:
        raise ValueError("An object of at most 32 labels.")
    for key, text in value.items():
        if not _LABEL.fullmatch(str(key)) or not isinstance(text, str) or (text and not _LABEL.fullmatch(text)):
            raise ValueError(f"{str(key)[:40]!r}: labels have letters, digits, and . _ / - within.")
    return dict(value)


def _files(value: Any) -> dict[str, str]:
    """Absolute path in the container to text."""
    if not isinstance(value, dict) or len(value) > 50:
        raise ValueError("An object of at most 50 files.")
    for path, text in value.items():
        parts = str(path).split("/")
        if not str(path).startswith("/") or ".." in parts or "\0" in str(path) or len(str(path)) > 300 or not parts[-1]:
            raise ValueError(f"{str(path)[:60]!r} is not an absolute path of a file.")
        if not isinstance(text, str):
            raise ValueError(f"{path}: a text.")
    if sum(len(text.encode()) for text in value.values()) > MOST_FILES_BYTES:
        raise ValueError("At most 1 MiB in all.")
    return dict(value)


def _retry_on(value: Any) -> list[str]:
    if not isinstance(value, list) or any(word not in RETRYABLE for word in value):
        raise ValueError(f"Some of {', '.join(RETRYABLE)}.")
    return sorted({str(word) for word in value})


_READERS: dict[str, Any] = {
    "name": _text(120, empty=False),
    "description": _text(1000),
    "image": _image,
    "command": command,
    "environment": _variables,
    "secrets": _variables,
    "labels": labels,
    "files": _files,
    "retry_on": _retry_on,
    "network": bool,
    "shared": bool,
}
