"""`python -m agent cluster`: options, and the three ways to run: live, once, from recorded traces."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from agent import __version__
from agent.cluster.kube import Access, Gone, KubeError
from agent.cluster.live import ClusterAgent, Settings, snapshot_once
from agent.cluster.orders import load_key
from agent.cluster.outbox import Outbox
from agent.cluster.sender import Pace, Sender
from agent.transport import BadAddress, Endpoint, Transport, Unreachable, environment, read_token
from agent.wire.listing import BadListing
from agent.wire.message import inflate

log = logging.getLogger("curfew.agent")
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
ONCE_SECONDS = 120.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m agent cluster",
        description="Reports a Kubernetes cluster to Curfew. Options can be given as CURFEW_<OPTION> in the environment.",
    )
    parser.add_argument("--version", action="version", version=f"curfew-agent {__version__}")
    parser.add_argument("--url", default=environment("URL"), help="address of the platform")
    parser.add_argument(
        "--token-file", default=environment("TOKEN_FILE"), help="file with the agent's token; else CURFEW_TOKEN"
    )
    parser.add_argument("--ca-file", default=environment("CA_FILE"), help="authorities to trust for the platform")
    parser.add_argument(
        "--allow-http",
        action="store_true",
        default=environment("ALLOW_HTTP") == "1",
        help="allow an address of the platform without TLS",
    )
    parser.add_argument("--name", default=environment("CLUSTER_NAME"), help="name to show for the cluster")
    kube_options(parser)
    history = parser.add_argument_group("usage from before", "optional; without it usage is counted from now on")
    history.add_argument("--prometheus", default=environment("PROMETHEUS"), help="address of the cluster's Prometheus")
    history.add_argument("--prometheus-token-file", default=environment("PROMETHEUS_TOKEN_FILE"))
    history.add_argument("--prometheus-ca-file", default=environment("PROMETHEUS_CA_FILE"))
    orders = parser.add_argument_group("orders")
    orders.add_argument(
        "--allow-orders",
        action="store_true",
        default=environment("ALLOW_ORDERS") == "1",
        help="carry out signed orders that RBAC allows; without it every order is refused",
    )
    orders.add_argument("--orders-key", default=environment("ORDERS_KEY"), help="Ed25519 public key, base64")
    orders.add_argument(
        "--placement-config",
        default=environment("PLACEMENT_CONFIG"),
        help="ConfigMap of the own namespace that hands signed placement rules to the webhook",
    )
    way = parser.add_argument_group("ways to run")
    way.add_argument("--once", action="store_true", help="send one snapshot and exit")
    way.add_argument("--dry-run", action="store_true", help="print messages instead of sending them")
    way.add_argument("--replay", action="append", default=[], metavar="DIR", help="report recorded traces; repeatable")
    way.add_argument(
        "--replay-at",
        default="busiest",
        metavar="SECONDS",
        help="moment of the trace: seconds, busiest (default), or all: every pod of the trace at once",
    )
    way.add_argument(
        "--replay-days", type=float, default=14.0, help="days of usage to send, the last ones (default 14)"
    )
    way.add_argument(
        "--log-level", default=environment("LOG_LEVEL", "INFO"), choices=("DEBUG", "INFO", "WARNING", "ERROR")
    )
    return parser


def kube_options(parser: argparse.ArgumentParser) -> None:
    """Add how to reach the API server; `access_of` reads it."""
    kube = parser.add_argument_group("API server (default: the cluster that this runs in)")
    kube.add_argument("--api-server", default=environment("API_SERVER"), help="address, e.g. that of kubectl proxy")
    kube.add_argument("--api-token-file", default=environment("API_TOKEN_FILE"))
    kube.add_argument("--api-ca-file", default=environment("API_CA_FILE"))
    kube.add_argument("--api-client-cert", default=environment("API_CLIENT_CERT"))
    kube.add_argument("--api-client-key", default=environment("API_CLIENT_KEY"))
    kube.add_argument("--api-allow-http", action="store_true", default=environment("API_ALLOW_HTTP") == "1")


def access_of(options: argparse.Namespace) -> Access:
    """Return how to reach the API server. Raises BadAddress."""
    if not options.api_server:
        return Access.in_cluster()
    endpoint = Endpoint(
        options.api_server,
        ca_file=options.api_ca_file,
        client_cert=options.api_client_cert,
        client_key=options.api_client_key,
        allow_http=options.api_allow_http,
    )
    return Access(endpoint, read_token("", options.api_token_file) if options.api_token_file else None)


def platform_of(options: argparse.Namespace) -> tuple[Endpoint, Callable[[], str]]:
    """Return the platform's address and the token. Raises BadAddress."""
    if options.dry_run:
        return Endpoint("http://localhost"), lambda: ""
    if not options.url:
        raise BadAddress("the platform's address is missing (--url)")
    endpoint = Endpoint(options.url, ca_file=options.ca_file, allow_http=options.allow_http)
    return endpoint, read_token(environment("TOKEN"), options.token_file)


