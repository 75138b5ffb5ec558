"""Cloud Run v2 over REST and Google's token endpoint.

Messages are read and written with Google's own protos, so field names cannot drift. The token
endpoint checks the signature of the service account's assertion; an update with a stale etag is
refused; operations end after `operation_seconds`. Lists come in pages of `page_size`.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from tests.fakes.server import Answer, FakeServer, Request

PROJECT = "northlight-render"
REGION = "us-central1"
PARENT = f"projects/{PROJECT}/locations/{REGION}"
EMAIL = f"curfew@{PROJECT}.iam.gserviceaccount.com"
MANUAL = 2

_SERVICE = re.compile(rf"/v2/({PARENT}/services/[^/]+)")
_SERVICES = re.compile(r"/v2/projects/[^/]+/locations/[^/]+/services")
_OPERATION = re.compile(r"/v2/(projects/[^/]+/locations/[^/]+/operations/[^/]+)")


@dataclass
class Operation:
    """One long-running operation."""

    name: str
    service: str
    began: float = field(default_factory=time.monotonic)
    failure: tuple[int, str] | None = None


@lru_cache(maxsize=1)
def private_key() -> tuple[str, Any]:
    """Return a PEM private key and its public half; made once, since it takes a moment."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return pem, key.public_key()


def service_account_key(**changes: Any) -> str:
    """Return a service-account key file as JSON; `changes` replace fields, None removes them."""
    key: dict[str, Any] = {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "f00dfeedf00dfeedf00dfeed",
        "private_key": private_key()[0],
        "client_email": EMAIL,
        "client_id": "100000000000000000001",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": "https://oauth2.googleapis.com/token",
        "universe_domain": "googleapis.com",
    } | changes
    return json.dumps({k: v for k, v in key.items() if v is not None})


