"""From an AdmissionReview's bytes to the answer's. Pure. Whatever comes in, the pod is allowed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent.wire.placement import Rules, owner_of, place, steps

LARGEST = 4 * 1024 * 1024
VERSION = "admission.k8s.io/v1"
_dump = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


class Unreadable(Exception):
    """No review: there is not even a uid to answer to."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer's bytes; `done` names what was done to the pod, `problem` why nothing could be."""

    body: bytes
    done: tuple[str, ...] = ()
    problem: str = ""


def judge(body: bytes, rules: Rules, softened: Callable[[str], bool]) -> Verdict:
    """Answer a review. `softened` says whether pods of an owner ("Kind/namespace/name") get hard rules as wishes.

    Raises Unreadable when the bytes are no review.
    """
    try:
        review = json.loads(body)
    except (ValueError, RecursionError):
        raise Unreadable("the body is no JSON that can be read") from None
    request = review.get("request") if isinstance(review, dict) else None
    uid = request.get("uid") if isinstance(request, dict) else None
    if not isinstance(request, dict) or not isinstance(uid, str) or not 0 < len(uid) <= 200:
        raise Unreadable("the body is no AdmissionReview")
    response: dict[str, Any] = {"uid": uid, "allowed": True}
    done: tuple[str, ...] = ()
    problem = ""
    try:
        patch, done = _patch(request, rules, softened)
        if patch:
            response["patchType"] = "JSONPatch"
            response["patch"] = base64.b64encode(_dump(patch).encode()).decode()
    except Exception as odd:  # noqa: BLE001  a pod is never held up by what it looks like
        problem, done = f"{type(odd).__name__}: {odd}"[:200], ()
        response["warnings"] = ["Curfew could not apply its placement rules to this pod."]
    answer = {"apiVersion": VERSION, "kind": "AdmissionReview", "response": response}
    return Verdict(_dump(answer).encode(), done, problem)


def _patch(
    request: dict[str, Any], rules: Rules, softened: Callable[[str], bool]
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    kind, pod = request.get("kind"), request.get("object")
    is_pod = isinstance(kind, dict) and (kind.get("group") or "", kind.get("kind")) == ("", "Pod")
    namespace = request.get("namespace")
    if not is_pod or request.get("operation") != "CREATE" or request.get("subResource"):
        return [], ()
    if not isinstance(pod, dict) or not isinstance(namespace, str) or not isinstance(pod.get("spec"), dict):
        return [], ()
    metadata = pod.get("metadata")
    owner = owner_of(metadata) if isinstance(metadata, dict) else ("", "")
    soft = bool(owner[0]) and softened(f"{owner[0]}/{namespace}/{owner[1]}")
    placed = place(rules, namespace, pod, soft=soft)
    return steps(pod, placed), placed.done
