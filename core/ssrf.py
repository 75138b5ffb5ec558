"""Calls to addresses that users give: webhooks, Slack, log destinations, registries.

The name is resolved once, every address it has is judged, and the connection goes to the judged address itself, so
that a name that answers differently a moment later gains nothing. Redirects are not followed. Only addresses of the
public internet are allowed, and those in the networks that the operator lists in `CURFEW_OUTBOUND_NETWORKS`; metadata
services and link-local addresses stay refused even then.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings

from core.errors import CurfewError

TIMEOUT = 10.0
MOST_BYTES = 64 * 1024
_METADATA = frozenset({"169.254.169.254", "169.254.170.2", "fd00:ec2::254", "100.100.100.200", "168.63.129.16"})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Refused(CurfewError):
    """The address may not be called; the message says why."""

    status = 422
    code = "address_refused"
    title = "This address may not be called"


class Unreachable(CurfewError):
    """Nobody answered, or not in a way that can be understood; trying again later may help."""

    status = 503
    code = "unreachable"
    title = "The address did not answer"


@dataclass(frozen=True, slots=True)
class Target:
    """A URL whose host was resolved and judged: connect to `address`, speak as `host`."""

    scheme: str
    host: str
    port: int
    path: str
    address: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers (names in lower case) and at most 64 KiB of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def is_forbidden_everywhere(text: str) -> bool:
    """Whether an IP address is that of a metadata service or link-local, which nobody may have called."""
    address = _unwrapped(ipaddress.ip_address(text))
    return str(address) in _METADATA or address.is_link_local


def judge(text: str) -> str:
    """Why an IP address may not be called, or ""."""
    address = _unwrapped(ipaddress.ip_address(text))
    if is_forbidden_everywhere(text):
        return "it leads to a metadata service or a link-local address"
    if any(address in ipaddress.ip_network(n, strict=False) for n in settings.CURFEW_OUTBOUND_NETWORKS):
        return ""
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        return "it leads to a private or reserved address"
    return ""


def _unwrapped(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one (mapped, 6to4, Teredo, NAT64), which is where the packet ends up."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        return inner or address
    return address


def check_url(url: str) -> Target:
    """Resolve and judge a URL. Raises Refused (scheme, credentials, port, private address) and Unreachable (no such name)."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError as bad:
        raise Refused("This is not a web address.") from bad
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Refused("Give an address that begins with https:// or http://.")
    if parts.username is not None or parts.password is not None:
        raise Refused("Leave user name and password out of the address.")
    if any(ord(c) < 33 or ord(c) == 127 for c in url):
        raise Refused("The address holds a space or a control character.")
    address = resolve(parts.hostname, port)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, parts.hostname, port, path, address)


def resolve(host: str, port: int) -> str:
    """The first address of the host, when all its addresses may be called. Raises Refused and Unreachable."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as unknown:
        raise Unreachable(f"The name {host} cannot be resolved.") from unknown
    addresses = [str(row[4][0]).partition("%")[0] for row in found]
    for address in addresses:
        reason = judge(address)
        if reason:
            raise Refused(f"{host} is refused: {reason}.")
    if not addresses:
        raise Unreachable(f"The name {host} has no address.")
    return addresses[0]


class _Https(http.client.HTTPSConnection):
    """TLS for the name, to the judged address."""

    def __init__(self, target: Target, timeout: float) -> None:
        self._tls = ssl.create_default_context()
        super().__init__(target.host, target.port, timeout=timeout, context=self._tls)
        self._address = target.address

    def connect(self) -> None:
        plain = socket.create_connection((self._address, self.port), self.timeout)
        try:
            self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise


class _Http(http.client.HTTPConnection):
    """The same without TLS."""

    def __init__(self, target: Target, timeout: float) -> None:
        super().__init__(target.host, target.port, timeout=timeout)
        self._address = target.address

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, method: str = "POST", timeout: float = TIMEOUT
) -> Answer:
    """Send and return the answer, whatever its status; redirects are answers like others. Raises Refused and Unreachable."""
    target = check_url(url)
    made: http.client.HTTPConnection = _Https(target, timeout) if target.scheme == "https" else _Http(target, timeout)
    try:
        made.request(method, target.path, body, {"User-Agent": "Curfew/1.0", **headers})
        got = made.getresponse()
        return Answer(got.status, {name.lower(): value for name, value in got.getheaders()}, got.read(MOST_BYTES))
    except (OSError, http.client.HTTPException, ValueError) as failed:
        raise Unreachable(f"{target.host} did not answer: {type(failed).__name__}") from failed
    finally:
        made.close()
