"""A job controller and a kubelet for an API server without them, real or fake: what tests say becomes of pods.

    cell = Kubelet(api, "curfew-tasks", fake)
    cell.step()                      # pods are made for Jobs, taken with them
    cell.run("task-…")               # its container runs
    cell.print("task-…", b"hello\n")
    cell.end("task-…", code=0)

A log is a file of entries as a container runtime writes it: a time, and a line or a part of a long one. It is answered
as a kubelet does: entries whose time is not before `sinceTime`, a time before each line.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from clusterjobs.enums import CONTAINER, RUN
from clusterjobs.providers.kube import JOBS, PODS, HttpJobs
from tests.fakes.kube import FakeKube

Object = dict[str, Any]
PART = 16 * 1024
STAMP = "%Y-%m-%dT%H:%M:%S"


@dataclass
class File:
    """One container's log. `rotate` makes the earlier entries unreadable, as they are in another file."""

    entries: list[tuple[datetime, int, bytes, bool]] = field(default_factory=list)

    def write(self, data: bytes, at: datetime, nano: int = 0) -> None:
        for line in data.splitlines(keepends=True):
            for start in range(0, len(line), PART):
                part = line[start : start + PART]
                whole = part.endswith(b"\n")
                self.entries.append((at, nano, part, not whole))

    def rotate(self, keep: int = 0) -> None:
        self.entries = self.entries[len(self.entries) - keep :]

    def read(self, since: str = "") -> bytes:
        start = datetime.fromisoformat(since) if since else None
        out, fresh = [], True
        for at, nano, part, partial in self.entries:
            if start is not None and at < start:
                continue
            if fresh:
                out.append(f"{at.strftime(STAMP)}.{nano:09d}Z ".encode())
            out.append(part)
            fresh = not partial
        return b"".join(out)


class Kubelet:
    """Acts on the Jobs of one namespace."""

    def __init__(self, api: HttpJobs, namespace: str, fake: FakeKube | None, now: Callable[[], datetime]) -> None:
        self.api, self.namespace, self.now = api, namespace, now
        self.files: dict[str, File] = {}
        self.made: list[str] = []
        if fake is not None:
            fake.read_log = lambda ns, pod, query: self.files.setdefault(pod, File()).read(query.get("sinceTime", ""))

    def jobs(self) -> list[Object]:
        return self.api.labelled(JOBS, self.namespace, RUN)

    def pods(self, job: str = "") -> list[Object]:
        return self.api.labelled(PODS, self.namespace, f"{RUN}={job}" if job else RUN)

    def step(self) -> None:
        """Each Job gets its one pod; pods whose Job is gone go."""
        jobs = {job["metadata"]["name"]: job for job in self.jobs()}
        have = {pod["metadata"]["labels"][RUN]: pod for pod in self.pods()}
        for name, pod in have.items():
            if name not in jobs or pod["metadata"].get("deletionTimestamp"):
                self.remove(pod)
        for name, job in jobs.items():
            if name not in have and not (job.get("status") or {}).get("conditions"):
                self._pod(name, job)

    def remove(self, pod: Object) -> None:
        body = {"gracePeriodSeconds": 0}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}"
        self.api._call("DELETE", path, body=body)

    def _pod(self, name: str, job: Object) -> None:
        template = job["spec"]["template"]
        pod_name = f"{name}-{secrets.token_hex(2)}"
        owner = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": name,
            "uid": job["metadata"]["uid"],
            "controller": True,
        }
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": pod_name, "namespace": self.namespace, "labels": template["metadata"]["labels"],
                "ownerReferences": [owner],
            },
            "spec": template["spec"],
        }  # fmt: skip
        self.api.create(PODS, self.namespace, body)
        self.made.append(name)

    def pod(self, job: str) -> str:
        return str(self.pods(job)[0]["metadata"]["name"])

    def status(self, job: str, status: Object) -> None:
        path = f"/api/v1/namespaces/{self.namespace}/pods/{self.pod(job)}/status"
        self.api._call("PATCH", path, body={"status": status})

    def job_failed(self, job: str, reason: str = "BackoffLimitExceeded") -> None:
        moment = self.now().strftime(STAMP) + "Z"
        path = f"/apis/batch/v1/namespaces/{self.namespace}/jobs/{job}/status"
        known = [
            {"type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": moment}
            for kind in ("FailureTarget", "Failed")
        ]
        self.api._call("PATCH", path, body={"status": {"conditions": known, "failed": 1, "startTime": moment}})

    def _container(self, state: Object) -> list[Object]:
        return [
            {"name": CONTAINER, "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state}
        ]  # fmt: skip

    def wait(self, job: str, reason: str, message: str = "") -> None:
        waiting = {"waiting": {"reason": reason, "message": message}}
        self.status(job, {"phase": "Pending", "containerStatuses": self._container(waiting)})

    def run(self, job: str) -> None:
        moment = self.now().strftime(STAMP) + "Z"
        running = {"running": {"startedAt": moment}}
        self.status(
            job, {"phase": "Running", "startTime": moment, "containerStatuses": self._container(running)}
        )  # fmt: skip

    def print(self, job: str, data: bytes, later: float = 0.0) -> None:
        self.files.setdefault(self.pod(job), File()).write(data, self.now() + timedelta(seconds=later))

    def end(self, job: str, *, code: int = 0, reason: str = "", pod: Object | None = None) -> None:
        moment = self.now().strftime(STAMP) + "Z"
        ended = {
            "exitCode": code, "reason": reason or ("Completed" if code == 0 else "Error"), "startedAt": moment,
            "finishedAt": moment,
        }  # fmt: skip
        phase = "Succeeded" if code == 0 else "Failed"
        status = {"phase": phase, "containerStatuses": self._container({"terminated": ended})}
        self.status(job, {**status, **(pod or {})})

    def deadlines(self) -> None:
        """Containers whose pod was told to end at once do so, with their last words."""
        for pod in self.pods():
            running = (pod.get("status") or {}).get("phase") == "Running"
            if running and pod["spec"].get("activeDeadlineSeconds") == 1:
                job = pod["metadata"]["labels"][RUN]
                self.print(job, b"last words\n")
                self.end(job, code=143, pod={"reason": "DeadlineExceeded", "phase": "Failed"})


def utc_now() -> datetime:
    return datetime.now(UTC)
