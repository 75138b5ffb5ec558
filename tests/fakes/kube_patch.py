"""The four kinds of patch, with field ownership."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from tests.fakes.kube_store import Object, Refusal, now

MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "conditions": "type",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "imagePullSecrets": "name",
    "ownerReferences": "uid",
    "taints": "key",
    "topologySpreadConstraints": "topologyKey",
}
ANY = Any


def merge_patch(target: ANY, patch: ANY) -> ANY:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def _merge_list(old: list[ANY], patch: list[ANY], key: str) -> list[ANY]:
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if "$patch" not in item]
    result = [dict(item) for item in old]
    for item in patch:
        place = next((i for i, have in enumerate(result) if have.get(key) == item.get(key)), None)
        if item.get("$patch") == "delete":
            if place is not None:
                del result[place]
        elif place is None:
            result.append(strategic({}, item))
        else:
            result[place] = strategic(result[place], item)
    return result


def strategic(target: ANY, patch: ANY) -> ANY:
    """Strategic merge for the lists of MERGE_KEYS; other lists are replaced."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        if value is None:
            result.pop(key, None)
        elif key in MERGE_KEYS and isinstance(value, list) and all(isinstance(v, dict) for v in value):
            result[key] = _merge_list(result.get(key) or [], value, MERGE_KEYS[key])
        else:
            result[key] = strategic(result.get(key), value)
    return result


def _pointer(path: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]


def json_patch(target: Object, steps: list[Object]) -> Object:
    """RFC 6902: add, remove, replace, test."""
    result = copy.deepcopy(target)
    for step in steps:
        *way, last = _pointer(step["path"])
        spot: ANY = result
        try:
            for part in way:
                spot = spot[int(part)] if isinstance(spot, list) else spot[part]
            key: ANY = last if isinstance(spot, dict) else (len(spot) if last == "-" else int(last))
            operation = step["op"]
            if operation == "test":
                if spot[key] != step["value"]:
                    raise Refusal(422, "Invalid", f"testing path {step['path']} value failed")
            elif operation == "remove":
                del spot[key]
            elif operation == "add" and isinstance(spot, list):
                spot.insert(key, step["value"])
            elif operation in {"add", "replace"}:
                if operation == "replace":
                    spot[key]
                spot[key] = step["value"]
            else:
                raise Refusal(400, "BadRequest", f"unsupported operation {operation}")
        except (KeyError, IndexError, ValueError, TypeError) as bad:
            raise Refusal(422, "Invalid", f"the path {step['path']} does not exist: {bad}") from None
    return result


KEYED = {"containers": "name", "initContainers": "name"}  # lists whose items are owned one by one


def _item(step: str) -> dict[str, str] | None:
    return json.loads(step[2:]) if step.startswith("k:") else None


