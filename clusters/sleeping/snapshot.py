"""The entries of a snapshot: one object, one group each, as plain JSON values. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clusters.providers.groups import Group, GroupKind, Sizes
from clusters.sleeping.kinds import KINDS, PHASES, Phase
from clusters.sleeping.objects import Memory, fields_of, memory_of, rests
from clusters.sleeping.world import GroupStep, Kept, Plan, Step, group_key, place_of, uid_of

FORMAT = 1
TAG = "curfew:restore"
STEER_TAG = "curfew:steer"


@dataclass(frozen=True, slots=True)
class Entry:
    """One object and what it was like. `wave` orders waking."""

    phase: str
    kind: str
    namespace: str
    name: str
    uid: str
    wave: int
    memory: Memory

    @property
    def title(self) -> str:
        return "/".join(part for part in (self.kind, self.namespace, self.name) if part)

    def values(self) -> dict[str, Any]:
        return {
            "phase": str(self.phase),
            "kind": self.kind,
            "namespace": self.namespace,
            "name": self.name,
            "uid": self.uid,
            "wave": self.wave,
            "memory": self.memory.values(),
        }

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Entry:
        """Raises ValueError for what is no entry."""
        memory = Memory.read(raw.get("memory"))
        if memory is None or raw.get("kind") not in KINDS or raw.get("phase") not in set(PHASES):
            raise ValueError("an entry cannot be read")
        return cls(
            phase=str(raw["phase"]),
            kind=str(raw["kind"]),
            namespace=str(raw.get("namespace") or ""),
            name=str(raw["name"]),
            uid=str(raw.get("uid") or ""),
            wave=int(raw.get("wave") or 0),
            memory=memory,
        )


@dataclass(frozen=True, slots=True)
class GroupEntry:
    """One group and its sizes. `held`: Curfew suspends its scheduled actions."""

    kind: GroupKind
    name: str
    sizes: Sizes
    held: bool = False
    guarded: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return group_key(self.kind, self.name)

    @classmethod
    def of(cls, group: Group) -> GroupEntry:
        guarded = tuple(sorted(m.id for m in group.machines if m.guarded))
        return cls(group.kind, group.name, group.sizes, bool(group.scheduled) and not group.suspended, guarded)

    def values(self) -> dict[str, Any]:
        sizes = [self.sizes.low, self.sizes.desired, self.sizes.high]
        return {
            "kind": str(self.kind),
            "name": self.name,
            "sizes": sizes,
            "held": self.held,
            "guarded": list(self.guarded),
        }

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> GroupEntry:
        low, desired, high = (int(n) for n in raw["sizes"])
        guarded = tuple(str(i) for i in raw.get("guarded") or ())
        return cls(GroupKind(raw["kind"]), str(raw["name"]), Sizes(low, desired, high), bool(raw.get("held")), guarded)

    def tag(self, snapshot: str) -> str:
        """What the group itself carries: "2-3-10 held <snapshot>", at most 256 characters."""
        return f"{self.sizes.text()} {'held' if self.held else 'free'} {snapshot}"

    def remembered(self, tag: str) -> tuple[GroupEntry, str] | None:
        """The entry as the group's tag tells it, and whose snapshot it is of; None when it is not ours."""
        parts = tag.split()
        try:
            sizes = Sizes(*(int(n) for n in parts[0].split("-")))
            return GroupEntry(self.kind, self.name, sizes, parts[1] == "held", self.guarded), parts[2]
        except (ValueError, IndexError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class Decision:
    """Which nodes leave: groups with their sizes asleep and the machines to guard, claims to delete, nodes by name."""

    groups: tuple[GroupStep, ...] = ()
    claims: tuple[tuple[str, str], ...] = ()
    nodes: tuple[str, ...] = ()
    staying: Mapping[str, str] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        return {
            "groups": [
                {
                    "key": g.key,
                    "kind": str(g.kind),
                    "name": g.name,
                    "before": [g.before.low, g.before.desired, g.before.high],
                    "after": [g.after.low, g.after.desired, g.after.high],
                    "guard": list(g.guard),
                    "nodes": list(g.nodes),
                }
                for g in self.groups
            ],
            "claims": [list(pair) for pair in self.claims],
            "nodes": list(self.nodes),
            "staying": dict(self.staying),
        }

    @classmethod
    def read(cls, raw: Mapping[str, Any] | None) -> Decision | None:
        if raw is None:
            return None
        groups = tuple(
            GroupStep(
                g["key"],
                GroupKind(g["kind"]),
                g["name"],
                Sizes(*g["before"]),
                Sizes(*g["after"]),
                tuple(g["guard"]),
                tuple(g["nodes"]),
            )
            for g in raw["groups"]
        )
        claims = tuple((str(name), str(uid)) for name, uid in raw["claims"])
        return cls(groups, claims, tuple(raw["nodes"]), dict(raw.get("staying") or {}))


def entry_of(step: Step, snapshot: str) -> Entry:
    """What a step's object is like now; of one that rests already, what its own memory says."""
    known = memory_of(step.obj) if rests(step.obj, step.kind) else None
    memory = known or Memory.of(step.obj, fields_of(step.kind, step.obj), snapshot)
    return Entry(step.phase, step.kind, step.namespace, step.name, uid_of(step.obj), step.wave, memory)


def entries_of(plan: Plan, taken_over: Sequence[Step], snapshot: str) -> list[Entry]:
    """Everything that sleeps or sleeps already, in the order of falling asleep."""
    planned = [entry_of(step, snapshot) for step in plan.steps]
    known = {(e.kind, e.namespace, e.name) for e in planned}
    more = [entry_of(step, snapshot) for step in taken_over if step.key not in known]
    order = {phase: number for number, phase in enumerate(PHASES)}
    return sorted([*planned, *more], key=lambda e: (order[Phase(e.phase)], -e.wave))


def read_entries(raw: Iterable[Mapping[str, Any]]) -> list[Entry]:
    return [Entry.read(one) for one in raw]


def kept_values(kept: Iterable[Kept]) -> list[dict[str, str]]:
    return [{"what": k.what, "why": str(k.reason.why), "words": k.reason.words} for k in kept]


__all__ = [
    "FORMAT",
    "STEER_TAG",
    "TAG",
    "Decision",
    "Entry",
    "GroupEntry",
    "entries_of",
    "kept_values",
    "place_of",
    "read_entries",
]
