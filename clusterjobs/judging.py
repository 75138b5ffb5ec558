"""What a Job and its pod say of a task. Pure: objects of the API in, a verdict out.

A container counts as ended only when its own status says so or its pod is gone for certain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clusterjobs.enums import CONTAINER, IMAGE_PATIENCE_SECONDS, PENDING_SECONDS

Object = Mapping[str, Any]
_IMAGE_AT_ONCE = {"InvalidImageName", "ErrImageNeverPull"}
_IMAGE = {"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError", *_IMAGE_AT_ONCE}
_START = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff"}
_OWN_FAULT = ("exceeds the total limit of containers", "ephemeral local storage usage exceeds", "Usage of EmptyDir")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`state` is wait, running or ended. An ended one has a class, a code where there is one, and words.

    `certain` is False when a pod may still be there: it has to be removed before the end counts.
    """

    state: str
    words: str = ""
    exit_class: str = ""
    exit_code: int | None = None
    certain: bool = True
    pod: str = ""
    started: bool = False


def judge(job: Object | None, pods: Sequence[Object], *, waited: float) -> Verdict:
    """`waited` is the seconds since the Job was made."""
    found = sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp") or ""))
    over = next((pod for pod in found if _has_ended(pod)), None)
    pod = over or (found[0] if found else None)
    if pod is None:
        return _without_pod(job, waited)
    name = str(pod["metadata"]["name"])
    if over is not None:
        return _ended(over, name)
    if job is None:
        return Verdict("ended", "Somebody deleted its Job.", "lost", certain=False, pod=name)
    return _alive(pod, name, waited)


def _without_pod(job: Object | None, waited: float) -> Verdict:
    if job is None:
        return Verdict("ended", "Somebody deleted its Job.", "lost")
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition.get("status") != "True":
            continue
        if condition.get("type") == "Complete":
            return Verdict("ended", "Its Job succeeded; its pod is gone already.", "ok", 0)
        if condition.get("type") == "Failed" and condition.get("reason") == "DeadlineExceeded":
            return Verdict("ended", "It did not end within the time of its Job.", "timeout")
        if condition.get("type") == "Failed":
            return Verdict("ended", "Somebody deleted its pod, or its node was lost.", "lost")
    if waited > PENDING_SECONDS:
        return Verdict("ended", "The cluster made no pod for its Job.", "start", certain=False)
    return Verdict("wait", "Waits for the cluster to make its pod")


def _status(pod: Object) -> Object:
    return pod.get("status") or {}


def _container(pod: Object) -> Object:
    """The state of the task's container."""
    for status in _status(pod).get("containerStatuses") or ():
        if status.get("name") == CONTAINER:
            return status.get("state") or {}
    return {}


def _has_ended(pod: Object) -> bool:
    return _status(pod).get("phase") in ("Succeeded", "Failed") or bool(_container(pod).get("terminated"))


def _ended(pod: Object, name: str) -> Verdict:
    status, terminated = _status(pod), _container(pod).get("terminated") or {}
    reason, message = str(status.get("reason") or ""), str(status.get("message") or "")
    code = terminated.get("exitCode")
    why = str(terminated.get("reason") or "")
    started = bool(terminated.get("startedAt")) and why not in ("StartError", "ContainerCannotRun")

    def ended(exit_class: str, words: str = "", exit_code: int | None = None) -> Verdict:
        return Verdict("ended", words[:500], exit_class, exit_code, pod=name, started=started)

    if reason == "DeadlineExceeded":
        return ended("timeout", "", code)
    if reason == "Evicted":
        own = any(words in message for words in _OWN_FAULT)
        return ended("error" if own else "lost", f"The cluster evicted its pod: {message}", code)
    disrupted = _condition(status, "DisruptionTarget")
    if disrupted:
        told = disrupted.get("message") or disrupted.get("reason") or ""
        return ended("lost", f"The cluster removed its pod: {told}", code)
    if why == "OOMKilled":
        return ended("oom", "", code)
    if why in ("StartError", "ContainerCannotRun", "RunContainerError"):
        return ended("start", f"The container could not be started: {terminated.get('message') or why}", code)
    if why == "ContainerStatusUnknown" or not terminated:
        if status.get("phase") == "Succeeded":
            return ended("ok", "", 0)
        return ended("lost", f"The cluster lost its pod: {reason} {message}".strip(": "), None)
    return ended("ok" if code == 0 else "error", "", code)


def _condition(status: Object, kind: str) -> Object | None:
    return next(
        (c for c in status.get("conditions") or () if c.get("type") == kind and c.get("status") == "True"), None
    )


def _alive(pod: Object, name: str, waited: float) -> Verdict:
    node = str((pod.get("spec") or {}).get("nodeName") or "")
    state = _container(pod)
    if state.get("running"):
        if pod["metadata"].get("deletionTimestamp"):
            words = f"Its pod is being removed; waits for the word of {node or 'its node'}"
            return Verdict("running", words, pod=name, started=True)
        return Verdict("running", f"on {node}" if node else "", pod=name, started=True)
    waiting = state.get("waiting") or {}
    why, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    if why in _IMAGE_AT_ONCE or (why in _IMAGE and waited > IMAGE_PATIENCE_SECONDS):
        words = f"The image could not be had: {message or why}"[:500]
        return Verdict("ended", words, "image", certain=False, pod=name)
    if why in _START and waited > IMAGE_PATIENCE_SECONDS:
        words = f"The container could not be started: {message or why}"[:500]
        return Verdict("ended", words, "start", certain=False, pod=name)
    words = _pending(pod, node, why)
    if waited > PENDING_SECONDS:
        return Verdict("ended", f"Not started within 15 minutes. {words}"[:500], "start", certain=False, pod=name)
    return Verdict("wait", words, pod=name)


def _pending(pod: Object, node: str, why: str) -> str:
    for condition in _status(pod).get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"No node has room: {condition.get('message') or condition.get('reason')}"[:400]
    return f"Starting on {node or 'a node'}" + (f" ({why})" if why else "")
