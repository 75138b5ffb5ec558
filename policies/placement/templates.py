"""A workload's template with the rules in it, and given back exactly. Pure.

What the template had is remembered on the workload in the same request as the change (`curfew.dev/placement-restore`), as
sleep does. The change is a server-side apply under a field manager of its own, guarded by the version that was read;
giving back is a guarded merge patch, after which nothing of ours is left.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clusters.inventory.placement import FIELDS, MARK, Placed, Rules, marked, place, why_exempt

MANAGER = "curfew-placement"
RESTORE = "curfew.dev/placement-restore"
Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Memory:
    """Fields of the template's spec as they were (`saved`), those that were absent, and what we wrote."""

    saved: Mapping[str, Any] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    wrote: Mapping[str, Any] = field(default_factory=dict)

    def values(self) -> Object:
        return {"saved": dict(self.saved), "unset": list(self.unset), "wrote": dict(self.wrote)}

    @classmethod
    def read(cls, raw: object) -> Memory | None:
        """From the annotation's text or the database's value; None when it is not ours."""
        try:
            values = json.loads(raw) if isinstance(raw, str) else raw
            assert isinstance(values, dict)
            saved, wrote = dict(values["saved"]), dict(values["wrote"])
            unset = tuple(str(name) for name in values["unset"])
        except (ValueError, KeyError, TypeError, AttributeError, AssertionError, RecursionError):
            return None
        return cls(saved, unset, wrote) if {*saved, *unset, *wrote} <= set(FIELDS) else None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to do with one workload; `body` is {} when all is well. It is applied, or merged when `merged`: applying
    anew cannot take a field away without leaving its empty shell. `restoring`: afterwards nothing of ours is left.

    `kept` names fields that somebody changed after us: they stay as they are.
    """

    body: Object = field(default_factory=dict)
    restoring: bool = False
    memory: Memory | None = None
    placed: Placed = field(default_factory=Placed)
    kept: tuple[str, ...] = ()
    reverted: bool = False
    merged: bool = False


def template_of(obj: Object) -> Object:
    found = (obj.get("spec") or {}).get("template")
    return found if isinstance(found, dict) else {}


def memory_on(obj: Object) -> Memory | None:
    return Memory.read(((obj.get("metadata") or {}).get("annotations") or {}).get(RESTORE))


def judge(rules: Rules, obj: Object, kind: str, *, known: Memory | None = None, soft: bool = False) -> Wanted:
    """What a workload's template should become. `known` is what the database remembers of it, for when its annotation
    was stripped."""
    metadata, template = obj.get("metadata") or {}, template_of(obj)
    noted = memory_on(obj)
    memory = noted or known
    before, kept = _before(template, memory)
    labels = {**(metadata.get("labels") or {}), **((template.get("metadata") or {}).get("labels") or {})}
    namespace = str(metadata.get("namespace") or "")
    exempt = why_exempt(rules, namespace, labels)
    placed = Placed(exempt=exempt) if exempt else place(rules, namespace, before, soft=soft, kind=kind)
    reverted = noted is None and known is not None and not _ours(template, known)
    if not placed.fields:
        return Wanted(_given_back(obj, before), True, memory, placed, kept, reverted, True)
    fresh = _remembered(before, placed, memory)
    body = _applied(obj, kind, before, placed, fresh)
    if _stands(obj, body):
        body = {}
    again = _ours(template, memory) if memory is not None else False
    if body and again:
        body = _merged(obj, before, body)
    return Wanted(body, False, fresh, placed, kept, reverted, again)


def _before(template: Object, memory: Memory | None) -> tuple[Object, tuple[str, ...]]:
    """The template without us, and the fields that somebody changed after us: of those only our part is taken out."""
    made = copy.deepcopy(template)
    kept: list[str] = []
    spec = made.setdefault("spec", {})
    for name, wrote in (memory.wrote if memory is not None else {}).items():
        assert memory is not None
        here, saved = spec.get(name), memory.saved.get(name)
        if here not in (wrote, saved):
            kept.append(name)
        back = undone(here, wrote, saved) if here is not None else None
        if back is None:
            spec.pop(name, None)
        else:
            spec[name] = copy.deepcopy(back)
    metadata = made.get("metadata") or {}
    annotations = metadata.get("annotations")
    if isinstance(annotations, dict) and MARK in annotations:
        del annotations[MARK]
        if not annotations:
            del metadata["annotations"]
    return made, tuple(kept)


def undone(here: Any, wrote: Any, saved: Any) -> Any:
    """A value without what we put into it; None when nothing is left of it. What others put in stays."""
    if here == wrote:
        return saved
    if isinstance(here, dict) and isinstance(wrote, dict):
        base = saved if isinstance(saved, dict) else {}
        made = {k: undone(v, wrote[k], base.get(k)) if k in wrote else v for k, v in here.items()}
        made = {k: v for k, v in made.items() if v is not None}
        return made or (None if saved is None else saved)
    if isinstance(here, list) and isinstance(wrote, list):
        former = saved if isinstance(saved, list) else []
        left = []
        for item in here:
            if item not in wrote or item in former:
                left.append(item)
            elif len(wrote) == len(former):
                left.append(former[wrote.index(item)])  # an item that we changed, not one that we added
        return left or (None if saved is None else saved)
    return here


def _ours(template: Object, memory: Memory) -> bool:
    """Whether anything of what we wrote is still there."""
    spec = template.get("spec") or {}
    return any(spec.get(name) == wrote != memory.saved.get(name) for name, wrote in memory.wrote.items())


def _remembered(before: Object, placed: Placed, memory: Memory | None) -> Memory:
    """Every field that we set now or set before. One that we gave up stays remembered, so that applying keeps it."""
    spec = before.get("spec") or {}
    names = [name for name in FIELDS if name in placed.fields or (memory is not None and name in memory.saved)]
    saved = {name: copy.deepcopy(spec[name]) for name in names if name in spec}
    unset = tuple(name for name in names if name not in spec)
    wrote = {name: placed.fields.get(name, spec.get(name)) for name in names}
    return Memory(saved, unset, wrote)


def _applied(obj: Object, kind: str, before: Object, placed: Placed, memory: Memory) -> Object:
    """The configuration to apply: the fields that are ours, whole, the note, and the memory."""
    metadata = obj.get("metadata") or {}
    spec = before.get("spec") or {}
    text = json.dumps(memory.values(), sort_keys=True, separators=(",", ":"))
    return {
        "apiVersion": str(obj.get("apiVersion") or "apps/v1"),
        "kind": kind,
        "metadata": {
            "name": metadata.get("name"),
            "namespace": metadata.get("namespace"),
            "resourceVersion": metadata.get("resourceVersion"),
            "annotations": {RESTORE: text},
        },
        "spec": {
            "template": {
                "metadata": {"annotations": {MARK: marked({}, placed)}},
                "spec": {name: placed.fields.get(name, spec.get(name)) for name in memory.wrote},
            }
        },
    }


def _merged(obj: Object, before: Object, body: Object) -> Object:
    """The same change as a merge patch: fields that were given up get what they had."""
    old, wanted = template_of(obj).get("spec") or {}, {**(before.get("spec") or {}), **body["spec"]["template"]["spec"]}
    spec: Object = {}
    for name in FIELDS:
        if old.get(name) != wanted.get(name):
            spec[name] = _merge(old.get(name), wanted[name]) if name in wanted else None
    template = {"metadata": body["spec"]["template"]["metadata"], "spec": spec}
    metadata = {name: body["metadata"][name] for name in ("resourceVersion", "annotations")}
    return {"metadata": metadata, "spec": {"template": template}}


def _stands(obj: Object, body: Object) -> bool:
    """Whether the workload says already what we would apply."""
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    template = template_of(obj)
    notes = (template.get("metadata") or {}).get("annotations") or {}
    wanted = body["spec"]["template"]
    spec = template.get("spec") or {}
    return bool(
        annotations.get(RESTORE) == body["metadata"]["annotations"][RESTORE]
        and notes.get(MARK) == wanted["metadata"]["annotations"][MARK]
        and all(spec.get(name) == value for name, value in wanted["spec"].items())
    )


def _given_back(obj: Object, before: Object) -> Object:
    """The merge patch after which nothing of ours is left; {} when there is nothing."""
    template = template_of(obj)
    old, new = template.get("spec") or {}, before.get("spec") or {}
    spec: Object = {}
    for name in FIELDS:
        if old.get(name) != new.get(name):
            spec[name] = _merge(old.get(name), new[name]) if name in new else None
    patch: Object = {"spec": {"template": {"spec": spec}}} if spec else {}
    notes = (template.get("metadata") or {}).get("annotations") or {}
    if MARK in notes:
        alone = len(notes) == 1
        patch.setdefault("spec", {}).setdefault("template", {})["metadata"] = {
            "annotations": None if alone else {MARK: None}
        }
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    if RESTORE in annotations:
        patch["metadata"] = {"annotations": None if len(annotations) == 1 else {RESTORE: None}}
    if patch:
        patch.setdefault("metadata", {})["resourceVersion"] = (obj.get("metadata") or {}).get("resourceVersion")
    return patch


def _merge(old: Any, new: Any) -> Any:
    """RFC 7386 from old to new: what is left out of an object would stay."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return copy.deepcopy(new)
    made: Object = {key: None for key in old if key not in new}
    for key, value in new.items():
        if key not in old or old[key] != value:
            made[key] = _merge(old.get(key), value)
    return made
