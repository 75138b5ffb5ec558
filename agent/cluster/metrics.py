"""Usage from metrics.k8s.io, once a minute, written as compressed text while it is being read."""

from __future__ import annotations

import json
import logging
import threading
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from agent.cluster.kube import Access, Gone, Kube, KubeError
from agent.cluster.outbox import Samples
from agent.cluster.store import Store
from agent.transport import Backoff, Unreachable, jittered
from agent.wire.build.common import items, mapping, text
from agent.wire.codec import iso
from agent.wire.listing import BadListing
from agent.wire.quantities import LARGEST, BadQuantity, nano, units
from agent.wire.resources import METRICS_PATH

log = logging.getLogger("curfew.agent.metrics")
SOURCE = "metrics"
LONGEST_WAIT = 60.0
_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class SampleWriter:
    """One usage sample, compressed as it is made. `number` is given by whoever keeps it."""

    def __init__(self, at: datetime) -> None:
        self._packer = zlib.compressobj(5)
        self._parts: list[bytes] = []
        self._first = True
        self.nodes = self.pods = 0
        self._write(f'"at":"{iso(at)}"')

    def _write(self, content: str) -> None:
        self._parts.append(self._packer.compress(content.encode("utf-8", "replace")))

    def begin(self, table: str) -> None:
        """Start the table `nodes` or `pods`."""
        self._write(f',"{table}":{{')
        self._first = True

    def entry(self, key: str, value: Any) -> None:
        self._write(f"{'' if self._first else ','}{_dump(key)}:{_dump(value)}")
        self._first = False

    def end(self) -> None:
        """End the table."""
        self._write("}")

    def past(self) -> None:
        """Mark it as an hour from before."""
        self._write(',"past":true')

    def window(self, seconds: int) -> None:
        self._write(f',"window":{seconds}')

    def done(self) -> bytes:
        """Return the packed text: a JSON object's inside, from which only the number is missing."""
        return b"".join((*self._parts, self._packer.flush()))


def used(usage: Mapping[str, Any]) -> list[int] | None:
    """Return [nanocores, bytes] of a usage map, or None when either is missing or unreadable."""
    try:
        found = [min(LARGEST, nano(usage["cpu"])), units(usage["memory"])]
    except (KeyError, BadQuantity):
        return None
    return found if min(found) >= 0 else None


def _window(item: dict[str, Any]) -> int:
    """Return the seconds of a Go duration such as "15.2s", "1m0s"; 0 when it is of another form."""
    written = text(item, "window")
    minutes, _, rest = written.rpartition("m")
    try:
        return round(float(rest.removesuffix("s") or 0)) + (60 * int(minutes) if minutes else 0)
    except ValueError:
        return 0


def read_sample(kube: Kube) -> SampleWriter:
    """Read the usage of all nodes and pods. Raises KubeError, Gone, Unreachable, BadListing."""
    writer = SampleWriter(datetime.now(UTC).replace(microsecond=0))
    windows: list[int] = []

    def node(item: dict[str, Any]) -> None:
        found = used(mapping(item, "usage"))
        if found is not None:
            writer.entry(text(item, "metadata", "name"), found)
            writer.nodes += 1

    def pod(item: dict[str, Any]) -> None:
        if not windows:
            windows.append(_window(item))
        boxes = {text(box, "name"): used(mapping(box, "usage")) for box in items(item, "containers")}
        known = {name: pair for name, pair in boxes.items() if pair is not None}
        if known:
            writer.entry(f"{text(item, 'metadata', 'namespace')}/{text(item, 'metadata', 'name')}", known)
            writer.pods += 1

    for table, found in (("nodes", node), ("pods", pod)):
        writer.begin(table)
        kube.list(f"{METRICS_PATH}/{table}", found, page=0)
        writer.end()
    if windows and windows[0]:
        writer.window(windows[0])
    return writer


class Meter(threading.Thread):
    """Takes a sample each `interval()` seconds until `stop` is set; `before` runs first."""

    def __init__(
        self,
        access: Access,
        store: Store,
        samples: Samples,
        stop: threading.Event,
        before: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(name="metrics", daemon=True)
        self._kube = Kube(access)
        self._store, self._samples, self._stopping = store, samples, stop
        self._backoff = Backoff(2.0, LONGEST_WAIT)
        self._before = before
        self.interval = 60.0

    def close(self) -> None:
        self._kube.close()

    def run(self) -> None:
        if self._before is not None:
            self._before()
        while not self._stopping.is_set():
            self._stopping.wait(self.measure())

    def measure(self) -> float:
        """Take one sample; return the seconds until the next."""
        try:
            sample = read_sample(self._kube)
        except KubeError as refused:
            return self._failed(refused.source_state, refused, refused.retry_after)
        except (Gone, Unreachable, BadListing) as problem:
            return self._failed("error", problem)
        self._backoff.succeeded()
        if sample.nodes or sample.pods:
            self._samples.push(sample.done())
            self._store.report(SOURCE, "ok")
        else:
            self._store.report(SOURCE, "error", "metrics.k8s.io answers, but knows no node and no pod")
        return jittered(self.interval)

    def _failed(self, state: str, problem: Exception, at_least: float = 0.0) -> float:
        if state == "absent":
            self._store.report(SOURCE, state, "metrics.k8s.io is not installed in the cluster")
            return jittered(self.interval)
        self._store.report(SOURCE, state, str(problem))
        return self._backoff.failed(min(at_least, LONGEST_WAIT))
