"""What keeps a webhook right while it serves: its rules, its certificates, and pods that wait too long for their rule.

All of it lives in the webhook's own namespace: the ConfigMap holds the signed rules and who was let off a hard rule, the
Secret the authority. Several replicas share both; whoever writes first is right, the others read. When the API server
does not answer, the last of everything goes on.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.cluster.kube import Gone, Kube, KubeError, object_path
from agent.cluster.orders import Refused
from agent.cluster.rules import RULES, opened
from agent.cluster.webhook import certs
from agent.cluster.webhook.server import Listener, State
from agent.transport import Unreachable
from agent.wire.codec import iso, moment
from agent.wire.listing import BadListing
from agent.wire.placement import HARD, MARK, owner_of

log = logging.getLogger("curfew.agent.webhook")
EVERY = 5.0
CERTS_EVERY = 60.0
PENDING_EVERY = 20.0
STATUS_EVERY = 30.0
SOFTENED, STATUS = "softened", "status."
SOFT_LIFE = timedelta(hours=1)
MOST_SOFTENED = 500
MOST_EVICTED = 20
STATUS_LIFE = timedelta(minutes=5)
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
_TROUBLE = (KubeError, Gone, Unreachable, BadListing)


@dataclass(frozen=True, slots=True)
class Names:
    """What belongs to one installation; `base` is the release's name."""

    namespace: str
    base: str
    pod: str = "webhook"

    @property
    def hosts(self) -> list[str]:
        service = f"{self.base}-webhook.{self.namespace}.svc"
        return [service, f"{service}.cluster.local"]

    @property
    def secret(self) -> str:
        return object_path("/api/v1/secrets", self.namespace, f"{self.base}-webhook-tls")

    @property
    def config(self) -> str:
        return object_path("/api/v1/configmaps", self.namespace, f"{self.base}-placement")

    @property
    def configuration(self) -> str:
        return object_path(CONFIGURATIONS, "", f"{self.base}-placement")