def leaves(value: ANY, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the paths of an object's fields; lists are whole, but for those of KEYED."""
    key = KEYED.get(path[-1]) if path else None
    if key and isinstance(value, list) and all(isinstance(item, dict) and key in item for item in value):
        for item in value:
            yield from leaves(item, (*path, f"k:{json.dumps({key: item[key]}, separators=(',', ':'))}"))
    elif isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif path:
        yield path


def _tree(paths: set[tuple[str, ...]]) -> Object:
    tree: Object = {}
    for path in paths:
        spot = tree
        for step in path:
            spot = spot.setdefault(step if step.startswith("k:") else f"f:{step}", {})
    return tree


def _paths(tree: Object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, below in tree.items():
        step = (*path, key.removeprefix("f:"))
        if below:
            yield from _paths(below, step)
        else:
            yield step


def _value(obj: ANY, path: tuple[str, ...]) -> ANY:
    for step in path:
        wanted = _item(step)
        if wanted is not None:
            items = obj if isinstance(obj, list) else []
            obj = next((one for one in items if wanted.items() <= one.items()), None)
        else:
            obj = obj.get(step) if isinstance(obj, dict) else None
    return obj


_UNOWNED = {
    ("apiVersion",),
    ("kind",),
    ("metadata", "name"),
    ("metadata", "namespace"),
    ("metadata", "resourceVersion"),
}


def _fields(obj: Object) -> set[tuple[str, ...]]:
    return {p for p in leaves(obj) if p not in _UNOWNED and p[:2] != ("metadata", "managedFields")}


def _entry(manager: str, operation: str, api_version: str, paths: set[tuple[str, ...]]) -> Object:
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": api_version,
        "time": now(),
        "fieldsType": "FieldsV1",
        "fieldsV1": _tree(paths),
    }


def own(old: Object, new: Object, manager: str, operation: str = "Update") -> None:
    """Note in `new` that `manager` owns every field that differs from `old`."""
    changed = {p for p in _fields(new) if _value(old, p) != _value(new, p)} | {
        p for p in _fields(old) if _value(new, p) is None
    }
    if not changed or not manager:
        return
    entries = []
    mine = {p for p in changed if _value(new, p) is not None}
    for entry in old.get("metadata", {}).get("managedFields") or ():
        paths = set(_paths(entry["fieldsV1"]))
        if (entry["manager"], entry["operation"]) == (manager, operation):
            mine |= paths - changed
            continue
        kept = paths - changed
        if kept:
            entries.append({**entry, "fieldsV1": _tree(kept)})
    managed = [*entries, _entry(manager, operation, new.get("apiVersion", ""), mine)]
    new["metadata"] = {**new.get("metadata", {}), "managedFields": managed}


def apply(old: Object | None, wanted: Object, manager: str, *, force: bool) -> Object:
    """Server-side apply: conflicts name the other manager; what the manager no longer wants is removed."""
    base = copy.deepcopy(old) if old is not None else {"metadata": {}}
    asked = _fields(wanted)
    entries, conflicts, mine_before = [], [], set()
    for entry in base["metadata"].get("managedFields") or ():
        paths = set(_paths(entry["fieldsV1"]))
        if (entry["manager"], entry["operation"]) == (manager, "Apply"):
            mine_before = paths
            continue
        fought = {p for p in paths & asked if _value(base, p) != _value(wanted, p)}
        conflicts += [(entry["manager"], entry["operation"], p) for p in sorted(fought)]
        kept = paths - fought
        if kept:
            entries.append({**entry, "fieldsV1": _tree(kept)})
    if conflicts and not force:
        named = ", ".join(
            f'conflict with "{m}" using {base.get("apiVersion")}: .{".".join(p)}' for m, _, p in conflicts
        )
        causes = [
            {"reason": "FieldManagerConflict", "message": f'conflict with "{m}"', "field": "." + ".".join(p)}
            for m, _, p in conflicts
        ]
        raise Refusal(409, "Conflict", f"Apply failed with {len(conflicts)} conflict(s): {named}", causes=causes)
    shared = {p for entry in entries for p in _paths(entry["fieldsV1"])}
    result = strategic(base, wanted)
    for path in mine_before - asked - shared:
        spot = _value(result, path[:-1])
        if isinstance(spot, dict):
            spot.pop(path[-1], None)
            if not spot and len(path) > 1 and isinstance(above := _value(result, path[:-2]), dict):
                above.pop(path[-2], None)
    result["metadata"]["managedFields"] = [*entries, _entry(manager, "Apply", wanted.get("apiVersion", ""), asked)]
    return result


def patched(old: Object, content: str, body: bytes) -> Object:
    """Return the object after a patch of the given media type (not apply)."""
    kind = content.partition(";")[0].strip()
    try:
        patch = json.loads(body)
    except ValueError:
        raise Refusal(400, "BadRequest", "the patch is not JSON") from None
    if kind == "application/json-patch+json":
        return json_patch(old, patch)
    if kind == "application/merge-patch+json":
        return merge_patch(old, patch)
    if kind == "application/strategic-merge-patch+json":
        return strategic(old, patch)
    raise Refusal(415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {kind}")
