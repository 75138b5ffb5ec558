"""Azure Resource Manager and its sign-in, for virtual machines.

Plays what the public recordings of the service show: power actions answer 202 with an empty body,
`Azure-AsyncOperation` and `Location`, without Retry-After; the operation is InProgress until
`operation_seconds` have passed, then Succeeded or Failed. Lists come in pages of `page_size`.
Serve it over TLS: the SDK sends tokens over nothing else.
"""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.server import Answer, FakeServer, Request

SUBSCRIPTION = "5b1f0a52-3f0e-4b8e-9a75-0d2c6f4b7a10"
TENANT = "8d2f7c11-6c6a-4f3f-9f54-2a1d9c0e5b77"
CLIENT = "0f9c3f0a-7a51-4a1e-8d1b-6f7b8f3f6f21"
SECRET = "Xy8Q~a-very-secret-value-of-the-app"

_MACHINE = re.compile(
    r"(/subscriptions/([^/]+)/resourceGroups/[^/]+/providers/Microsoft\.Compute/virtualMachines/([^/]+))(?:/(\w+))?",
    re.IGNORECASE,
)
_LIST = re.compile(r"/subscriptions/[^/]+/providers/Microsoft\.Compute/virtualMachines", re.IGNORECASE)
_OPERATION = re.compile(
    r"/subscriptions/[^/]+/providers/Microsoft\.Compute/locations/[^/]+/operations/([^/]+)", re.IGNORECASE
)
_GOAL = {
    "start": ("starting", "running"),
    "deallocate": ("deallocating", "deallocated"),
    "powerOff": ("stopping", "stopped"),
}


@dataclass
class Machine:
    """One virtual machine."""

    id: str
    name: str
    power: str
    tags: dict[str, str]
    size: str = "Standard_NC4as_T4_v3"
    priority: str = ""
    location: str = "eastus"

    def view(self) -> dict[str, Any]:
        return {
            "statuses": [
                {
                    "code": "ProvisioningState/succeeded",
                    "level": "Info",
                    "displayStatus": "Provisioning succeeded",
                    "time": "2026-11-20T00:00:00Z",
                },
                {"code": f"PowerState/{self.power}", "level": "Info", "displayStatus": f"VM {self.power}"},
            ]
        }

    def public(self) -> dict[str, Any]:
        properties: dict[str, Any] = {
            "vmId": str(uuid.uuid5(uuid.NAMESPACE_URL, self.id)),
            "provisioningState": "Succeeded",
            "hardwareProfile": {"vmSize": self.size},
        }
        if self.priority:
            properties["priority"] = self.priority
        return {
            "id": self.id,
            "name": self.name,
            "type": "Microsoft.Compute/virtualMachines",
            "location": self.location,
            "tags": self.tags,
            "zones": ["1"],
            "properties": properties,
        }


@dataclass
class Operation:
    """One long-running operation."""

    id: str
    machine: Machine
    goal: str
    began: float = field(default_factory=time.monotonic)
    failure: tuple[str, str] | None = None
    ended: bool = False