class Keeper:
    """Belongs to one thread. `step()` does what is due and returns the seconds until something is."""

    def __init__(
        self,
        kube: Kube,
        listener: Listener,
        names: Names,
        check: Callable[[bytes, bytes], bool],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._kube, self._listener, self._names, self._check, self._now = kube, listener, names, check, now
        self._uid = ""
        self._rules_text = ""
        self._serving = ""
        self._due = {"certs": 0.0, "pending": 0.0, "status": 0.0}
        self._softened: dict[str, str] = {}  # owner -> until
        self._let_off: dict[str, float] = {}  # owner -> since when this replica knows

    @property
    def state(self) -> State:
        return self._listener.state

    def step(self) -> float:
        """Never raises for what the API server says."""
        for name, act, every in (
            ("config", self.read_config, 0.0),
            ("certs", self.keep_certs, CERTS_EVERY),
            ("pending", self.let_off, PENDING_EVERY),
            ("status", self.tell, STATUS_EVERY),
        ):
            if time.monotonic() < self._due.get(name, 0.0):
                continue
            try:
                act()
            except _TROUBLE as problem:
                log.warning("%s: %s", name, problem)
                self.state.problem = f"{name}: {problem}"[:200]
                continue
            if every:
                self._due[name] = time.monotonic() + every
        self.state.ready = bool(self._serving)
        return EVERY

    # rules

    def read_config(self) -> dict[str, str]:
        """Take over rules that are signed for this cluster and newer, and the list of those let off."""
        if not self._uid:
            system = self._kube.get("/api/v1/namespaces/kube-system")
            self._uid = str((system.get("metadata") or {}).get("uid") or "")
        data = _texts(self._kube.get(self._names.config).get("data"))
        text = data.get(RULES, "")
        if text != self._rules_text:
            self._rules_text = text
            self._use(text)
        self._softened = _live(data.get(SOFTENED, ""), self._now())
        self.state.softened = frozenset(self._softened)
        return data

    def _use(self, text: str) -> None:
        if not text:
            return
        try:
            rules = opened(json.loads(text), self._check, self._uid)
        except (ValueError, Refused) as bad:
            log.warning("the rules are not used: %s", bad)
            self.state.problem = f"the rules are not used: {bad}"[:200]
            return
        if rules.version < self.state.rules.version:
            log.warning("older rules than those in use are not taken")
            return
        self.state.rules = rules
        self.state.problem = ""
        log.info("rules %d: %s", rules.version, rules.strategy)

    # certificates

    def keep_certs(self) -> None:
        """Make, turn and serve the certificate; let the API servers trust its authority."""
        secret = self._kube.get(self._names.secret)
        kept = certs.Kept.read(_decoded(secret.get("data")))
        if kept is None:
            kept = self._store(secret, certs.made(self._names.hosts, self._now()))
        trusted = self._trust(kept.bundle)
        turned = certs.turned(kept, self._names.hosts, self._now(), trusted=trusted)
        if turned != kept:  # one turn a round: API servers hear of a new authority before it signs
            kept = self._store(self._kube.get(self._names.secret), turned)
            self._trust(kept.bundle)
        if kept.cert != self._serving:
            self._listener.use(kept.cert, kept.key)
            self._serving = kept.cert

    def _store(self, secret: dict[str, Any], kept: certs.Kept) -> certs.Kept:
        """Write, unless another replica was quicker: then its certificates count (the conflict is tried again later)."""
        data = {name: base64.b64encode(text.encode()).decode() for name, text in kept.texts().items()}
        version = (secret.get("metadata") or {}).get("resourceVersion")
        self._kube.patch(self._names.secret, {"metadata": {"resourceVersion": version}, "data": data})
        return kept

    def _trust(self, bundle: str) -> bool:
        """Put the bundle into every webhook of our configuration; True when it is there."""
        found = self._kube.get(self._names.configuration)
        wanted = base64.b64encode(bundle.encode()).decode()
        hooks = [dict(hook) for hook in found.get("webhooks") or ()]
        if not hooks:
            return False
        if all((hook.get("clientConfig") or {}).get("caBundle") == wanted for hook in hooks):
            return True
        for hook in hooks:
            hook["clientConfig"] = {**(hook.get("clientConfig") or {}), "caBundle": wanted}
        version = (found.get("metadata") or {}).get("resourceVersion")
        self._kube.patch(self._names.configuration, {"metadata": {"resourceVersion": version}, "webhooks": hooks})
        return True

    # pods that wait

    def let_off(self) -> None:
        """Pods that hard rules keep waiting: their owner is let off for an hour, then they are evicted, to come anew.

        They never ran, so nothing is lost. The note is written a round before, for every replica to know it.
        """
        rules = self.state.rules
        if rules.idle and not self._let_off:
            return
        now = self._now()
        late = now - timedelta(minutes=rules.fallback_minutes)
        waiting: dict[str, list[tuple[str, str]]] = {}

        def look(pod: dict[str, Any]) -> None:
            owner = _waits(pod, late)
            if owner:
                metadata = pod["metadata"]
                waiting.setdefault(owner, []).append((str(metadata["namespace"]), str(metadata["name"])))

        self._kube.list("/api/v1/pods", look, fields="status.phase=Pending")
        fresh = [owner for owner in waiting if owner not in self._softened][:MOST_SOFTENED]
        if fresh:
            self._note(fresh, now)
        ripe = [o for o in waiting if time.monotonic() - self._let_off.get(o, time.monotonic()) > 2 * EVERY]
        for owner in waiting:
            self._let_off.setdefault(owner, time.monotonic())
        self._let_off = {o: since for o, since in self._let_off.items() if o in waiting}
        for namespace, name in [pod for owner in ripe for pod in waiting[owner]][:MOST_EVICTED]:
            self._evict(namespace, name)

    def _note(self, owners: Iterable[str], now: datetime) -> None:
        config = self._kube.get(self._names.config)
        known = _live(_texts(config.get("data")).get(SOFTENED, ""), now)
        known |= {owner: iso(now + SOFT_LIFE) for owner in owners}
        newest = dict(sorted(known.items(), key=lambda one: one[1])[-MOST_SOFTENED:])
        version = (config.get("metadata") or {}).get("resourceVersion")
        body = {"metadata": {"resourceVersion": version}, "data": {SOFTENED: json.dumps(newest, sort_keys=True)}}
        self._kube.patch(self._names.config, body)
        self._softened = newest
        self.state.softened = frozenset(newest)
        for owner in owners:
            log.warning("%s waits too long: its hard rules are wishes for an hour", owner)

    def _evict(self, namespace: str, name: str) -> None:
        path = object_path("/api/v1/pods", namespace, name, "eviction")
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"namespace": namespace, "name": name}}
        try:
            self._kube.post(path, body)
        except KubeError as refused:
            if refused.status not in {404, 409, 429}:  # gone, or its budget does not allow it now
                raise
        else:
            self.state.counts["let-off"] += 1

    # what the platform hears

    def tell(self) -> None:
        """Leave a note for the agent that reports: how this replica does. Notes of replicas that are gone are removed."""
        now = self._now()
        mine = {
            "at": iso(now),
            "version": self.state.rules.version,
            "certificate_until": iso(certs.expires(self._serving)) if self._serving else "",
            **self.state.figures(),
        }
        data = _texts(self._kube.get(self._names.config).get("data"))
        notes: dict[str, str | None] = {STATUS + self._names.pod: json.dumps(mine, sort_keys=True)}
        for key, text in data.items():
            if key.startswith(STATUS) and key not in notes and _at(text) < now - STATUS_LIFE:
                notes[key] = None
        self._kube.patch(self._names.config, {"data": notes})


def _waits(pod: dict[str, Any], late: datetime) -> str:
    """The owner of a pod that the scheduler has not placed since before `late` and that carries a hard rule of ours."""
    metadata, spec, status = (pod.get(name) or {} for name in ("metadata", "spec", "status"))
    marks = str((metadata.get("annotations") or {}).get(MARK) or "").split(",")
    kind, name = owner_of(metadata)
    if not kind or not HARD & set(marks) or spec.get("nodeName") or metadata.get("deletionTimestamp"):
        return ""
    if status.get("phase") != "Pending" or spec.get("schedulingGates"):
        return ""
    try:
        old = moment(metadata["creationTimestamp"]) <= late
    except (KeyError, ValueError, TypeError):
        return ""
    return f"{kind}/{metadata.get('namespace')}/{name}" if old else ""


def _texts(data: object) -> dict[str, str]:
    return {k: v for k, v in data.items() if isinstance(v, str)} if isinstance(data, dict) else {}


def _decoded(data: object) -> dict[str, str]:
    try:
        return {k: base64.b64decode(v, validate=True).decode() for k, v in _texts(data).items()}
    except (binascii.Error, ValueError):
        return {}


def _at(text: str) -> datetime:
    try:
        return moment(json.loads(text)["at"])
    except (ValueError, KeyError, TypeError):
        return datetime.min.replace(tzinfo=UTC)


def _live(text: str, now: datetime) -> dict[str, str]:
    """Who is let off, and until when, of those whose time is not over."""
    try:
        found = json.loads(text) if text else {}
        return {str(o): str(until) for o, until in found.items() if moment(until) > now}
    except (ValueError, TypeError, AttributeError):
        return {}
