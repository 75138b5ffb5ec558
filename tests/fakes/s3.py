"""moto's S3 as an HTTP server of this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx


@contextmanager
def moto_server() -> Iterator[str]:
    """Its address. moto keeps its clouds by process, not by server: whoever starts one begins with empty ones."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    try:
        httpx.post(f"http://{host}:{port}/moto-api/reset", trust_env=False).raise_for_status()
        yield f"http://{host}:{port}"
    finally:
        server.stop()