class FakeArm(FakeServer):
    """One subscription. `late_failures` maps a verb to the error with which its next operation ends."""

    def __init__(self, *, tls: tuple[str, str] | None, operation_seconds: float = 0.4, page_size: int = 2) -> None:
        super().__init__(tls=tls)
        self.machines: dict[str, Machine] = {}
        self.operations: dict[str, Operation] = {}
        self.operation_seconds = operation_seconds
        self.page_size = page_size
        self.secret = SECRET
        self.tokens: set[str] = set()
        self.late_failures: dict[str, tuple[str, str]] = {}

    def add(self, name: str, *, power: str = "deallocated", tags: dict[str, str] | None = None, **more: Any) -> Machine:
        """Make a machine; returns it."""
        arm_id = (
            f"/subscriptions/{SUBSCRIPTION}/resourceGroups/studio/providers/Microsoft.Compute/virtualMachines/{name}"
        )
        machine = Machine(arm_id, name, power, dict(tags or {}), **more)
        self.machines[arm_id.lower()] = machine
        return machine

    def answer(self, request: Request) -> Answer:
        for operation in self.operations.values():
            self._settle(operation)
        if "/oauth2/" in request.path or "/.well-known/" in request.path:
            return self._sign_in(request)
        if request.bearer not in self.tokens:
            return _error(401, "InvalidAuthenticationToken", "The access token is invalid.")
        if request.path.lower() == f"/subscriptions/{SUBSCRIPTION}":
            return Answer(
                200,
                {
                    "id": request.path,
                    "subscriptionId": SUBSCRIPTION,
                    "displayName": "Northlight production",
                    "state": "Enabled",
                },
            )
        if not request.path.lower().startswith(f"/subscriptions/{SUBSCRIPTION}/"):
            return _error(
                404, "SubscriptionNotFound", f"The subscription '{request.path.split('/')[2]}' could not be found."
            )
        if found := _OPERATION.fullmatch(request.path):
            return self._operation(request, found[1])
        if found := _MACHINE.fullmatch(request.path):
            return self._machine(request, found)
        if _LIST.fullmatch(request.path):
            return self._page(request)
        return _error(404, "InvalidResourceType", request.path)

    def _sign_in(self, request: Request) -> Answer:
        tenant = request.path.split("/")[1]
        base = f"{self.url}/{tenant}"
        if tenant != TENANT:
            return _sign_in_error(
                400,
                "invalid_request",
                f"AADSTS90002: Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID.",
            )
        if request.path.endswith("openid-configuration"):
            return Answer(
                200,
                {
                    "token_endpoint": f"{base}/oauth2/v2.0/token",
                    "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                    "issuer": f"{base}/v2.0",
                },
            )
        form = request.form()
        if form.get("client_id") != CLIENT:
            return _sign_in_error(
                400,
                "unauthorized_client",
                f"AADSTS700016: Application with identifier '{form.get('client_id')}' was not found.",
            )
        if form.get("client_secret") != self.secret:
            return _sign_in_error(
                401, "invalid_client", "AADSTS7000215: Invalid client secret provided. Trace ID: 1 Correlation ID: 2"
            )
        token = f"token-{uuid.uuid4().hex}"
        self.tokens.add(token)
        return Answer(200, {"token_type": "Bearer", "expires_in": 3600, "access_token": token})

    def _operation(self, request: Request, name: str) -> Answer:
        operation = self.operations.get(name)
        if operation is None:
            return _error(404, "NotFound", "The operation is not known.")
        if request.query.get("monitor") == "true":
            return Answer(200 if operation.ended else 202)
        body: dict[str, Any] = {"startTime": "2026-11-20T00:00:00+00:00", "status": "InProgress", "name": name}
        if operation.ended:
            body |= {"endTime": "2026-11-20T00:00:01+00:00", "status": "Failed" if operation.failure else "Succeeded"}
            if operation.failure:
                body["error"] = {"code": operation.failure[0], "message": operation.failure[1]}
        return Answer(200, body)

    def _machine(self, request: Request, found: re.Match[str]) -> Answer:
        machine, verb = self.machines.get(found[1].lower()), found[4]
        if machine is None:
            return _error(
                404, "ResourceNotFound", f"The Resource 'Microsoft.Compute/virtualMachines/{found[3]}' was not found."
            )
        if request.method == "GET" and verb == "instanceView":
            return Answer(200, machine.view())
        if request.method == "GET" and not verb:
            body = machine.public()
            if request.query.get("$expand") == "instanceView":
                body["properties"]["instanceView"] = machine.view()
            return Answer(200, body)
        if request.method == "POST" and verb in _GOAL:
            return self._order(machine, verb)
        return _error(405, "MethodNotAllowed", request.path)

    def _order(self, machine: Machine, verb: str) -> Answer:
        through, goal = _GOAL[verb]
        operation = Operation(str(uuid.uuid4()), machine, goal, failure=self.late_failures.pop(verb, None))
        self.operations[operation.id] = operation
        if machine.power != goal:
            machine.power = through
        url = f"{self.url}/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/locations/eastus/operations/{operation.id}?p=x&api-version=2024-07-01"
        return Answer(
            202,
            None,
            {
                "Azure-AsyncOperation": url,
                "Location": url.replace("?p=x", "?p=x&monitor=true"),
                "Azure-AsyncNotification": "Enabled",
            },
        )

    def _page(self, request: Request) -> Answer:
        first = int(request.query.get("$skiptoken") or 0)
        status_only = request.query.get("statusOnly") == "true"
        machines = list(self.machines.values())
        value = []
        for machine in machines[first : first + self.page_size]:
            body = machine.public()
            if status_only:
                body["properties"]["instanceView"] = machine.view()
                body.pop("tags")
            value.append(body)
        answer: dict[str, Any] = {"value": value}
        if first + self.page_size < len(machines):
            only = "&statusOnly=true" if status_only else ""
            answer["nextLink"] = (
                f"{self.url}{request.path}?api-version=2024-07-01{only}&$skiptoken={first + self.page_size}"
            )
        return Answer(200, answer)

    def _settle(self, operation: Operation) -> None:
        if not operation.ended and time.monotonic() - operation.began >= self.operation_seconds:
            operation.ended = True
            operation.machine.power = "deallocated" if operation.failure else operation.goal


def _error(status: int, code: str, message: str, **headers: str) -> Answer:
    return Answer(status, {"error": {"code": code, "message": message}}, dict(headers))


def _sign_in_error(status: int, error: str, words: str) -> Answer:
    return Answer(
        status, {"error": error, "error_description": words, "error_codes": [], "trace_id": "1", "correlation_id": "2"}
    )


def arm_error(status: int, code: str, message: str = "", **headers: str) -> Answer:
    """Return an error as ARM words it, for `FakeArm.fail`."""
    return _error(status, code, message or code, **headers)
