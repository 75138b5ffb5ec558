"""Run the sandbox cloud: `python -m cloudnodes.sandbox.aws_server --port 0 --seed`.

Writes its port as the first line once it answers. Listens on 127.0.0.1 only, keeps everything in
memory (with `--state FILE` in a file too, from which it goes on) and ends when its parent does. Its
own addresses beside AWS's API:

- `GET /_sandbox/credentials`: keys to try Curfew with; `GET /_sandbox/health`: with `new`, false when it goes on
- `POST /_sandbox/role {"external_id", "account_id"?, "role_name"?, "tell_who"?}`: the customer launches the
  CloudFormation stack; `DELETE` with the same body deletes it
- `POST /_sandbox/seed`: make the machines that are missing
- `GET /_sandbox/nodes/<account>/<name>/health`: 200 when that node runs, else 503
- `POST /_sandbox/instance {"account_id", "region", "instance_type", "tags"}`: a new, stopped machine;
  `DELETE {"account_id", "region", "instance_id"}` terminates one
- `POST /_sandbox/cluster {"account_id", "region", "name", "version"?, "tags"?, "endpoint"?, "ca"?, "status"?}`: an EKS
  cluster, with an API server of one's own behind it
- `GET /_sandbox/changes`: how often each instance was really started and stopped
- `/_faults`: see `aws_layer`
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")

from cloudnodes.sandbox import aws_clusters
from cloudnodes.sandbox.aws_layer import Layer, respond
from cloudnodes.sandbox.aws_seed import CUSTOMERS, Sandbox
from cloudnodes.sandbox.aws_state import State

PARENT_POLL_SECONDS = 0.3


def build(*, transition_seconds: float = 4.0) -> tuple[Layer, Sandbox]:
    """Return the WSGI application and its content; set `Sandbox.address` before serving requests."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    sandbox = Sandbox()
    aws_clusters.check_signatures_of_eks()
    layer = Layer(DomainDispatcherApplication(create_backend_app), transition_seconds=transition_seconds)
    layer.routes.update(
        {
            ("GET", "/_sandbox/health"): lambda request: respond({"status": "ok", "new": sandbox.new}),
            ("GET", "/_sandbox/credentials"): lambda request: respond(sandbox.credentials()),
            ("POST", "/_sandbox/seed"): lambda request: respond(sandbox.seed()),
            ("POST", "/_sandbox/role"): lambda request: _role(sandbox, request),
            ("DELETE", "/_sandbox/role"): lambda request: _role(sandbox, request),
            ("POST", "/_sandbox/instance"): lambda request: respond(sandbox.make_instance(**request.get_json()), 201),
            ("DELETE", "/_sandbox/instance"): lambda request: respond(sandbox.end_instance(**request.get_json())),
            ("POST", "/_sandbox/cluster"): lambda request: respond(
                aws_clusters.make(sandbox, **request.get_json()), 201
            ),
            ("GET", "/_sandbox/changes"): lambda request: respond(layer.changes),
            ("GET", "/_sandbox/nodes/"): lambda request: _node(sandbox, request),
        }
    )
    return layer, sandbox


def _role(sandbox: Sandbox, request: Any) -> Any:
    wanted = request.get_json(silent=True) or {}
    account = str(wanted.get("account_id") or next(iter(CUSTOMERS)))
    if account not in CUSTOMERS:
        return respond({"error": f"the sandbox has the accounts {', '.join(CUSTOMERS)}"}, 404)
    role_name = str(wanted.get("role_name") or "CurfewAccess")
    if request.method == "DELETE":
        return respond({"deleted": sandbox.delete_stack(account=account, role_name=role_name)})
    if not wanted.get("external_id"):
        return respond({"error": "external_id is missing"}, 400)
    return respond(
        sandbox.launch_stack(
            str(wanted["external_id"]),
            account=account,
            role_name=role_name,
            open_role=bool(wanted.get("open")),
            tell_who=bool(wanted.get("tell_who")),
        ),
        201,
    )


def _node(sandbox: Sandbox, request: Any) -> Any:
    _, _, rest = request.path.partition("/_sandbox/nodes/")
    account, _, name = rest.removesuffix("/health").partition("/")
    up = account in CUSTOMERS and sandbox.node_answers(account, name)
    return respond({"node": name, "ready": up}, 200 if up else 503)


def end_with_parent() -> None:
    """End this process soon after its parent has ended, so that no sandbox is left behind."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_POLL_SECONDS)
        os._exit(0)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()


def _same_ids_after_a_restart() -> None:
    """Make moto draw the same instance ids each time, so that the demo finds its nodes again after a restart."""
    from moto.moto_api._internal import mock_random

    mock_random.seed(20_310_612)


def main(arguments: list[str] | None = None) -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m cloudnodes.sandbox.aws_server", description="A simulated AWS for trying Curfew."
    )
    parser.add_argument("--port", type=int, default=0, help="0 lets the system choose (default)")
    parser.add_argument("--seed", action="store_true", help="fill it with GPU nodes")
    parser.add_argument("--state", type=Path, help="a file that keeps what it holds")
    parser.add_argument(
        "--transition-seconds", type=float, default=4.0, help="how long starting and stopping take (default 4)"
    )
    options = parser.parse_args(arguments)

    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"
        # One write for each answer: headers and body apart cost 40 ms with delayed acknowledgements.
        wbufsize = -1

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Keep the demo's terminal readable."""

    end_with_parent()
    layer, sandbox = build(transition_seconds=options.transition_seconds)
    server = make_server("127.0.0.1", options.port, layer, threaded=True, request_handler=Quiet)
    sandbox.address = f"http://127.0.0.1:{server.server_port}"
    state = State(options.state, layer, sandbox) if options.state else None
    sandbox.new = state is None or not state.load()
    if sandbox.new:
        sandbox.prepare()
        _same_ids_after_a_restart()
        layer.only_for = sandbox.admin_keys()
    elif state:
        layer.changed = state.save
    threading.Thread(target=server.serve_forever, daemon=True, name="sandbox").start()
    if options.seed:
        sandbox.seed()
    layer.only_for = None
    if state:
        state.save()
        layer.changed = state.save
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        server.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
