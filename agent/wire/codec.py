"""Dataclasses to JSON values and back, strictly: a field of the wrong type, a text or number out of bounds is an error.

Fields that hold their default are left out. Unknown fields are ignored, so that an agent may be newer than the
platform within one format. Supported annotations: str, int, bool, datetime, Any, X | None, tuple[X, ...], dict[str, X]
and dataclasses of these.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
Convert = Callable[[Any], Any]
LONGEST_TEXT = 65_536
LARGEST_NUMBER = (1 << 63) - 1


class WireError(ValueError):
    """A value does not have the shape that the format demands; the text says where."""


def iso(moment: datetime) -> str:
    """Return ISO 8601 in UTC with a Z."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def moment(text: Any) -> datetime:
    """Parse ISO 8601; a time without a zone is refused. Raises WireError."""
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise WireError(f"{str(text)[:40]!r} is not a time") from None
    if found.tzinfo is None:
        raise WireError(f"{text!r} has no time zone")
    try:
        return found.astimezone(UTC)
    except OverflowError:
        raise WireError(f"{text!r} is out of range") from None


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise WireError("a text was expected")
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > LARGEST_NUMBER:
        raise WireError("a whole number of 64 bits was expected")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise WireError("true or false was expected")
    return value


def _same(value: Any) -> Any:
    return value


_SIMPLE: dict[Any, Convert] = {str: _text, int: _number, bool: _flag, datetime: moment, Any: _same}


def _reader(hint: Any) -> Convert:
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        inner = _reader(next(p for p in parts if p is not type(None)))
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        return _list_reader(_reader(parts[0]))
    if origin is dict:
        return _dict_reader(_reader(parts[1]))
    if dataclasses.is_dataclass(hint):
        return lambda value: from_wire(typing.cast(type, hint), value)
    raise TypeError(f"no wire form for {hint!r}")


def _list_reader(inner: Convert) -> Convert:
    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise WireError("a list was expected")
        return tuple([inner(item) for item in value])

    return read


def _dict_reader(inner: Convert) -> Convert:
    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise WireError("an object was expected")
        return {key: inner(item) for key, item in value.items()}

    return read


def _writer(hint: Any) -> Convert:
    if hint is datetime:
        return iso
    if hint in _SIMPLE:
        return _same
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        inner = _writer(next(p for p in parts if p is not type(None)))
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        item = _writer(parts[0])
        return list if item is _same else lambda value: [item(v) for v in value]
    if origin is dict:
        of = _writer(parts[1])
        return _same if of is _same else lambda value: {k: of(v) for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        return to_wire
    raise TypeError(f"no wire form for {hint!r}")


Plan = tuple[dict[str, Convert], tuple[tuple[str, Any, Convert], ...], frozenset[str]]
_plans: dict[type, Plan] = {}


def _plan(cls: type) -> Plan:
    """Return readers by field, (name, default, writer) of each field, names of required fields; made once a class."""
    found = _plans.get(cls)
    if found is None:
        found = _plans[cls] = _make_plan(cls)
    return found


def _make_plan(cls: type) -> Plan:
    hints = get_type_hints(cls)
    readers: dict[str, Convert] = {}
    writers: list[tuple[str, Any, Convert]] = []
    required: set[str] = set()
    for item in dataclasses.fields(cls):
        readers[item.name] = _reader(hints[item.name])
        default = item.default
        if item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        if default is dataclasses.MISSING:
            required.add(item.name)
        writers.append((item.name, default, _writer(hints[item.name])))
    return readers, tuple(writers), frozenset(required)


def to_wire(record: Any) -> dict[str, Any]:
    """Return the JSON object of a dataclass, without the fields that hold their default."""
    wire: dict[str, Any] = {}
    for name, default, write in _plan(type(record))[1]:
        value = getattr(record, name)
        if value != default or default is dataclasses.MISSING:
            wire[name] = write(value)
    return wire


def from_wire(cls: type[T], value: Any) -> T:
    """Return the dataclass of a JSON object. Raises WireError naming the field."""
    if not isinstance(value, dict):
        raise WireError(f"{cls.__name__}: an object was expected")
    readers, _, required = _plan(cls)
    found: dict[str, Any] = {}
    for name, item in value.items():
        read = readers.get(name)
        if read is None:
            continue
        try:
            found[name] = read(item)
        except WireError as bad:
            raise WireError(f"{cls.__name__}.{name}: {bad}") from None
    if not required <= found.keys():
        raise WireError(f"{cls.__name__}: {', '.join(sorted(required - found.keys()))} is missing")
    return cls(**found)
