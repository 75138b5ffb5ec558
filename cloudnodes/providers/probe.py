"""Ask a node's service whether it answers: a TCP connection or one HTTP request."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from urllib.parse import urlsplit


def probe_endpoint(health_endpoint: str, *, timeout: float = 3.0) -> bool | None:
    """Return True when it answers (HTTP below 400), False when not, None when there is nothing to ask.

    Accepts tcp://host:port and http(s) URLs. Follows no redirect, sends no credentials, reads no
    body. Addresses on the link-local net are never asked: instance metadata services live there,
    and the address may come from a tag that a stranger wrote.
    """
    try:
        parts = urlsplit(health_endpoint)
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname or parts.scheme not in {"tcp", "http", "https"}:
        return None
    port = port or {"http": 80, "https": 443}.get(parts.scheme)
    if port is None:
        return None
    try:
        address = resolve(parts.hostname, port)
        if address is None:
            return None
        with socket.create_connection((address, port), timeout=timeout) as connection:
            if parts.scheme == "tcp":
                return True
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            return _ask(connection, parts.hostname, port, path, tls=parts.scheme == "https")
    except (OSError, http.client.HTTPException):
        return False


def resolve(host: str, port: int) -> str | None:
    """Return one address; None when any of them is link-local, so that no name leads there."""
    found = {str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    for text in found:
        address = ipaddress.ip_address(text.split("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        if address.is_link_local or address.is_multicast or address.is_unspecified or (mapped and mapped.is_link_local):
            return None
    return min(found, key=lambda a: ":" in a)


def _ask(connection: socket.socket, host: str, port: int, path: str, *, tls: bool) -> bool:
    if tls:
        # Nodes often carry self-signed certificates; nothing is sent or trusted here but a yes or no.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = context.wrap_socket(connection, server_hostname=host)
    client = http.client.HTTPConnection(host, port)
    client.sock = connection
    try:
        client.request("GET", path, headers={"User-Agent": "curfew-probe", "Connection": "close"})
        return client.getresponse().status < 400
    finally:
        client.close()
