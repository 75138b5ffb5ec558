"""Whether a change does harm: kills, restarts, pods that find no room, a roll-out that does not end, slow answers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from clusters.sleeping.kinds import Object, labels_of, spec_of
from clusters.sleeping.world import matches, place_of

RESTARTS = 2
SLOWER, SLOWER_SECONDS = 2.0, 0.1
ROLLOUT_SECONDS = 600.0
NO_ROOM_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a workload after its change. `harm` is in words, "" when there is none."""

    settled: bool
    harm: str = ""


def pods_of(obj: Object, pods: Sequence[Object]) -> list[Object]:
    """The workload's pods that are not on their way out."""
    namespace, _ = place_of(obj)
    selector = spec_of(obj).get("selector")
    return [
        pod
        for pod in pods
        if place_of(pod)[0] == namespace
        and matches(selector, labels_of(pod))
        and not (pod.get("metadata") or {}).get("deletionTimestamp")
        and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
    ]


def baseline(obj: Object, pods: Sequence[Object], latency: float | None) -> dict[str, Any]:
    """What was so before: ready replicas, restarts by pod and container, how fast it answered."""
    restarts = {
        str(pod["metadata"].get("uid")): {str(s.get("name")): int(s.get("restartCount") or 0) for s in _statuses(pod)}
        for pod in pods_of(obj, pods)
    }
    ready = int((obj.get("status") or {}).get("readyReplicas") or 0)
    return {"ready": ready, "restarts": restarts, "latency": latency}


def settled(obj: Object) -> bool:
    """Whether the roll-out of the newest template is over."""
    spec, status = spec_of(obj), obj.get("status") or {}
    generation = (obj.get("metadata") or {}).get("generation")
    if generation is not None and int(status.get("observedGeneration") or 0) < int(generation):
        return False
    replicas = int(spec.get("replicas", 1))
    if (spec.get("updateStrategy") or {}).get("type") == "OnDelete":
        return True
    updated = int(status.get("updatedReplicas") or 0)
    return updated >= replicas and int(status.get("replicas") or 0) <= updated


def judge(
    obj: Object,
    pods: Sequence[Object],
    before: Mapping[str, Any],
    *,
    applied_at: datetime,
    now: datetime,
    latencies: Sequence[float | None] = (),
) -> Look:
    """One look. A latency of None is a probe that failed; three bad ones in a row count."""
    mine = pods_of(obj, pods)
    age = (now - applied_at).total_seconds()
    done = settled(obj)
    harm = next((words for pod in mine if (words := _broken(pod, before, applied_at))), "")
    if not harm and age > NO_ROOM_SECONDS and not done:
        harm = next((words for pod in mine if (words := _no_room(pod))), "")
    if not harm and not done and age > ROLLOUT_SECONDS:
        harm = f"the roll-out did not end in {ROLLOUT_SECONDS / 60:.0f} minutes"
    wanted = min(int(before.get("ready") or 0), int(spec_of(obj).get("replicas", 1)))
    ready = int((obj.get("status") or {}).get("readyReplicas") or 0)
    if not harm and done and ready < wanted and age > ROLLOUT_SECONDS:
        harm = f"only {ready} of {wanted} replicas are ready"
    return Look(done and ready >= wanted, harm or _slow(before.get("latency"), latencies))


def _statuses(pod: Object) -> list[Object]:
    found = (pod.get("status") or {}).get("containerStatuses")
    return found if isinstance(found, list) else []


def _broken(pod: Object, before: Mapping[str, Any], applied_at: datetime) -> str:
    known = (before.get("restarts") or {}).get(str((pod.get("metadata") or {}).get("uid"))) or {}
    for status in _statuses(pod):
        name = str(status.get("name"))
        for state in (status.get("state") or {}, status.get("lastState") or {}):
            ended = state.get("terminated") or {}
            if ended.get("reason") == "OOMKilled" and _after(ended.get("finishedAt"), applied_at):
                return f"{name} was killed for lack of memory"
        more = int(status.get("restartCount") or 0) - int(known.get(name, 0))
        if more >= RESTARTS:
            return f"{name} was started {more} times again"
    return ""


def _after(moment: object, applied_at: datetime) -> bool:
    try:
        return datetime.fromisoformat(str(moment)) >= applied_at.replace(microsecond=0)
    except ValueError:
        return True


def _no_room(pod: Object) -> str:
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return "no node has room for its pods"
        if condition.get("type") == "PodResizePending" and condition.get("reason") == "Infeasible":
            return "its node has no room for the larger size"
    return ""


def _slow(before: float | None, latencies: Sequence[float | None]) -> str:
    if before is None or len(latencies) < 3:
        return ""
    last = latencies[-3:]
    most = SLOWER * before + SLOWER_SECONDS
    if all(one is None or one > most for one in last):
        known = [one for one in last if one is not None]
        seen = f"answers in {min(known):.2f} s" if known else "does not answer"
        return f"it {seen}, before the change in {before:.2f} s"
    return ""
