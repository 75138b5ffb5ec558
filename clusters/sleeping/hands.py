"""One object or one group put to sleep or woken. Every function looks first, so repeating it changes nothing.

`fence` is called between the look and the change; it raises when another worker holds the order now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from clusters.orders.kube import AgentKube
from clusters.providers.groups import Group, GroupKind, NodeGroups, Sizes
from clusters.providers.kube import KubeApi
from clusters.sleeping.kinds import UNSET, Object
from clusters.sleeping.objects import (
    Memory,
    awake,
    fields_of,
    guarded,
    look,
    memory_of,
    rests,
    sleeping,
    still_asleep,
)
from clusters.sleeping.observe import resource_of
from clusters.sleeping.snapshot import STEER_TAG, TAG, Entry, GroupEntry
from clusters.sleeping.world import GroupStep, uid_of
from core.providers import ProviderError

TRIES = 5
PAUSE_SECONDS = 0.2
Answer = TypeVar("Answer")


class Did(StrEnum):
    """What became of one object or group."""

    DONE = "done"
    ALREADY = "already"
    GONE = "gone"
    KEPT = "kept"  # somebody changed it meanwhile; the change stands


@dataclass(frozen=True, slots=True)
class Hands:
    """The ways to one cluster, and the fence of one order."""

    kube: KubeApi
    groups: NodeGroups | None
    fence: Callable[[], None]

    def patiently(self, step: Callable[[], Answer]) -> Answer:
        """Try a step again when it failed for a reason that passes; what happened is read anew each time."""
        for attempt in range(TRIES):
            try:
                return step()
            except ProviderError as failure:
                if not failure.transient or attempt == TRIES - 1:
                    raise
                time.sleep(PAUSE_SECONDS * 2**attempt)
                self.fence()
        raise AssertionError("unreachable")

    def together(self, entries: Sequence[Entry], act: Callable[[Entry], Did]) -> dict[str, Did]:
        """Where each call takes a while: look at all of them in one order and change them in another. Returns, by title,
        what went through; whatever is left is done one by one, as anywhere else."""
        kube = self.kube
        if not isinstance(kube, AgentKube) or len(entries) < 2:
            return {}
        done: dict[str, Did] = {}
        owed: list[tuple[str, Did]] = []
        try:
            kube.prefetch([(resource_of(e.kind), e.namespace, e.name) for e in entries])
            with kube.together() as calls:
                for entry in entries:
                    before = len(calls)
                    did = act(entry)
                    if len(calls) == before:
                        done[entry.title] = did
                    else:
                        owed.append((entry.title, did))
            self.fence()
            went = kube.flush(calls)
        except ProviderError:
            return done
        return {**done, **{title: did for (title, did), ok in zip(owed, went, strict=True) if ok}}

    # objects

    def sleep_object(self, entry: Entry, snapshot: str, *, again: bool = False) -> Did:
        """`again`: it slept and was woken by somebody else; what is remembered of it stands."""
        return self.patiently(lambda: self._sleep_object(entry, snapshot, again))

    def _sleep_object(self, entry: Entry, snapshot: str, again: bool) -> Did:
        obj = self.kube.get(resource_of(entry.kind), entry.namespace, entry.name)
        if obj is None:
            return Did.GONE
        fields = fields_of(entry.kind, obj)
        if rests(obj, entry.kind) or not fields:
            return Did.ALREADY
        known = memory_of(obj)
        if known is None or known.snapshot != snapshot:
            known = entry.memory if again else Memory.of(obj, fields, snapshot)
        return self._change(entry, obj, sleeping(obj, fields, known))

    def wake_object(self, entry: Entry) -> Did:
        return self.patiently(lambda: self._wake_object(entry))

    def _wake_object(self, entry: Entry) -> Did:
        obj = self.kube.get(resource_of(entry.kind), entry.namespace, entry.name)
        if obj is None:
            return Did.GONE
        memory = memory_of(obj)
        if memory is None:
            # woken already, or something stripped our annotation: then its fields still sleep
            if uid_of(obj) != entry.uid or not _sleeps_without_memory(obj, entry):
                return Did.ALREADY
            return self._change(entry, obj, awake(obj, entry.memory))
        asleep = still_asleep(obj, memory, entry.kind)
        did = self._change(entry, obj, awake(obj, memory, restore=asleep))
        return did if asleep or did is Did.GONE else Did.KEPT

    def _change(self, entry: Entry, old: Object, new: Object) -> Did:
        patch = guarded(old, new)
        if not patch:
            return Did.ALREADY
        self.fence()
        done = self.kube.patch(resource_of(entry.kind), entry.namespace, entry.name, patch)
        return Did.GONE if done is None else Did.DONE

    def end_claim(self, name: str, uid: str) -> Did:
        """Delete a NodeClaim: Karpenter drains its node under the budgets and ends it."""

        def step() -> Did:
            self.fence()
            return Did.DONE if self.kube.delete(resource_of("NodeClaim"), "", name, uid=uid) else Did.ALREADY

        return self.patiently(step)

    # groups

    def _group(self, kind: GroupKind, name: str) -> Group | None:
        return self.groups.read(kind, name) if self.groups is not None else None

    def sleep_group(self, entry: GroupEntry, step: GroupStep, snapshot: str) -> Did:
        return self.patiently(lambda: self._sleep_group(entry, step, snapshot))

    def _sleep_group(self, entry: GroupEntry, step: GroupStep, snapshot: str) -> Did:
        group = self._group(entry.kind, entry.name)
        if group is None or self.groups is None:
            return Did.GONE
        told = entry.remembered(group.tags.get(TAG, ""))
        if told is None or (told[1] != snapshot and group.sizes.desired > 0):
            told = (GroupEntry.of(group), snapshot)
            self.fence()
            self.groups.remember(group, TAG, told[0].tag(snapshot))
        if told[0].held and not group.suspended:
            self.fence()
            self.groups.hold_schedule(group, on=True)
        loose = {m.id for m in group.machines if not m.guarded} & set(step.guard)
        if loose:
            self.fence()
            self.groups.guard(group, loose, on=True)
        if group.sizes == step.after:
            return Did.ALREADY
        self.fence()
        self.groups.resize(group, step.after, token=f"sleep-{snapshot}-{entry.name}"[:64])
        return Did.DONE

    def wake_group(self, entry: GroupEntry, after: Sizes | None, order: str) -> Did:
        return self.patiently(lambda: self._wake_group(entry, after, order))

    def _wake_group(self, entry: GroupEntry, after: Sizes | None, order: str) -> Did:
        """`after` are the sizes that sleep gave it; None when it was never shrunk."""
        group = self._group(entry.kind, entry.name)
        if group is None or self.groups is None:
            return Did.GONE
        told = entry.remembered(group.tags.get(TAG, ""))
        if told is None:
            if after is None or group.sizes != after or group.sizes == entry.sizes:
                return Did.ALREADY
            told = (entry, "")  # the tag was taken off, the sizes still sleep
        saved = told[0]
        did = Did.ALREADY
        if not restored(group.sizes, saved.sizes, after):
            self.fence()
            self.groups.resize(group, saved.sizes, token=f"wake-{order}-{entry.name}"[:64])
            did = Did.DONE
        ours = {m.id for m in group.machines if m.guarded} - set(entry.guarded)
        if ours and after is not None and after.desired > 0:
            self.fence()
            self.groups.guard(group, ours, on=False)
        if saved.held and group.suspended:
            self.fence()
            self.groups.hold_schedule(group, on=False)
        if TAG in group.tags:
            self.fence()
            self.groups.forget(group, TAG)
        return did

    def unsteer(self, entry: GroupEntry) -> Did:
        """Give a group its own subnets and its own share of on-demand back."""
        return self.patiently(lambda: self._unsteer(entry))

    def _unsteer(self, entry: GroupEntry) -> Did:
        group = self._group(entry.kind, entry.name)
        if group is None or self.groups is None or STEER_TAG not in group.tags:
            return Did.ALREADY
        subnets, _, share = group.tags[STEER_TAG].partition(" ")
        wanted = [s for s in subnets.split("+") if s and s != "-"]
        percent = int(share) if share.isdigit() else None
        self.fence()
        self.groups.steer(group, subnets=wanted, on_demand=percent)
        self.groups.forget(group, STEER_TAG)
        return Did.DONE


def restored(now: Sizes, saved: Sizes, after: Sizes | None) -> bool:
    """Whether a group has its bounds back and more machines wanted than asleep: an autoscaler may have moved it since."""
    if now == saved:
        return True
    if (now.low, now.high) != (saved.low, saved.high):
        return False
    return after is not None and now.desired > after.desired


def _sleeps_without_memory(obj: Object, entry: Entry) -> bool:
    before = awake(obj, entry.memory)
    asleep = fields_of(entry.kind, before)
    changed = any(look(before, path) != look(obj, path) for path in asleep)
    return bool(asleep) and changed and all(_same(look(obj, path), value) for path, value in asleep.items())


def _same(value: object, wanted: object) -> bool:
    return value is UNSET if wanted is UNSET else value == wanted
