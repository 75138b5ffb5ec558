"""What moto lacks, laid over it as a WSGI application.

- Instances take time: `pending` and `stopping` last some seconds, and orders that a state does
  not allow are refused as EC2 refuses them.
- Roles: a trust policy with an external ID is obeyed (moto lets a missing one pass), and so is
  its principal.
- Faults on demand: `POST /_faults [{"action", "code", "status", "times", "match", "delay", "body"}]`.
- Prices, spot prices and spot placement scores.
- `changed` is called before the answer to whatever may have changed something is given.
"""

from __future__ import annotations

import io
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from cloudnodes.sandbox import aws_clusters, aws_prices

_SCOPE = re.compile(r"Credential=([^/,\s]+)/\d{8}/([^/]+)/([^/]+)/aws4_request")
_CODES = {"pending": 0, "running": 16, "stopping": 64, "stopped": 80}
_REFUSED = {
    "StartInstances": ({"stopping", "shutting-down", "terminated"}, "started"),
    "StopInstances": ({"pending", "shutting-down", "terminated"}, "stopped"),
}
HTML = "<!DOCTYPE html><html><head><title>Sign in</title></head><body><p>Please sign in to the network.</body></html>"


@dataclass(frozen=True, slots=True)
class Call:
    """One API call as the layer sees it: action, parameters, service, region and the caller's account."""

    action: str
    form: Mapping[str, str]
    body: bytes
    service: str
    region: str
    access_key: str

    @property
    def account(self) -> str:
        """The account that the access key belongs to."""
        from moto.iam.models import get_account_id_from

        return str(get_account_id_from(self.access_key))

    def numbered(self, name: str) -> list[str]:
        """Return a query-style list: InstanceId.1, InstanceId.2, …"""
        found = [(int(k.rpartition(".")[2]), v) for k, v in self.form.items() if re.fullmatch(rf"{name}\.\d+", k)]
        return [value for _, value in sorted(found)]


