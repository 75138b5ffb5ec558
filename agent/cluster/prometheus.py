"""Usage from before the agent came, or while it was away, out of the cluster's Prometheus; then metrics.k8s.io goes on.

Optional: the platform's histograms fill themselves within days without it. What the platform has is not read again: it
says up to when it holds usage. Hours go out oldest first, before the first live sample, so that the platform counts
them in their order. CPU is the 95th percentile of each hour's five-minute rates, memory the hour's peak, so that nothing
looks smaller than it was; of pods that are gone nobody knows the workload any more, and the platform leaves them out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from agent.cluster.kube import Access, Gone, Kube, KubeError
from agent.cluster.metrics import SampleWriter
from agent.cluster.outbox import Samples
from agent.cluster.store import Store
from agent.transport import Backoff, Unreachable
from agent.wire.codec import WireError, moment
from agent.wire.quantities import LARGEST

log = logging.getLogger("curfew.agent.prometheus")
SOURCE = "prometheus"
DAYS = 14
HOUR = timedelta(hours=1)
CHUNK = 3
ROOM = 20  # of the buffer's samples; the rest is for live ones
TRIES = 3
WORD_SECONDS = 120.0
QUERY_SECONDS = 60.0
NANO = 1_000_000_000
_BOXES = '{container!="",container!="POD"}'
CPU = f"sum by (namespace,pod,container) (quantile_over_time(0.95, rate(container_cpu_usage_seconds_total{_BOXES}[5m])[1h:5m]))"
MEMORY = f"max by (namespace,pod,container) (max_over_time(container_memory_working_set_bytes{_BOXES}[1h]))"
Hours = dict[int, dict[str, dict[str, list[int | None]]]]  # by second, pod and container: nanocores and bytes


class Word:
    """The platform's word on how far its usage goes, from a heartbeat's answer. Raises LookupError until it came."""

    def __init__(self) -> None:
        self.heard = False
        self._until: datetime | None = None

    def __call__(self) -> datetime | None:
        if not self.heard:
            raise LookupError
        return self._until

    def take(self, told: dict[str, Any]) -> None:
        """Note what an answer says; null stands for no usage at all."""
        if "usage_until" not in told:
            return
        try:
            self._until = None if told["usage_until"] is None else moment(told["usage_until"])
        except WireError:
            return
        self.heard = True


class BadAnswer(Exception):
    """Prometheus did not answer as it should; the text says what."""


class Backfill:
    """One run: `run()` returns when everything was handed over, or was given up. `since` says up to when the platform
    holds usage (None: nothing), or raises LookupError while it has not told."""

    def __init__(
        self,
        access: Access,
        store: Store,
        samples: Samples,
        stop: threading.Event,
        since: Callable[[], datetime | None],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._kube = Kube(access, timeout=QUERY_SECONDS)
        self._store, self._samples, self._stopping = store, samples, stop
        self._since, self._now = since, now
        self._backoff = Backoff(2.0, 30.0)
        store.report(SOURCE, "waiting")

    def close(self) -> None:
        self._kube.close()

    def run(self) -> None:
        """Hand over the hours that the platform lacks. Never raises; what went wrong is told as the source's state."""
        since = self._wait_for_word()
        end = self._now().replace(minute=0, second=0, microsecond=0)
        start = end - timedelta(days=DAYS)
        if since is not None:
            start = max(start, since.replace(minute=0, second=0, microsecond=0) + HOUR)
        sent = 0
        while start < end and not self._stopping.is_set():
            until = min(end, start + CHUNK * HOUR)
            try:
                for sample in self._read(start + HOUR, until):
                    self._hand_over(sample)
                    sent += 1
            except (KubeError, Gone, Unreachable, BadAnswer) as problem:
                if self._give_up(problem):
                    return
                continue
            self._backoff.succeeded()
            start = until
        self._store.report(SOURCE, "ok")
        log.info("%d hours of usage were read from Prometheus", sent)

    def _wait_for_word(self) -> datetime | None:
        deadline = time.monotonic() + WORD_SECONDS
        while not self._stopping.is_set() and time.monotonic() < deadline:
            try:
                return self._since()
            except LookupError:
                self._stopping.wait(0.2)
        return self._now()  # a platform that does not speak of it wants nothing

    def _give_up(self, problem: Exception) -> bool:
        words = f"Prometheus answered {problem.status}" if isinstance(problem, KubeError) else str(problem)
        self._store.report(SOURCE, "error", words)
        if self._backoff.failures + 1 >= TRIES:
            log.warning("no usage from before: %s", words)
            return True
        self._stopping.wait(self._backoff.failed())
        return False

    def _hand_over(self, packed: bytes) -> None:
        while len(self._samples) >= ROOM and not self._stopping.wait(0.2):
            pass
        if not self._stopping.is_set():
            self._samples.push(packed)

    def _read(self, first: datetime, last: datetime) -> Iterator[bytes]:
        """Packed samples of the hours that end at `first` to `last`."""
        hours: Hours = {}
        for place, (query, unit) in enumerate(((CPU, NANO), (MEMORY, 1))):
            for labels, values in self._query(query, first, last):
                _note(hours, labels, values, place, unit)
        for second in sorted(hours):
            writer = SampleWriter(datetime.fromtimestamp(second, UTC))
            writer.begin("nodes")
            writer.end()
            writer.begin("pods")
            for key, boxes in hours[second].items():
                writer.entry(key, boxes)
            writer.end()
            writer.window(3600)
            writer.past()
            yield writer.done()

    def _query(self, query: str, first: datetime, last: datetime) -> Iterator[tuple[dict[str, Any], list[Any]]]:
        asked = {
            "query": query,
            "start": str(int(first.timestamp())),
            "end": str(int(last.timestamp())),
            "step": "3600",
        }
        answer = self._kube.get(f"/api/v1/query_range?{urlencode(asked)}")
        data = answer.get("data")
        result = data.get("result") if answer.get("status") == "success" and isinstance(data, dict) else None
        if not isinstance(result, list):
            raise BadAnswer("Prometheus did not answer with a range of series")
        for series in result:
            labels = series.get("metric") if isinstance(series, dict) else None
            values = series.get("values") if isinstance(series, dict) else None
            if isinstance(labels, dict) and isinstance(values, list):
                yield labels, values


def _note(hours: Hours, labels: dict[str, Any], values: list[Any], place: int, unit: int) -> None:
    """Put one series where it belongs; what is no number is left out."""
    key, box = f"{labels.get('namespace', '')}/{labels.get('pod', '')}", str(labels.get("container", ""))
    if not box or key.startswith("/") or key.endswith("/"):
        return
    for value in values:
        try:
            second, amount = int(value[0]), round(float(value[1]) * unit)
        except (TypeError, ValueError, OverflowError, IndexError):
            continue
        if 0 <= amount <= LARGEST:
            hours.setdefault(second, {}).setdefault(key, {}).setdefault(box, [None, None])[place] = amount


__all__ = ["Backfill", "BadAnswer", "Word"]
