"""How long the placement webhook takes: `python -m agent webhook` in a process of its own, reviews over TLS.

    python -m bench.policies_webhook --reviews 20000 --connections 8 --per-second 400

Each connection stays open, as an API server's do, and asks at a steady pace (0: as fast as it can). Pods have the size
of real ones (two containers, environment, probes, volumes, managed fields), and every rule is switched on. Measured from
the first byte of a request sent to the last byte of its answer, by a client that shares the cores. Exit code 1 when the
99th percentile exceeds 10 ms.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import ssl
import subprocess
import sys
import threading
import time
from typing import Any

from agent.wire.placement import Rules
from bench.agent_budget import cpu_seconds, memory, wait
from bench.support import ROOT, report
from clusters.inventory.install import CHART
from tests.agent.helm import Chart
from tests.agent.webhook.conftest import INSTALLED, PUBLIC, VALUES, envelope
from tests.fakes.kube import FakeKube

LIMIT_MS = 10.0
RULES = Rules(
    version=1,
    strategy="force",
    spot=(("karpenter.sh/capacity-type", "spot"), ("eks.amazonaws.com/capacityType", "SPOT")),
    tolerations=(("spot", "true", "NoSchedule"),),
    block_burstable=True,
    burstable=tuple(f"{f}.{s}" for f in ("t2", "t3", "t3a", "t4g") for s in ("micro", "small", "medium", "large")),
    spread=True,
    exempt_namespaces=frozenset(f"team-{n}" for n in range(40)),
    exempt_labels=(("tier", "database"), ("legacy", "")),
    own_namespace="curfew",
)


def pod(number: int) -> dict[str, Any]:
    """A pod as a ReplicaSet makes it, some 7 kB of JSON."""
    probe = {"httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"}, "periodSeconds": 10, "timeoutSeconds": 1}
    box = {
        "image": "registry.example/shop/web:2026.11.28",
        "env": [{"name": f"SETTING_{n}", "value": f"value-{n}-of-the-application"} for n in range(25)],
        "resources": {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}},
        "livenessProbe": probe,
        "readinessProbe": probe,
        "volumeMounts": [{"name": f"v{n}", "mountPath": f"/srv/{n}", "readOnly": True} for n in range(4)],
    }
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d9f", "controller": True, "uid": "u"}
    fields = {"f:spec": {"f:containers": {f"k:{n}": {"f:env": {}, "f:image": {}} for n in range(20)}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "web-5d9f-",
            "namespace": f"shop-{number % 50}",
            "labels": {"app": "web", "team": "shop", "pod-template-hash": "5d9f"},
            "annotations": {"prometheus.io/scrape": "true"},
            "ownerReferences": [owner],
            "managedFields": [{"manager": "kube-controller-manager", "operation": "Update", "fieldsV1": fields}],
        },
        "spec": {
            "containers": [{**box, "name": "web"}, {**box, "name": "sidecar"}],
            "volumes": [{"name": f"v{n}", "configMap": {"name": f"c{n}"}} for n in range(4)],
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "tolerationSeconds": 300}],
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}]}
                        ]
                    }
                }
            },
        },
    }


def review(number: int) -> bytes:
    made = pod(number)
    request = {
        "uid": f"uid-{number}",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": made["metadata"]["namespace"],
        "operation": "CREATE",
        "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
        "object": made,
    }
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


def ask(port: int, context: ssl.SSLContext, bodies: list[bytes], pause: float, times: list[float]) -> None:
    """One connection's share of the reviews; every answer must hold a patch."""
    client = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
    client.connect()
    due = time.monotonic()
    for body in bodies:
        due += pause
        time.sleep(max(0.0, due - time.monotonic()))
        began = time.perf_counter()
        client.request("POST", "/mutate?timeout=2s", body, {"Content-Type": "application/json"})
        answer = client.getresponse().read()
        times.append(time.perf_counter() - began)
        assert b'"allowed":true' in answer, answer[:300]
        assert b'"patch":' in answer, answer[:300]
    client.close()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--reviews", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--per-second", type=float, default=400.0)
    options = parser.parse_args()
    port = 18_443
    with FakeKube() as kube:
        for obj in Chart(CHART).render(VALUES):
            if obj["kind"] in INSTALLED:
                kube.create(obj)
        uid = str(kube.get("namespaces", "", "kube-system")["metadata"]["uid"])
        text = json.dumps(envelope(RULES, uid))
        kube.change("configmaps", "curfew", "curfew-agent-placement", {"data": {"rules": text}})
        command = [
            sys.executable, "-m", "agent", "webhook", "--listen", "127.0.0.1", "--port", str(port), "--namespace",
            "curfew", "--api-server", kube.url, "--orders-key", PUBLIC, "--log-level", "WARNING",
        ]  # fmt: skip
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        try:

            def bundle() -> str:
                hooks = kube.get("mutatingwebhookconfigurations", "", "curfew-agent-placement")["webhooks"]
                return base64.b64decode(hooks[0]["clientConfig"].get("caBundle") or "").decode()

            wait(bundle, 30)
            time.sleep(1.0)
            context = ssl.create_default_context(cadata=bundle())
            context.check_hostname = False  # the test dials an address; the name is checked in tests/agent/webhook
            bodies = [review(n) for n in range(200)]
            share = options.reviews // options.connections
            pause = options.connections / options.per_second if options.per_second else 0.0
            times: list[float] = []
            before, began = cpu_seconds(process.pid), time.monotonic()
            threads = [
                threading.Thread(
                    target=ask, args=(port, context, [bodies[n % 200] for n in range(share)], pause, times)
                )
                for _ in range(options.connections)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            seconds, used = time.monotonic() - began, cpu_seconds(process.pid) - before
            rss = memory(process.pid, "VmRSS")
        finally:
            process.terminate()
            process.wait(10)
    assert len(times) == share * options.connections, "a connection failed"
    times.sort()

    def at(percent: float) -> float:
        return round(times[min(len(times) - 1, int(len(times) * percent / 100))] * 1000, 2)

    report(
        "policies_webhook",
        reviews=len(times),
        bytes_each=len(bodies[0]),
        per_second=round(len(times) / seconds),
        p50_ms=at(50),
        p95_ms=at(95),
        p99_ms=at(99),
        p999_ms=at(99.9),
        most_ms=at(100),
        cpu_ms_each=round(used / len(times) * 1000, 3),
        memory_mb=round(rss / 1e6),
    )
    return 0 if at(99) <= LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