@dataclass
class Layer:
    """The WSGI application. `transition_seconds` is how long `pending` and `stopping` last."""

    app: Callable[..., Iterable[bytes]]
    transition_seconds: float = 4.0
    routes: dict[tuple[str, str], Callable[[Any], Any]] = field(default_factory=dict)
    faults: list[dict[str, Any]] = field(default_factory=list)
    changes: dict[str, int] = field(default_factory=dict)
    changed: Callable[[], None] = lambda: None
    only_for: set[str] | None = None  # while it is being filled: the access keys that are answered
    _due: dict[tuple[str, str, str], tuple[float, str]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        from werkzeug.wrappers import Request

        request = Request(environ)
        self.settle()
        own = self._own(request)
        if own is not None:
            if request.method != "GET":
                self.changed()
            return cast("Iterable[bytes]", own(environ, start_response))
        body = request.get_data(cache=False)
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        call = _call(request, body)
        answer = self._not_yet(call) or self._fault(call) or self._instead(call)
        if answer is not None:
            return cast("Iterable[bytes]", answer(environ, start_response))
        before = self._states(call)
        result = self.app(environ, start_response)
        self._begin(call, before)
        if not _only_reads(call, request.method):
            self.changed()
        return result

    def quiet(self) -> threading.RLock:
        """Nothing settles or begins while this is held."""
        return self._lock

    def go_on(self) -> None:
        """Give every machine that was on its way when the sandbox ended its seconds anew."""
        from moto.ec2.models import ec2_backends

        targets, at = {"pending": "running", "stopping": "stopped"}, time.monotonic() + self.transition_seconds
        with self._lock:
            for account, regions in ec2_backends.items():
                for region, backend in regions.items():
                    for reservation in backend.reservations.values():
                        for instance in reservation.instances:
                            if instance.state in targets:
                                self._due[(account, region, instance.id)] = (at, targets[instance.state])

    def settle(self) -> None:
        """Let every transition that is due take effect."""
        now = time.monotonic()
        with self._lock:
            for key, (at, target) in list(self._due.items()):
                if at <= now:
                    del self._due[key]
                    instance = find_instance(*key)
                    if instance is not None and instance.state in {"pending", "stopping"}:
                        _set(instance, target)

    def _not_yet(self, call: Call) -> Any:
        if self.only_for is None or call.access_key in self.only_for:
            return None
        return api_error(call.service, "ServiceUnavailable", "The sandbox is being filled.", 503)

    def _own(self, request: Any) -> Any:
        """Answer the sandbox's own addresses; pages of other origins may not use them."""
        if not request.path.startswith("/_"):
            return None
        if "Origin" in request.headers:
            return respond({"error": "not for browsers"}, 403)
        if request.path == "/_faults":
            return self._fault_route(request)
        for (method, prefix), handle in self.routes.items():
            if request.method == method and (
                request.path == prefix or (prefix.endswith("/") and request.path.startswith(prefix))
            ):
                return handle(request)
        return respond({"error": "unknown address"}, 404)

    def _fault_route(self, request: Any) -> Any:
        with self._lock:
            if request.method == "DELETE":
                self.faults.clear()
            elif request.method == "POST":
                self.faults.extend(request.get_json())
            return respond(self.faults)

    def _fault(self, call: Call) -> Any:
        with self._lock:
            fault = next((f for f in self.faults if f["action"] in {call.action, "*"} and _matches(f, call)), None)
            if fault is None:
                return None
            fault["times"] = fault.get("times", 1) - 1
            if fault["times"] <= 0:
                self.faults.remove(fault)
        time.sleep(float(fault.get("delay", 0)))
        if fault.get("body") == "html":
            return respond(HTML, int(fault.get("status", 200)), kind="text/html")
        if fault.get("body") == "xhtml":
            return respond(
                "<html><body>Please sign in to the network.</body></html>",
                int(fault.get("status", 200)),
                kind="text/html",
            )
        if fault.get("body") == "half":
            return respond(
                '<?xml version="1.0"?><DescribeInstancesResponse><reservationSet><item><instan', 200, kind="text/xml"
            )
        if fault.get("code"):
            return api_error(
                call.service,
                str(fault["code"]),
                str(fault.get("message", fault["code"])),
                int(fault.get("status", 400)),
            )
        return None

    def _instead(self, call: Call) -> Any:
        """Answer what moto cannot, or would answer wrongly."""
        if call.action == "AssumeRole":
            return assume_role_refusal(call)
        if call.action == "SimulatePrincipalPolicy":
            return aws_clusters.simulate(call)
        if call.action in _REFUSED and call.service == "ec2":
            return self._refuse_state(call)
        if call.action == "DescribeSpotPriceHistory":
            return respond(aws_prices.spot_history(call.region, call.numbered("InstanceType")), kind="text/xml")
        if call.action == "GetSpotPlacementScores":
            return respond(aws_prices.placement_scores(call.numbered("RegionName")), kind="text/xml")
        if call.action == "GetProducts":
            return respond(
                aws_prices.products(json.loads(call.body or b"{}").get("Filters", [])),
                kind="application/x-amz-json-1.1",
            )
        return None

    def _refuse_state(self, call: Call) -> Any:
        forbidden, verb = _REFUSED[call.action]
        for instance_id in call.numbered("InstanceId"):
            instance = find_instance(call.account, call.region, instance_id)
            if instance is not None and instance.state in forbidden:
                words = f"The instance '{instance_id}' is not in a state from which it can be {verb}."
                return api_error("ec2", "IncorrectInstanceState", words, 400)
        return None

    def _states(self, call: Call) -> dict[str, str]:
        if call.action not in _REFUSED or call.service != "ec2":
            return {}
        found = {i: find_instance(call.account, call.region, i) for i in call.numbered("InstanceId")}
        return {i: instance.state for i, instance in found.items() if instance is not None}

    def _begin(self, call: Call, before: Mapping[str, str]) -> None:
        """Turn moto's immediate change into a transition, where it made one."""
        through, target = ("pending", "running") if call.action == "StartInstances" else ("stopping", "stopped")
        with self._lock:
            for instance_id, old in before.items():
                instance = find_instance(call.account, call.region, instance_id)
                if instance is None or instance.state != target or old == target:
                    if instance is not None and old == through:
                        _set(instance, through)
                    continue
                _set(instance, through)
                name = f"{call.action}/{instance_id}"
                self.changes[name] = self.changes.get(name, 0) + 1
                if target == "running":
                    from moto.core.utils import utcnow

                    instance.launch_time = utcnow()
                self._due[(call.account, call.region, instance_id)] = (
                    time.monotonic() + self.transition_seconds,
                    target,
                )


def _only_reads(call: Call, method: str) -> bool:
    if call.action:
        return call.action.startswith(("Describe", "Get", "List", "AssumeRole", "Simulate"))
    return method in {"GET", "HEAD"}


def _call(request: Any, body: bytes) -> Call:
    scope = _SCOPE.search(request.headers.get("Authorization", ""))
    form = {k: v[0] for k, v in parse_qs(body.decode("latin1")).items()} if b"Action=" in body[:4000] else {}
    action = form.get("Action") or request.headers.get("X-Amz-Target", "").rpartition(".")[2]
    key, region, service = scope.groups() if scope else ("", "us-east-1", "")
    return Call(action=action, form=form, body=body, service=service, region=region, access_key=key)


def _matches(fault: Mapping[str, Any], call: Call) -> bool:
    return all(re.search(pattern, call.form.get(name, "")) for name, pattern in fault.get("match", {}).items())


def respond(body: Any, status: int = 200, *, kind: str = "application/json") -> Any:
    """Return a werkzeug response; anything but text becomes JSON."""
    from werkzeug.wrappers import Response

    return Response(body if isinstance(body, str) else json.dumps(body), status, content_type=kind)


def api_error(service: str, code: str, message: str, status: int) -> Any:
    """Return an error in the dialect of the service, so that botocore reads it."""
    code, message = escape(code), escape(message)
    if service in {"pricing", "ecs", "logs", "dynamodb", "servicequotas", "ce"}:
        return respond({"__type": code, "message": message}, status, kind="application/x-amz-json-1.1")
    if service == "eks":
        return respond({"code": code, "message": message}, status)
    if service == "ec2":
        return respond(
            f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
            "<RequestID>curfew-sandbox</RequestID></Response>",
            status,
            kind="text/xml",
        )
    return respond(
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        "<RequestId>curfew-sandbox</RequestId></ErrorResponse>",
        status,
        kind="text/xml",
    )


def find_instance(account: str, region: str, instance_id: str) -> Any:
    """Return moto's instance; None when there is none."""
    from moto.ec2.models import ec2_backends

    for reservation in list(ec2_backends[account][region].reservations.values()):
        for instance in reservation.instances:
            if instance.id == instance_id:
                return instance
    return None


def _set(instance: Any, state: str) -> None:
    instance._state.name, instance._state.code = state, _CODES[state]


def assume_role_refusal(call: Call) -> Any:
    """Return AWS's refusal unless the role exists, trusts the caller's account and gets its external ID."""
    from moto.core.exceptions import ServiceException
    from moto.iam.models import iam_backends

    arn = call.form.get("RoleArn", "")
    refusal = api_error(
        "sts", "AccessDenied", f"User is not authorized to perform: sts:AssumeRole on resource: {arn}", 403
    )
    match = re.fullmatch(r"arn:(aws[a-z-]*):iam::(\d{12}):role/(.+)", arn)
    if not match:
        return api_error("sts", "ValidationError", f"{arn} is invalid", 400)
    try:
        role = iam_backends[match[2]][match[1]].get_role(match[3].rpartition("/")[2])
    except ServiceException:
        return refusal
    document: dict[str, Any] = json.loads(role.assume_role_policy_document)
    statements = document["Statement"] if isinstance(document["Statement"], list) else [document["Statement"]]
    return None if any(_trusts(s, call) for s in statements) else refusal


def _trusts(statement: Mapping[str, Any], call: Call) -> bool:
    principal = statement.get("Principal", {})
    named = principal.get("AWS", []) if isinstance(principal, dict) else [principal]
    named = [named] if isinstance(named, str) else named
    trusted = any(n == "*" or (re.search(r"\d{12}", n) and call.account in n) for n in named)
    wanted = statement.get("Condition", {}).get("StringEquals", {}).get("sts:ExternalId")
    given = call.form.get("ExternalId")
    accepted = wanted is None or given in ([wanted] if isinstance(wanted, str) else wanted)
    return statement.get("Effect") == "Allow" and trusted and accepted
