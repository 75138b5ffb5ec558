"""`python -m agent webhook`: serves the placement webhook of the cluster that this runs in."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

from agent import __version__
from agent.cluster.kube import Kube
from agent.cluster.main import access_of, kube_options, own_namespace
from agent.cluster.orders import load_key
from agent.cluster.webhook.keeper import Keeper, Names
from agent.cluster.webhook.server import State, serve
from agent.transport import BadAddress, environment

log = logging.getLogger("curfew.agent.webhook")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m agent webhook",
        description="Applies signed placement rules to new pods. Options can be given as CURFEW_<OPTION>.",
    )
    parser.add_argument("--version", action="version", version=f"curfew-agent {__version__}")
    parser.add_argument("--listen", default=environment("LISTEN", "0.0.0.0"), help="address")  # noqa: S104  a pod's
    parser.add_argument("--port", type=int, default=int(environment("PORT", "8443")))
    parser.add_argument("--namespace", default=environment("NAMESPACE"), help="default: the pod's own")
    parser.add_argument("--release", default=environment("RELEASE", "curfew-agent"), help="what names begin with")
    parser.add_argument("--pod", default=environment("POD", "webhook"), help="name of this replica")
    parser.add_argument("--orders-key", default=environment("ORDERS_KEY"), help="Ed25519 public key, base64")
    kube_options(parser)
    parser.add_argument(
        "--log-level", default=environment("LOG_LEVEL", "INFO"), choices=("DEBUG", "INFO", "WARNING", "ERROR")
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Serve until told to end; returns 0, or 2 when it could not be started as asked."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=options.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        check, access = load_key(options.orders_key), access_of(options)
        namespace = options.namespace or own_namespace()
        if not namespace:
            raise BadAddress("not inside a cluster: name the namespace with --namespace")
        listener, end = serve((options.listen, options.port), State())
    except (BadAddress, OSError) as bad:
        log.error("%s", bad)
        return 2
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
    keeper = Keeper(Kube(access, timeout=10.0), listener, Names(namespace, options.release, options.pod), check)
    log.info("curfew-agent %s answers reviews on port %d", __version__, listener.server_port)
    while not stopping.is_set():
        stopping.wait(keeper.step())
    end()
    return 0
