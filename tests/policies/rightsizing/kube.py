"""A fake API server whose workloads roll out: pods follow templates, and can be made to break."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from tests.fakes.kube import FakeKube
from tests.fakes.kube_http import Asked
from tests.fakes.kube_store import Object

SHOP = "shop"


def deployment(name: str, *boxes: Object, replicas: int = 2, kind: str = "Deployment", **more: Any) -> Object:
    """A workload whose containers are given as {"name": ..., "resources": ...}."""
    labels = {"app": name}
    meta = {"name": name, "namespace": more.pop("namespace", SHOP), "labels": {**labels, **more.pop("labels", {})}}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {**meta, **more},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [dict(box) for box in boxes]}},
        },
    }


def box(name: str = "app", image: str = "shop/web:1", **resources: dict[str, str]) -> Object:
    return {"name": name, "image": image, **({"resources": resources} if resources else {})}


class RollingKube(FakeKube):
    """`broken(template)` says why pods of a template break: "OOMKilled", "" for not."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.broken: Callable[[Object], str] = lambda template: ""
        self.writes: list[str] = []
        self.after: Callable[[str], None] = lambda line: None
        self.rolling = True

    def answer(self, asked: Asked) -> tuple[int, Any]:
        if asked.method == "GET":
            if self.rolling:
                self.roll()
            return super().answer(asked)
        line = f"{asked.method} {asked.path}"
        found = super().answer(asked)
        self.writes.append(line)
        self.after(line)
        return found

    def roll(self) -> None:
        """Bring the pods of every workload in line with its template."""
        with self.store.lock:
            for plural in ("deployments", "statefulsets"):
                for obj in self.all(plural):
                    self._roll(plural, obj)

    def _roll(self, plural: str, obj: Object) -> None:
        spec, meta = obj["spec"], obj["metadata"]
        template = spec["template"]["spec"]
        mark = str(hash(repr(template)))
        wanted = int(spec.get("replicas", 1))
        mine = [p for p in self.all("pods") if p["metadata"].get("labels", {}).get("app") == meta["name"]]
        for pod in mine:
            if pod["metadata"]["annotations"]["template"] != mark:
                self.delete("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])
        fresh = [p for p in mine if p["metadata"]["annotations"]["template"] == mark]
        why = self.broken(template)
        for _ in range(wanted - len(fresh)):
            self.create(self._pod(meta, template, mark, why))
        ready = 0 if why else wanted
        status = {"replicas": wanted, "updatedReplicas": wanted, "readyReplicas": ready}
        if (obj.get("status") or {}) != {**status, "observedGeneration": meta.get("generation", 1)}:
            self.store.replace(
                self.kind(plural),
                meta["namespace"],
                meta["name"],
                {**obj, "status": {**status, "observedGeneration": meta.get("generation", 1)}},
            )

    @staticmethod
    def _pod(meta: Object, template: Object, mark: str, why: str) -> Object:
        ended = {"terminated": {"reason": why, "finishedAt": "2099-01-01T00:00:00Z", "exitCode": 137}}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{meta['name']}-{uuid.uuid4().hex[:6]}",
                "namespace": meta["namespace"],
                "labels": {"app": meta["name"]},
                "annotations": {"template": mark},
            },
            "spec": {"containers": [dict(one) for one in template["containers"]]},
            "status": {
                "phase": "Running",
                "containerStatuses": [
                    {"name": one["name"], "restartCount": 1 if why else 0, **({"lastState": ended} if why else {})}
                    for one in template["containers"]
                ],
            },
        }

    def resources(self, name: str, namespace: str = SHOP, plural: str = "deployments") -> dict[str, Any]:
        """Resources by container as they are now."""
        found = self.get(plural, namespace, name)["spec"]["template"]["spec"]["containers"]
        return {one["name"]: one.get("resources") for one in found}
