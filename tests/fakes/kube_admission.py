"""Mutating admission as an API server does it: which webhooks concern an object, the call over TLS, the patch, failures.

Services are resolved by `Admission.services`; nothing else stands between us and the webhook: its certificate must be
valid for `<service>.<namespace>.svc` under the configuration's caBundle.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.fakes.kube_patch import json_patch
from tests.fakes.kube_store import Kind, Object, Refusal, selects

if TYPE_CHECKING:
    from tests.fakes.kube import FakeKube

PLURAL = "mutatingwebhookconfigurations"


@dataclass
class Call:
    """What became of one call of a webhook."""

    webhook: str
    seconds: float
    status: int = 0
    patch: list[Object] = field(default_factory=list)
    failure: str = ""


class Admission:
    """`services` maps (namespace, name) to an address. `calls` is what happened."""

    def __init__(self, kube: FakeKube) -> None:
        self.kube = kube
        self.services: dict[tuple[str, str], tuple[str, int]] = {}
        self.calls: list[Call] = []

    def mutated(self, kind: Kind, namespace: str, obj: Object) -> Object:
        """The object after every webhook that concerns it; one that fails is passed over or refuses, as it asks."""
        hooks = [h for c in self.kube.all(PLURAL) for h in c.get("webhooks") or ()]
        hooks = [h for h in hooks if self._concerns(h, kind, namespace, obj)]
        again = [h for h in hooks if h.get("reinvocationPolicy") == "IfNeeded"] if len(hooks) > 1 else []
        for hook in [*hooks, *again]:
            call, obj = self._call(hook, kind, namespace, obj)
            self.calls.append(call)
            if call.failure and hook.get("failurePolicy", "Fail") == "Fail":
                raise Refusal(500, "InternalError", f'failed calling webhook "{hook["name"]}": {call.failure}')
        return obj

    def _concerns(self, hook: Object, kind: Kind, namespace: str, obj: Object) -> bool:
        for rule in hook.get("rules") or ():
            if (
                kind.group in rule["apiGroups"]
                and kind.version in rule["apiVersions"]
                and kind.plural in rule["resources"]
                and "CREATE" in rule["operations"]
            ):
                break
        else:
            return False
        labels = {"kubernetes.io/metadata.name": namespace}
        for one in self.kube.all("namespaces"):
            if one["metadata"]["name"] == namespace:
                labels |= one["metadata"].get("labels") or {}
        mine = (obj.get("metadata") or {}).get("labels") or {}
        return selects(hook.get("namespaceSelector", {}), labels) and selects(hook.get("objectSelector", {}), mine)

    def _call(self, hook: Object, kind: Kind, namespace: str, obj: Object) -> tuple[Call, Object]:
        began = time.monotonic()
        call = Call(hook["name"], 0.0)
        request: Object = {
            "uid": str(uuid.uuid4()),
            "kind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
            "resource": {"group": kind.group, "version": kind.version, "resource": kind.plural},
            "namespace": namespace,
            "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
            "object": obj,
            "oldObject": None,
            "dryRun": False,
        }
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
        try:
            call.status, answer = self._post(hook, json.dumps(review).encode())
            if call.status != 200:
                raise ValueError(f"the server answered {call.status}")
            response = json.loads(answer)["response"]
            if response["uid"] != request["uid"]:
                raise ValueError("expected response.uid to be the request's")
            if response.get("patch"):
                if response.get("patchType") != "JSONPatch":
                    raise ValueError("unknown patch type")
                call.patch = json.loads(base64.b64decode(response["patch"], validate=True))
                obj = json_patch(obj, call.patch)
            if response["allowed"] is not True:
                raise Refusal(403, "Forbidden", f'admission webhook "{hook["name"]}" denied the request')
        except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException) as failure:
            call.failure = f"{type(failure).__name__}: {failure}"
        finally:
            call.seconds = time.monotonic() - began
        return call, obj

    def _post(self, hook: Object, body: bytes) -> tuple[int, bytes]:
        service = hook["clientConfig"]["service"]
        name = f"{service['name']}.{service['namespace']}.svc"
        address = self.services.get((service["namespace"], service["name"]))
        if address is None:
            raise ConnectionRefusedError(f"no endpoints available for service {service['name']!r}")
        bundle = base64.b64decode(hook["clientConfig"].get("caBundle") or "").decode()
        if not bundle:
            raise ssl.SSLError("x509: certificate signed by unknown authority")
        context = ssl.create_default_context(cadata=bundle)
        seconds = float(hook.get("timeoutSeconds", 10))
        with (
            socket.create_connection(address, timeout=seconds) as plain,
            context.wrap_socket(plain, server_hostname=name) as wrapped,
        ):
            client = http.client.HTTPConnection(name)
            client.sock = wrapped
            client.request("POST", service.get("path", "/"), body, {"Content-Type": "application/json"})
            answer: Any = client.getresponse()
            return answer.status, answer.read()