class FakeCloudRun(FakeServer):
    """One project in one region. `late_failure` is the (rpc code, message) with which the next operation ends."""

    def __init__(self, *, operation_seconds: float = 0.4, page_size: int = 2) -> None:
        super().__init__()
        self.services: dict[str, Any] = {}
        self.operations: dict[str, Operation] = {}
        self.operation_seconds = operation_seconds
        self.page_size = page_size
        self.tokens: set[str] = set()
        self.late_failure: tuple[int, str] | None = None
        self.patches: list[tuple[list[str], dict[str, Any]]] = []

    def add(
        self,
        name: str,
        *,
        manual: int | None = None,
        minimum: int = 0,
        labels: dict[str, str] | None = None,
        annotations: dict[str, str] | None = None,
        accelerator: str = "nvidia-l4",
    ) -> str:
        """Make a service; `manual` None means automatic scaling. Returns its resource name."""
        from google.cloud import run_v2

        scaling = run_v2.ServiceScaling(scaling_mode=1, min_instance_count=minimum)
        if manual is not None:
            scaling = run_v2.ServiceScaling(scaling_mode=MANUAL, manual_instance_count=manual)
        full = f"{PARENT}/services/{name}"
        self.services[full] = run_v2.Service(
            name=full,
            uri=f"https://{name}-abc.a.run.app",
            generation=1,
            etag='"1"',
            labels=labels or {},
            annotations={"run.googleapis.com/ingress": "all", **(annotations or {})},
            scaling=scaling,
            template=run_v2.RevisionTemplate(node_selector=run_v2.NodeSelector(accelerator=accelerator)),
            terminal_condition=run_v2.Condition(type_="Ready", state=4),
        )
        return full

    def answer(self, request: Request) -> Answer:
        for operation in self.operations.values():
            self._settle(operation)
        if request.path == "/token":
            return self._token(request)
        if request.bearer not in self.tokens:
            return google_error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        if found := _OPERATION.fullmatch(request.path):
            return self._operation(found[1])
        if found := _SERVICE.fullmatch(request.path):
            return self._service(request, found[1])
        if _SERVICES.fullmatch(request.path):
            return self._page(request)
        return google_error(404, "NOT_FOUND", request.path)

    def _token(self, request: Request) -> Answer:
        from cryptography.hazmat.primitives import serialization
        from google.auth import jwt

        public = private_key()[1].public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        try:
            claims = jwt.decode(
                request.form().get("assertion", ""),
                certs=public,
                verify=True,
                audience="https://oauth2.googleapis.com/token",
            )
        except ValueError:
            return Answer(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
        if claims["iss"] != EMAIL:
            return Answer(400, {"error": "invalid_grant", "error_description": "Invalid grant: account not found"})
        token = f"ya29.{uuid.uuid4().hex}"
        self.tokens.add(token)
        return Answer(200, {"access_token": token, "expires_in": 3600, "token_type": "Bearer"})

    def _operation(self, name: str) -> Answer:
        from google.longrunning import operations_pb2

        operation = self.operations.get(name)
        if operation is None:
            return google_error(404, "NOT_FOUND", f"Operation {name} was not found")
        message = operations_pb2.Operation(name=name, done=self._ended(operation))
        if message.done and operation.failure:
            message.error.code, message.error.message = operation.failure
        elif message.done:
            message.response.Pack(self._pb(operation.service))
        return Answer(200, _as_json(message))

    def _service(self, request: Request, name: str) -> Answer:
        from google.cloud import run_v2
        from google.protobuf import json_format
        from google.protobuf.field_mask_pb2 import FieldMask

        if name not in self.services:
            return google_error(
                404,
                "NOT_FOUND",
                f"Resource '{name.rsplit('/', 1)[-1]}' of kind 'SERVICE' in region '{REGION}' does not exist.",
            )
        if request.method == "GET":
            return Answer(200, _as_json(self._pb(name)))
        if request.method != "PATCH":
            return google_error(405, "UNIMPLEMENTED", request.method)
        new = run_v2.Service()
        json_format.Parse(request.body, run_v2.Service.pb(new))
        if new.etag and new.etag != self.services[name].etag:
            return google_error(409, "ABORTED", "Conflict for resource: the etag does not match.")
        if any(key.startswith("run.googleapis.com/") for key in new.annotations):
            return google_error(400, "INVALID_ARGUMENT", "annotations: reserved namespace")
        paths = [
            re.sub("([A-Z])", lambda m: "_" + m[1].lower(), p)
            for p in request.query.get("updateMask", "").split(",")
            if p
        ]
        self.patches.append((sorted(paths), json.loads(request.body)))
        current = self._pb(name)
        kept = {k: v for k, v in current.annotations.items() if k.startswith("run.googleapis.com/")}
        FieldMask(paths=[p for p in paths if p != "annotations"]).MergeMessage(
            run_v2.Service.pb(new), current, True, True
        )
        if "annotations" in paths:
            current.annotations.clear()
            current.annotations.update({**kept, **dict(new.annotations)})
        current.generation += 1
        current.etag = f'"{current.generation}"'
        current.reconciling = True
        operation = Operation(f"{PARENT}/operations/{uuid.uuid4()}", name, failure=self.late_failure)
        self.late_failure = None
        self.operations[operation.name] = operation
        return Answer(200, {"name": operation.name, "done": False})

    def _page(self, request: Request) -> Answer:
        if not request.path.startswith(f"/v2/{PARENT}/"):
            return google_error(
                403, "PERMISSION_DENIED", "Permission 'run.services.list' denied on resource (or it may not exist)."
            )
        first = int(request.query.get("pageToken") or 0)
        size = min(self.page_size, int(request.query.get("pageSize") or self.page_size))
        names = list(self.services)
        body: dict[str, Any] = {"services": [_as_json(self._pb(name)) for name in names[first : first + size]]}
        if first + size < len(names):
            body["nextPageToken"] = str(first + size)
        return Answer(200, body)

    def _pb(self, name: str) -> Any:
        from google.cloud import run_v2

        return run_v2.Service.pb(self.services[name])

    def _ended(self, operation: Operation) -> bool:
        return time.monotonic() - operation.began >= self.operation_seconds

    def _settle(self, operation: Operation) -> None:
        if operation.service in self.services and self._ended(operation):
            self.services[operation.service].reconciling = False


def google_error(status: int, name: str, message: str, reason: str = "") -> Answer:
    """Return an error as Google words it, for `FakeCloudRun.fail` too."""
    body: dict[str, Any] = {"error": {"code": status, "status": name, "message": message}}
    if reason:
        body["error"]["details"] = [
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "run.googleapis.com"}
        ]
    return Answer(status, body)


def _as_json(message: Any) -> dict[str, Any]:
    from google.protobuf import json_format

    return json_format.MessageToDict(message)  # type: ignore[no-any-return]
