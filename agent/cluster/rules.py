"""Signed placement rules: opened by whoever uses them, kept in the cluster by the agent that hears the platform.

The rules have no end: they hold while the platform is away. A higher version replaces a lower one, never the other way.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import time
from collections.abc import Callable
from typing import Any

from agent.cluster.kube import Gone, Kube, KubeError, object_path
from agent.cluster.orders import Refused
from agent.transport import Unreachable
from agent.wire.placement import CONTEXT, BadRules, Rules, read

log = logging.getLogger("curfew.agent.rules")
RULES = "rules"
LOOK_SECONDS = 30.0
MOST_REPLICAS = 20
LARGEST = 512 * 1024


def opened(raw: object, check: Callable[[bytes, bytes], bool], cluster: str) -> Rules:
    """The rules of an envelope {payload, signature} when it is signed for this cluster. Raises Refused."""
    try:
        assert isinstance(raw, dict)
        payload = base64.b64decode(raw.get("payload") or "", validate=True)
        signature = base64.b64decode(raw.get("signature") or "", validate=True)
    except (AssertionError, TypeError, ValueError, binascii.Error):
        raise Refused("payload or signature is not base64") from None
    if len(payload) > LARGEST:
        raise Refused("the rules are too long")
    if not check(signature, CONTEXT + payload):
        raise Refused("the signature does not fit")
    try:
        body = json.loads(payload)
        if not cluster or body["cluster"] != cluster:
            raise Refused("the rules are for another cluster")
        return read(body["rules"])
    except (BadRules, ValueError, KeyError, TypeError, RecursionError) as bad:
        raise Refused(f"the rules are malformed: {bad}"[:200]) from None


class RulesKeeper:
    """Takes envelopes from heartbeat answers, keeps the newest in the ConfigMap, reports what stands there."""

    def __init__(
        self,
        kube: Kube,
        *,
        config: str,
        namespace: str,
        check: Callable[[bytes, bytes], bool] | None,
        cluster: Callable[[], str],
    ) -> None:
        self._kube, self._check, self._cluster = kube, check, cluster
        self._path = object_path("/api/v1/configmaps", namespace, config) if config and namespace else ""
        self._looked = 0.0
        self._told: dict[str, Any] = {}

    @property
    def usable(self) -> bool:
        return bool(self._path) and self._check is not None

    def report(self) -> dict[str, Any]:
        """What the heartbeat says of it: {} where there is no webhook. Asks the API server twice a minute at most."""
        if self.usable and self._cluster() and time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            self._look()
        return self._told

    def _look(self) -> None:
        try:
            data = self._kube.get(self._path).get("data") or {}
        except (KubeError, Gone, Unreachable) as problem:
            self._told = {"version": 0, **self._told, "problem": str(problem)[:200]}  # not knowing is not "gone"
            return
        self._told = {
            "version": self._version(str(data.get(RULES) or "")),
            "replicas": [
                {"pod": key.partition(".")[2][:253], **_object(text)}
                for key, text in sorted(data.items())
                if key.startswith("status.")
            ][:MOST_REPLICAS],
            "softened": _object(str(data.get("softened") or "")),
        }

    def _version(self, text: str) -> int:
        assert self._check is not None
        try:
            return opened(json.loads(text), self._check, self._cluster()).version if text else 0
        except (ValueError, Refused):
            return 0

    def take(self, raw: object) -> None:
        """Keep an envelope that is newer than what is kept. Never raises for what the platform sends."""
        if raw is None or not self.usable:
            return
        assert self._check is not None
        try:
            rules = opened(raw, self._check, self._cluster())
            found = self._kube.get(self._path)
            if rules.version <= self._version(str((found.get("data") or {}).get(RULES) or "")):
                return
            version = (found.get("metadata") or {}).get("resourceVersion")
            text = json.dumps(raw, sort_keys=True)
            self._kube.patch(self._path, {"metadata": {"resourceVersion": version}, "data": {RULES: text}})
        except (Refused, KubeError, Gone, Unreachable) as problem:
            log.warning("the rules are not kept: %s", problem)
            self._told = {**self._told, "problem": str(problem)[:200]}
            return
        log.info("rules %d are kept", rules.version)
        self._looked = 0.0


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
