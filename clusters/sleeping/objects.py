"""One object asleep and awake again: what is remembered travels in the same request as the change. Pure.

The annotation `curfew.dev/restore` holds `{"snapshot": id, "saved": {pointer: value}, "unset": [pointer]}`. While it is
there the object is asleep by Curfew's hand and nothing of it is remembered anew. Patches are RFC 7386 with the
resourceVersion that was read, so a change in between is a conflict, never lost.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clusters.sleeping.kinds import ANNOTATION, KINDS, UNSET, Fields, Object, Path, annotations_of

MANAGER = "curfew"


def pointer(path: Path) -> str:
    """RFC 6901."""
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in path)


def path_of(text: str) -> Path:
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in text.split("/")[1:])


def look(obj: Any, path: Path) -> Any:
    """The value at a path; UNSET when there is none."""
    for step in path:
        if not isinstance(obj, dict) or step not in obj:
            return UNSET
        obj = obj[step]
    return obj


def put(obj: Object, path: Path, value: Any) -> None:
    """Set a value in place, or remove it; a parent that a removal leaves empty goes only when `prune` says so."""
    *way, last = path
    spot = obj
    for step in way:
        below = spot.get(step)
        if not isinstance(below, dict):
            if value is UNSET:
                return
            below = spot[step] = {}
        spot = below
    if value is UNSET:
        spot.pop(last, None)
    else:
        spot[last] = copy.deepcopy(value)


@dataclass(frozen=True, slots=True)
class Memory:
    """What an object was like before: values by path, and paths that were absent.

    `parents`: the deepest ancestor that was absent too, so that restoring leaves no empty shell behind.
    """

    snapshot: str
    saved: Mapping[Path, Any] = field(default_factory=dict)
    unset: tuple[Path, ...] = ()

    @classmethod
    def of(cls, obj: Object, fields: Fields, snapshot: str) -> Memory:
        """Remember the fields as they are now."""
        saved: dict[Path, Any] = {}
        unset: list[Path] = []
        for path in fields:
            value = look(obj, path)
            if value is UNSET:
                unset.append(_first_absent(obj, path))
            else:
                saved[path] = copy.deepcopy(value)
        return cls(snapshot, saved, tuple(unset))

    def text(self) -> str:
        return json.dumps(self.values(), separators=(",", ":"), sort_keys=True)

    def values(self) -> dict[str, Any]:
        """As it is written, on the object and in the database."""
        return {
            "snapshot": self.snapshot,
            "saved": {pointer(path): value for path, value in self.saved.items()},
            "unset": [pointer(path) for path in self.unset],
        }

    @classmethod
    def read(cls, raw: object) -> Memory | None:
        """From the annotation's text or the database's value; None when it is not ours."""
        try:
            values = json.loads(raw) if isinstance(raw, str) else raw
            assert isinstance(values, dict)
            return cls(
                str(values["snapshot"]),
                {path_of(key): value for key, value in values["saved"].items()},
                tuple(path_of(key) for key in values["unset"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, AssertionError):
            return None

    @property
    def paths(self) -> tuple[Path, ...]:
        return (*self.saved, *self.unset)


def _first_absent(obj: Object, path: Path) -> Path:
    """The shortest prefix of a path that is absent; metadata/annotations is pruned by `awake` itself."""
    if path[:2] == ("metadata", "annotations"):
        return path
    return next((path[:n] for n in range(2, len(path)) if look(obj, path[:n]) is UNSET), path)


def memory_of(obj: Object) -> Memory | None:
    return Memory.read(annotations_of(obj).get(ANNOTATION))


def fields_of(kind: str, obj: Object) -> Fields:
    """What falling asleep sets on this object; {} when it rests already."""
    return KINDS[kind].fields(obj)


def sleeping(obj: Object, fields: Fields, memory: Memory) -> Object:
    """The object asleep, with its memory on it (in place of a stale one)."""
    new = copy.deepcopy(obj)
    for path, value in fields.items():
        put(new, path, value)
    put(new, ("metadata", "annotations", ANNOTATION), memory.text())
    return new


def awake(obj: Object, memory: Memory, *, restore: bool = True) -> Object:
    """The object as it was, without a trace of Curfew; `restore=False` takes only the memory off."""
    new = copy.deepcopy(obj)
    if restore:
        for path, value in memory.saved.items():
            put(new, path, value)
        for path in memory.unset:
            put(new, path, UNSET)
    put(new, ("metadata", "annotations", ANNOTATION), UNSET)
    if new.get("metadata", {}).get("annotations") == {}:
        del new["metadata"]["annotations"]
    return new


def still_asleep(obj: Object, memory: Memory, kind: str) -> bool:
    """Whether every remembered field still has the value that sleep gave it."""
    asleep = dict(fields_of(kind, awake(obj, memory)))
    return all(look(obj, path) == value for path, value in asleep.items())


def rests(obj: Object, kind: str) -> bool:
    """Whether it is asleep by our hand. A memory that was left behind on something awake is stale, and no rest."""
    memory = memory_of(obj)
    return memory is not None and still_asleep(obj, memory, kind)


def between(old: Any, new: Any) -> Any:
    """The merge patch that turns `old` into `new`; {} when they are equal."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return copy.deepcopy(new)
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        if key not in old:
            patch[key] = copy.deepcopy(value)
        elif old[key] != value:
            patch[key] = between(old[key], value)
    return patch


def guarded(old: Object, new: Object) -> Object:
    """The patch from old to new that only fits the version that was read; {} when nothing changes."""
    patch: Object = between(old, new)
    if not patch:
        return {}
    version = (old.get("metadata") or {}).get("resourceVersion")
    if version:
        patch.setdefault("metadata", {})["resourceVersion"] = version
    return patch


@dataclass(frozen=True, slots=True)
class Owner:
    """Who wrote a field last, as managedFields tells: field manager, verb, time (ISO) and subresource."""

    manager: str
    verb: str
    at: str
    subresource: str = ""


def owner_of(obj: Object, path: Path) -> Owner | None:
    """The newest manager that owns the field; None when nobody is named."""
    found: list[Owner] = []
    for entry in (obj.get("metadata") or {}).get("managedFields") or ():
        spot: Any = entry.get("fieldsV1")
        for step in path:
            spot = spot.get(f"f:{step}") if isinstance(spot, dict) else None
        if spot is not None:
            found.append(
                Owner(
                    str(entry.get("manager") or "unknown"),
                    str(entry.get("operation") or "Update"),
                    str(entry.get("time") or ""),
                    str(entry.get("subresource") or ""),
                )
            )
    return max(found, key=lambda one: one.at, default=None)
