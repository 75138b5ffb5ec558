"""The watch over pods that wait for a node: a stream from each API server, in a thread that costs next to nothing.

Every process that runs tasks may hold watches; which one holds a cluster's is a lease in the database, so that there is
one, and another process takes it over when its holder dies. What a watch misses, the sweep finds within half a minute.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from datetime import timedelta
from uuid import UUID, uuid4

from django.db import close_old_connections, connection
from django.db.models import Q

from clusters.enums import State
from clusters.models import Cluster
from clusters.sleeping.observe import resource_of
from core import clock
from core.providers import ProviderError
from policies.enforcing import gateway, looking, services
from policies.enforcing.models import Enforcement
from policies.enums import Mode

log = logging.getLogger(__name__)
LEASE = timedelta(seconds=20)
TEND_SECONDS = 5.0
STREAM_SECONDS = 60.0
SETTLE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 60.0
MOST_WATCHED = 200
STOP_SECONDS = 10.0
PENDING = "spec.nodeName="


def wanted() -> list[UUID]:
    """Clusters whose policy adds nodes by itself, and that are awake and reached without an agent."""
    from policies.models import PolicyAssignment

    rows = PolicyAssignment.objects.all_orgs().filter(mode=Mode.ENFORCE, cluster__state=State.LIVE)
    rows = rows.filter(cluster__maintenance_since=None, policy__document__autoscaling__enabled=True)
    return [row.cluster_id for row in rows.select_related("cluster")[:5000] if gateway.reaches(row.cluster)]


class Keeper:
    """The watches of this process."""

    def __init__(self) -> None:
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._lock = threading.Lock()
        self._watches: dict[UUID, Watch] = {}
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    def ensure(self) -> None:
        """Start tending, once a process."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._stopped.clear()
                self._thread = threading.Thread(target=self._run, name="policy-watches", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End every watch and give the leases back."""
        self._stopped.set()
        held = list(self._watches.values())
        for watch in held:
            watch.stop()
        for watch in held:
            watch.reactor.join(STOP_SECONDS)
        rows = Enforcement.objects.all_orgs().filter(watch_owner=self.owner)
        rows.update(watch_owner="", watch_until=None)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                close_old_connections()
                self.tend()
            except Exception:  # the edge of the thread: the next round tries again
                log.exception("policy_watches_not_tended")
            finally:
                connection.close()
            self._stopped.wait(TEND_SECONDS)

    def tend(self) -> int:
        """Renew what is held, take over what nobody holds, end what is no longer wanted. Returns how many are held."""
        now = clock.now()
        asked = set(wanted())
        rows = Enforcement.objects.all_orgs()
        for cluster_id in [c for c in self._watches if c not in asked or not self._watches[c].is_alive()]:
            self._watches.pop(cluster_id).stop()
        held = {
            c
            for c in self._watches
            if rows.filter(cluster_id=c, watch_owner=self.owner).update(watch_until=now + LEASE)
        }
        for cluster_id in set(self._watches) - held:  # somebody else took it over
            self._watches.pop(cluster_id).stop()
        for cluster_id in sorted(asked - held)[: MOST_WATCHED - len(held)]:
            if self._claim(cluster_id):
                self._watches[cluster_id] = watch = Watch(cluster_id)
                watch.start()
        return len(self._watches)

    def _claim(self, cluster_id: UUID) -> bool:
        now = clock.now()
        cluster = Cluster.objects.all_orgs().filter(id=cluster_id).first()
        if cluster is None:
            return False
        services.enforcement_of(cluster)
        free = Q(watch_until=None) | Q(watch_until__lt=now)
        rows = Enforcement.objects.for_org(cluster.organization_id).filter(free, cluster_id=cluster_id)
        return bool(rows.update(watch_owner=self.owner, watch_until=now + LEASE))


class Watch(threading.Thread):
    """One cluster's stream. Pods that arrive together are looked at together."""

    def __init__(self, cluster_id: UUID) -> None:
        super().__init__(name=f"policy-watch-{cluster_id}", daemon=True)
        self.cluster_id = cluster_id
        self._stopped = threading.Event()
        self._seen = threading.Event()
        self.reactor = threading.Thread(target=self._react, name=f"policy-react-{cluster_id}", daemon=True)

    def stop(self) -> None:
        self._stopped.set()
        self._seen.set()

    def run(self) -> None:
        self.reactor.start()
        failures = 0
        while not self._stopped.is_set():
            try:
                self._stream()
                failures = 0
            except ProviderError as failure:
                failures += 1
                log.info("policy_watch_broke", extra={"cluster_id": str(self.cluster_id), "reason": failure.message})
            except Exception:  # the edge of the thread
                failures += 1
                log.exception("policy_watch_failed", extra={"cluster_id": str(self.cluster_id)})
            finally:
                connection.close()
            self._stopped.wait(min(LONGEST_PAUSE_SECONDS, 0.5 * 2.0 ** min(failures, 7)) if failures else 0)

    def _stream(self) -> None:
        cluster = Cluster.objects.all_orgs().select_related("account").filter(id=self.cluster_id).first()
        connection.close()
        if cluster is None:
            self.stop()
            return
        with gateway.open_kube(cluster) as kube:
            for event, pod in kube.watch(resource_of("Pod"), fields=PENDING, seconds=STREAM_SECONDS):
                if self._stopped.is_set():
                    return
                if event != "DELETED" and looking.unschedulable(pod):
                    self._seen.set()

    def _react(self) -> None:
        while True:
            self._seen.wait()
            if self._stopped.wait(SETTLE_SECONDS):
                return
            self._seen.clear()
            try:
                looking.react(cluster_id=self.cluster_id)
            except Exception:  # the edge of the thread: the sweep looks again
                log.exception("policy_reaction_failed", extra={"cluster_id": str(self.cluster_id)})
            finally:
                connection.close()


keeper = Keeper()