def own_namespace() -> str:
    """The namespace of this pod; "" outside a cluster."""
    try:
        return _NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def settings_of(options: argparse.Namespace) -> Settings:
    """Return the settings of a live agent. Raises BadAddress."""
    endpoint, token = platform_of(options)
    if options.allow_orders and not options.orders_key:
        raise BadAddress("--allow-orders needs --orders-key")
    return Settings(
        platform=endpoint,
        token=token,
        access=access_of(options),
        name=options.name,
        allow_orders=options.allow_orders,
        check=load_key(options.orders_key) if options.orders_key else None,
        placement_config=options.placement_config,
        own_namespace=own_namespace(),
        prometheus=prometheus_of(options),
    )


def prometheus_of(options: argparse.Namespace) -> Access | None:
    """Return how to reach Prometheus, which within a cluster mostly speaks plain HTTP. Raises BadAddress."""
    if not options.prometheus:
        return None
    endpoint = Endpoint(options.prometheus, ca_file=options.prometheus_ca_file, allow_http=True, use_proxy=False)
    token = read_token("", options.prometheus_token_file) if options.prometheus_token_file else None
    return Access(endpoint, token)


def deliver_all(outbox: Outbox, transport: Transport, *, seconds: float = ONCE_SECONDS) -> bool:
    """Send until the outbox has nothing more to say; False when the platform did not take it in time."""
    sender = Sender(outbox, transport, Pace(), lambda: True)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if outbox.next() is None:
            return True
        failures = sender.figures.failures
        wait = sender.step()
        if sender.figures.failures > failures:
            time.sleep(min(wait, max(0.0, deadline - time.monotonic())))
    log.error("given up: %s", sender.figures.last_problem or "the platform asks for ever more")
    return False


def print_all(outbox: Outbox) -> bool:
    """Write every message that would be sent to standard output, one JSON line each."""
    while (parcel := outbox.next()) is not None:
        sys.stdout.write(inflate(parcel.body).decode() + "\n")
        outbox.accepted()
    return True


def _finish(outbox: Outbox, options: argparse.Namespace) -> int:
    if options.dry_run:
        return 0 if print_all(outbox) else 1
    endpoint, token = platform_of(options)
    return 0 if deliver_all(outbox, Transport(endpoint, token)) else 1


def _run_replay(options: argparse.Namespace) -> int:
    from agent.cluster.replay import BadTrace, Replay

    try:
        replay = Replay.load(
            [Path(folder) for folder in options.replay], at=options.replay_at, days=options.replay_days
        )
    except BadTrace as bad:
        log.error("%s", bad)
        return 2
    for line in replay.summary():
        log.info("%s", line)
    endpoint, token = platform_of(options)
    transport = None if options.dry_run else Transport(endpoint, token)

    def flush(outbox: Outbox) -> bool:
        return print_all(outbox) if transport is None else deliver_all(outbox, transport)

    return 0 if replay.run(flush, name=options.name) else 1


def _run_live(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    if options.once or options.dry_run:
        return _finish(snapshot_once(settings).outbox, options)
    agent = ClusterAgent(settings)

    def end(number: int, frame: FrameType | None) -> None:
        agent.stopping.set()

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)
    log.info("curfew-agent %s reports to %s", __version__, settings.platform.url)
    agent.start()
    code = agent.wait()
    agent.stop()
    return code


def main(arguments: Sequence[str]) -> int:
    """Run; returns 0 when all was well, 1 when it failed, 2 when it could not be started as asked."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=options.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        return _run_replay(options) if options.replay else _run_live(options)
    except BadAddress as bad:
        log.error("%s", bad)
        return 2
    except (KubeError, Gone, Unreachable, BadListing) as problem:
        log.error("%s", problem)
        return 1
