"""One look at a cluster: see what became of the Jobs, read their logs, end what ended, clean up, take new tasks.

May be killed at any instruction and run anywhere. A row is written before its Job is made; the fence is in the Job's
name; a task ends only when its container has, for certain. While the API server is away nothing is decided.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from clusterjobs import gateway, judging, manifests
from clusterjobs.cursor import Cursor, NotALog
from clusterjobs.enums import (
    BEAT_SECONDS,
    CONTAINER,
    LEASE_MARGIN_SECONDS,
    LEAST_SECONDS,
    LOG_SECONDS,
    MOST_CLAIMS,
    MOST_PAUSE_SECONDS,
    OURS,
    PASS_SECONDS,
    PENDING_SECONDS,
    POOL,
    RUN,
    STOP_PATIENCE_SECONDS,
)
from clusterjobs.judging import Verdict
from clusterjobs.models import JobPool, JobRun
from clusterjobs.providers.kube import JOBS, NAMESPACES, POD_USAGE, PODS, POLICIES, SECRETS, JobsApi
from clusters.enums import State
from clusters.models import Cluster
from core import clock
from core.errors import Conflict
from core.errors import NotFound as NoTask
from core.providers import Conflict as KubeConflict
from core.providers import InvalidRequest, NotFound, ProviderError
from core.tasks import send_on_commit
from taskrunner import services as tasks
from taskrunner.enums import HELD, WorkerState
from taskrunner.models import Task, Worker
from taskrunner.services.logging import LARGEST_BODY

log = logging.getLogger(__name__)
Object = dict[str, Any]
_LOG_PART = min(LARGEST_BODY, 1024 * 1024)
AGAIN = " Curfew asks again by itself."


def tend_due() -> int:
    """Hand every pool that is due to a worker; how many."""
    now = clock.now()
    due = JobPool.objects.all_orgs().filter(next_at__lte=now).filter(Q(held_until=None) | Q(held_until__lt=now))
    ids = list(due.order_by("next_at").values_list("id", flat=True)[:200])
    for pool_id in ids:
        send_on_commit("clusterjobs.tend", pool_id=str(pool_id))
    return len(ids)


def tend(*, pool_id: UUID) -> bool:
    """Look at one pool's cluster; False when another process does or it is not due."""
    now = clock.now()
    free = JobPool.objects.all_orgs().filter(id=pool_id, next_at__lte=now)
    free = free.filter(Q(held_until=None) | Q(held_until__lt=now))
    if not free.update(held_until=now + timedelta(seconds=PASS_SECONDS)):
        return False
    pool = JobPool.objects.all_orgs().select_related("worker", "cluster__account").get(id=pool_id)
    problem, failures = "", 0
    try:
        if pool.cluster is None:
            problem = "Its cluster was disconnected."
            _end_without_cluster(pool)
        elif pool.cluster.state == State.ASLEEP:
            problem = "Its cluster is asleep."
        else:
            with gateway.open_jobs(pool.cluster) as kube:
                Look(pool, pool.cluster, kube).run()
    except ProviderError as refused:
        problem = f"{refused.message} {refused.next_step}{AGAIN if refused.transient else ''}".strip()
        failures = pool.failures + 1
        log.warning("job_pool_failed", extra={"pool_id": str(pool.id), "reason": problem[:200]})
    finally:
        pause = min(MOST_PAUSE_SECONDS, LEAST_SECONDS * 2 ** min(failures, 6)) if failures else LEAST_SECONDS
        pause = BEAT_SECONDS if problem and not failures else pause
        JobPool.objects.all_orgs().filter(id=pool_id).update(
            held_until=None,
            next_at=clock.now() + timedelta(seconds=pause),
            problem=problem[:500],
            failures=failures,
        )
    return True


def _end_without_cluster(pool: JobPool) -> None:
    """Tasks that somebody cancelled end; others wait until their Job must have ended by its own clock."""
    for run in JobRun.objects.for_org(pool.organization_id).filter(pool=pool, ended_at=None).select_related("task"):
        if run.task.cancel_requested_at is not None:
            _finish(pool.worker, run, Verdict("ended", exit_class="cancelled"))
    JobRun.objects.for_org(pool.organization_id).filter(pool=pool, cleaned_at=None).exclude(ended_at=None).update(
        cleaned_at=clock.now()
    )


def _finish(worker: Worker, run: JobRun, verdict: Verdict) -> None:
    """Tell how it ended, once; what another claim has taken over is left to it."""
    with transaction.atomic():
        try:
            tasks.finish(
                worker=worker,
                task_id=run.task_id,
                fence=run.fence,
                exit_class=verdict.exit_class,
                exit_code=verdict.exit_code,
                reason=verdict.words,
            )
        except (Conflict, NoTask):
            log.info("job_end_refused", extra={"job": run.name})
        run.ended_at = clock.now()
        run.save(update_fields=["ended_at"])


class Look:
    """The objects of one look and what is done about them."""

    def __init__(self, pool: JobPool, cluster: Cluster, kube: JobsApi) -> None:
        self.pool, self.cluster, self.kube = pool, cluster, kube
        self.worker: Worker = pool.worker
        self.org = pool.organization_id
        self.namespace = pool.namespace
        self.log_until = time.monotonic() + LOG_SECONDS

    def run(self) -> None:
        self._prepare()
        runs = list(
            JobRun.objects.for_org(self.org)
            .filter(pool=self.pool, cleaned_at=None)
            .select_related("task")
            .order_by("id")
        )
        beat_due = self.pool.beat_at is None or self.pool.beat_at <= clock.now() - timedelta(seconds=BEAT_SECONDS)
        if runs or beat_due:
            selector = f"{POOL}={self.worker.id}"
            self.jobs = {job["metadata"]["name"]: job for job in self.kube.labelled(JOBS, self.namespace, selector)}
            self.secrets = {s["metadata"]["name"]: s for s in self.kube.labelled(SECRETS, self.namespace, selector)}
            self.pods: dict[str, list[Object]] = {}
            for pod in self.kube.labelled(PODS, self.namespace, selector):
                self.pods.setdefault(str((pod["metadata"].get("labels") or {}).get(RUN)), []).append(pod)
            for run in runs:
                self._tend(run)
            self._strays({run.name for run in runs})
        if beat_due:
            self._beat(runs)
        self._take()

    def _prepare(self) -> None:
        """The namespace is ours, and nobody calls into it."""
        if self.pool.prepared_at is not None:
            return
        found = self.kube.get(NAMESPACES, "", self.namespace)
        if found is None:
            self.kube.create(NAMESPACES, "", manifests.namespace(self.namespace))
        elif (found["metadata"].get("labels") or {}).get(OURS) != "true":
            raise InvalidRequest(
                f"The namespace {self.namespace} exists and is not for tasks.",
                code="namespace_taken",
                next_step=f"Name another, or allow it: kubectl label namespace {self.namespace} {OURS}=true",
            )
        for policy in manifests.policies(self.namespace):
            self.kube.create(POLICIES, self.namespace, policy)
        version = self.kube.version()
        with transaction.atomic():
            self.pool.prepared_at = clock.now()
            self.pool.save(update_fields=["prepared_at"])
            Worker.objects.for_org(self.org).filter(id=self.worker.id).update(engine=f"Kubernetes {version}"[:60])

    # One Job.

    def _tend(self, run: JobRun) -> None:
        if run.ended_at is not None:
            self._clean(run)
            return
        if not self._is_held(run):
            run.ended_at = clock.now()
            run.save(update_fields=["ended_at"])
            self._clean(run)
            return
        job, pods = self.jobs.get(run.name), self.pods.get(run.name, [])
        if run.made_at is None:
            if job is None and not pods:
                self._make(run)
                return
            run.made_at = clock.now()
            run.save(update_fields=["made_at"])
        self._own_secret(run, job)
        self._act(run, judging.judge(job, pods, waited=(clock.now() - run.made_at).total_seconds()))

    def _act(self, run: JobRun, verdict: Verdict) -> None:
        """What the verdict asks for."""
        if verdict.started:
            self._started(run, verdict.pod)
        if run.ending and not verdict.pod:
            verdict = _decided(run)
        if verdict.state == "ended" and verdict.certain:
            if self._read_log(run, verdict):
                self._end(run, verdict)
        elif run.ending or verdict.state == "ended":
            self._remove(run, verdict)
        elif run.task.cancel_requested_at is not None:
            self._stop(run, verdict)
        else:
            self._follow(run, verdict)

    def _follow(self, run: JobRun, verdict: Verdict) -> None:
        """It waits or runs, and nobody wants otherwise."""
        if verdict.state == "running":
            self._read_log(run, verdict)
        if verdict.words and (verdict.state == "wait" or "waits" in verdict.words):
            tasks.say(worker=self.worker, task_id=run.task_id, fence=run.fence, words=verdict.words)

    def _is_held(self, run: JobRun) -> bool:
        task = run.task
        return task.fence == run.fence and task.worker_id == self.worker.id and task.status in HELD

    def _make(self, run: JobRun) -> None:
        """Make the Job, or find that an earlier look made it."""
        try:
            claim = tasks.claim_again(worker=self.worker, task_id=run.task_id, fence=run.fence)
        except (Conflict, NoTask):
            return
        if run.task.cancel_requested_at is not None:
            self._end(run, Verdict("ended", exit_class="cancelled"))
            return
        wanted = self._wanted(run, claim)
        try:
            if wanted.has_secret:
                self.kube.create(SECRETS, self.namespace, manifests.secret(wanted))
            self.kube.create(JOBS, self.namespace, manifests.job(wanted))
        except InvalidRequest as refused:
            words = f"The cluster refuses its Job: {refused.detail or refused.message}"
            self._end(run, Verdict("ended", words[:500], "start"))
            return
        run.made_at = clock.now()
        run.save(update_fields=["made_at"])

    def _wanted(self, run: JobRun, claim: tasks.Claim) -> manifests.Wanted:
        task = claim.task
        return manifests.Wanted(
            pool=str(self.worker.id),
            task=str(task.id),
            fence=run.fence,
            namespace=self.namespace,
            image=task.image,
            command=list(task.command),
            cpu=task.cpu,
            memory=task.memory,
            storage=task.storage,
            gpus=task.gpus,
            timeout_seconds=task.timeout_seconds,
            network=task.network,
            environment=task.environment,
            secrets=claim.secrets,
            files=claim.files,
            read_only_root=self.pool.read_only_root,
            pull_secret=self.pool.pull_secret,
        )

    def _own_secret(self, run: JobRun, job: Object | None) -> None:
        """The Secret goes with its Job, even when nobody of us is left to delete it."""
        secret = self.secrets.get(run.name)
        if job is None or secret is None or secret["metadata"].get("ownerReferences"):
            return
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": run.name, "uid": job["metadata"]["uid"]}
        self.kube.patch(SECRETS, self.namespace, run.name, {"metadata": {"ownerReferences": [owner]}})

    def _started(self, run: JobRun, pod: str) -> None:
        if run.pod == pod:
            return
        try:
            tasks.start(worker=self.worker, task_id=run.task_id, fence=run.fence)
        except (Conflict, NoTask):
            return
        run.pod = pod
        run.save(update_fields=["pod"])

    def _stop(self, run: JobRun, verdict: Verdict) -> None:
        """Ask a running container to end in a way that keeps its pod, so that its last words can be read."""
        if verdict.state != "running":
            self._decide(run, Verdict("ended", exit_class="cancelled"))
            self._remove(run, verdict)
            return
        self._read_log(run, verdict)
        if run.stop_asked_at is None:
            try:
                self.kube.patch(PODS, self.namespace, verdict.pod, {"spec": {"activeDeadlineSeconds": 1}})
            except (InvalidRequest, KubeConflict):
                self._remove(run, Verdict("ended", exit_class="cancelled", certain=False))
            run.stop_asked_at = clock.now()
            run.save(update_fields=["stop_asked_at"])
        elif clock.now() - run.stop_asked_at > timedelta(seconds=STOP_PATIENCE_SECONDS):
            self._remove(run, Verdict("ended", exit_class="cancelled", certain=False))

    def _decide(self, run: JobRun, verdict: Verdict) -> None:
        if not run.ending:
            run.ending = {"exit_class": verdict.exit_class, "exit_code": verdict.exit_code, "words": verdict.words}
            run.stop_asked_at = run.stop_asked_at or clock.now()
            run.save(update_fields=["ending", "stop_asked_at"])

    def _remove(self, run: JobRun, verdict: Verdict) -> None:
        """End it as decided as soon as its pod is gone. A cancelled one does not wait for a node that is silent."""
        self._decide(run, verdict)
        gone = self._delete_all(run)
        silent = (
            run.task.cancel_requested_at is not None
            and run.stop_asked_at is not None
            and clock.now() - run.stop_asked_at > timedelta(seconds=2 * STOP_PATIENCE_SECONDS)
        )
        if gone or silent:
            self._end(run, _decided(run))

    def _delete_all(self, run: JobRun) -> bool:
        """Order the Job and its pods away; True when nothing of them was there."""
        job, pods = self.jobs.get(run.name), self.pods.get(run.name, [])
        if job is not None and not job["metadata"].get("deletionTimestamp"):
            self.kube.delete(JOBS, self.namespace, run.name, uid=job["metadata"]["uid"])
        for pod in pods:
            if not pod["metadata"].get("deletionTimestamp"):
                self.kube.delete(PODS, self.namespace, pod["metadata"]["name"], uid=pod["metadata"]["uid"])
        return job is None and not pods

    def _end(self, run: JobRun, verdict: Verdict) -> None:
        _finish(self.worker, run, verdict)
        self._clean(run)

    def _clean(self, run: JobRun) -> None:
        """Delete Job, pods and Secret; done when a later look finds none of them."""
        gone = self._delete_all(run)
        secret = self.secrets.get(run.name)
        if secret is not None:
            self.kube.delete(SECRETS, self.namespace, run.name, uid=secret["metadata"]["uid"])
        if gone and secret is None:
            run.cleaned_at = clock.now()
            run.save(update_fields=["cleaned_at"])

    def _strays(self, known: set[str]) -> None:
        """Objects with this pool's label that no open row knows: of a claim that has ended. Nothing else is touched."""
        for resource, found in ((JOBS, self.jobs), (SECRETS, self.secrets)):
            for name, thing in found.items():
                if name not in known and name.startswith("task-"):
                    self.kube.delete(resource, self.namespace, name, uid=thing["metadata"]["uid"])

    # Its log.

    def _read_log(self, run: JobRun, verdict: Verdict) -> bool:
        """Read the log on; True when its end was reached, or there is none to be had.

        Of a container that has ended it is tried for a minute when its node does not answer.
        """
        if not verdict.pod:
            return True
        if time.monotonic() > self.log_until:
            return False
        cursor = Cursor.of(run.cursor)
        try:
            with self.kube.log(self.namespace, verdict.pod, CONTAINER, since=cursor.begin()) as parts:
                return self._store(run, cursor, parts)
        except (NotFound, InvalidRequest):
            return True
        except (Conflict, NoTask):
            return True  # the task went elsewhere; the next look cleans up
        except NotALog as words:
            log.warning("job_log_unreadable", extra={"job": run.name, "reason": str(words)[:200]})
        except ProviderError as refused:
            log.warning("job_log_unreadable", extra={"job": run.name, "reason": refused.message[:200]})
        if verdict.state != "ended":
            return False
        self._decide(run, verdict)
        since = run.stop_asked_at or clock.now()
        return clock.now() - since > timedelta(seconds=STOP_PATIENCE_SECONDS)

    def _store(self, run: JobRun, cursor: Cursor, parts: Any) -> bool:
        held: list[bytes] = []
        size = 0
        for part in parts:
            held.append(cursor.feed(part))
            size += len(held[-1])
            if size >= _LOG_PART:
                if not self._keep(run, cursor, b"".join(held)):
                    return False
                held, size = [], 0
                if time.monotonic() > self.log_until:
                    return False
        return self._keep(run, cursor, b"".join(held)) if size else True

    def _keep(self, run: JobRun, cursor: Cursor, data: bytes) -> bool:
        """Bytes and place in one transaction; False when another look was here meanwhile."""
        with transaction.atomic():
            rows = JobRun.objects.for_org(self.org).filter(id=run.id, reads=run.reads)
            if not rows.update(reads=run.reads + 1, cursor=cursor.state()):
                return False
            offset = tasks.log_end(worker=self.worker, task_id=run.task_id, fence=run.fence)["stdout"]
            for start in range(0, len(data), LARGEST_BODY):
                tasks.append_log(
                    worker=self.worker,
                    task_id=run.task_id,
                    fence=run.fence,
                    stream="stdout",
                    offset=offset + start,
                    data=data[start : start + LARGEST_BODY],
                )
            run.reads, run.cursor = run.reads + 1, cursor.state()
        return True

    # The pool.

    def _beat(self, runs: list[JobRun]) -> None:
        """A sign of life with what the pods use, where the cluster measures it."""
        used = self._usage(runs)
        whole: dict[str, float] = {}
        for usage in used.values():
            for name, value in usage.items():
                whole[name] = whole.get(name, 0.0) + value
        tasks.beat(worker=self.worker, usage=whole)
        JobPool.objects.for_org(self.org).filter(id=self.pool.id).update(beat_at=clock.now())

    def _usage(self, runs: list[JobRun]) -> dict[UUID, dict[str, float]]:
        by_pod = {run.pod: run for run in runs if run.pod and run.ended_at is None}
        if not by_pod:
            return {}
        used: dict[UUID, dict[str, float]] = {}
        for found in self.kube.labelled(POD_USAGE, self.namespace, f"{POOL}={self.worker.id}"):
            run = by_pod.get(str(found["metadata"]["name"]))
            if run is not None:
                used[run.task_id] = usage_of(found)
                tasks.measure(worker=self.worker, task_id=run.task_id, usage=used[run.task_id])
        return used

    def _take(self) -> None:
        """Claim what fits, write the row, then make the Job."""
        if self.worker.wanted != WorkerState.OPEN:
            return
        if not hasattr(self, "jobs"):
            self.jobs, self.pods, self.secrets = {}, {}, {}
        for _ in range(MOST_CLAIMS):
            claim = tasks.claim(worker=self.worker)
            if claim is None:
                return
            self._make(self._written(claim.task))

    def _written(self, task: Task) -> JobRun:
        """The row, and the task held for as long as its Job could run without anybody's knowing."""
        now = clock.now()
        until = now + timedelta(seconds=task.timeout_seconds + PENDING_SECONDS + LEASE_MARGIN_SECONDS)
        with transaction.atomic():
            tasks.hold(worker=self.worker, task_id=task.id, fence=task.fence, until=until)
            run = JobRun(
                organization_id=self.org,
                pool=self.pool,
                task=task,
                fence=task.fence,
                name=manifests.name_of(str(task.id), task.fence),
                claimed_at=now,
            )
            run.save(force_insert=True)
        return run


def _decided(run: JobRun) -> Verdict:
    """The end that an earlier look decided."""
    return Verdict("ended", run.ending["words"], run.ending["exit_class"], run.ending["exit_code"])


def usage_of(found: Mapping[str, Any]) -> dict[str, float]:
    """CPU in percent of a core and memory in MiB of a PodMetrics."""
    cpu = memory = 0.0
    for container in found.get("containers") or ():
        used = container.get("usage") or {}
        cpu += _number(str(used.get("cpu") or "0")) * 100
        memory += _number(str(used.get("memory") or "0")) / 1024 / 1024
    return {"cpu": cpu, "memory": memory}


_UNITS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}


def _number(text: str) -> float:
    """A quantity as a number; 0 for what is none."""
    digits = text.rstrip("numkMGKi")
    try:
        return float(digits) * _UNITS.get(text[len(digits) :], 1.0)
    except ValueError:
        return 0.0
