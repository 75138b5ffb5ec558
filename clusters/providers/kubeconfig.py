"""A kubeconfig is hostile input: it may name programs to run, files to read and inner addresses to call.

Only what is embedded is accepted: an HTTPS address, authorities as data, and a token or a client certificate as data.
Everything else is refused with the reason. Pure, except for name resolution in `refuse_resolved`.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import yaml

from core.providers import InvalidRequest

LARGEST = 256 * 1024
MOST_EVENTS = 20_000
DEEPEST = 20
_METADATA_HOSTS = {"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"}
_METADATA_ADDRESSES = {
    ipaddress.ip_address(a) for a in ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16")
}


@dataclass(frozen=True, slots=True)
class KubeAccess:
    """How to reach an API server. Its repr shows no secret; certificates and keys are PEM texts."""

    server: str
    ca: str = ""
    tls_name: str = ""
    token: str = field(default="", repr=False)
    client_cert: str = field(default="", repr=False)
    client_key: str = field(default="", repr=False)

    def values(self) -> dict[str, str]:
        """As it is sealed."""
        return {
            "server": self.server,
            "ca": self.ca,
            "tls_name": self.tls_name,
            "token": self.token,
            "client_cert": self.client_cert,
            "client_key": self.client_key,
        }


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """What a file holds: the access of its chosen context, that context's name, and all contexts' names."""

    access: KubeAccess
    context: str
    contexts: tuple[str, ...]


def _refuse(words: str, code: str, next_step: str = "") -> InvalidRequest:
    return InvalidRequest(words, code=code, next_step=next_step)


def read(text: str | bytes, *, context: str = "") -> Kubeconfig:
    """Read a kubeconfig. Raises InvalidRequest whose code and words say what is wrong with it."""
    raw = _document(text)
    contexts = _named(raw, "contexts", "context")
    chosen = context or str(raw.get("current-context") or "")
    if not chosen and len(contexts) == 1:
        chosen = next(iter(contexts))
    if chosen not in contexts:
        raise _refuse(
            "The file does not say which context to use." if not chosen else f"There is no context {chosen[:80]!r}.",
            "no_context",
            "Choose one with `kubectl config use-context`, then export it again.",
        )
    names = contexts[chosen]
    cluster = _named(raw, "clusters", "cluster").get(str(names.get("cluster") or ""))
    user = _named(raw, "users", "user").get(str(names.get("user") or ""))
    if cluster is None or user is None:
        raise _refuse(
            f"The context {chosen[:80]!r} names a cluster or user that is not in the file.", "dangling_context"
        )
    return Kubeconfig(_access(cluster, user), chosen, tuple(contexts))


def _document(text: str | bytes) -> dict[str, Any]:
    data = text.encode() if isinstance(text, str) else text
    if len(data) > LARGEST:
        raise _refuse(f"A kubeconfig of more than {LARGEST // 1024} KiB is not taken.", "too_large")
    try:
        decoded = data.decode("utf-8")
        _count(decoded)
        raw = yaml.safe_load(decoded)
    except UnicodeDecodeError:
        raise _refuse("The file is not text in UTF-8.", "not_text") from None
    except (yaml.YAMLError, RecursionError, ValueError) as bad:
        where = getattr(bad, "problem_mark", None)
        line = f" (line {where.line + 1})" if where else ""
        raise _refuse(f"The file is not valid YAML{line}.", "not_yaml") from None
    if not isinstance(raw, dict) or raw.get("kind", "Config") != "Config":
        raise _refuse("This is not a kubeconfig.", "not_kubeconfig")
    return raw


def _count(text: str) -> None:
    """Refuse aliases (a few lines of them can unfold to gigabytes), great depth and a great many parts."""
    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            raise _refuse("YAML aliases are not accepted in a kubeconfig.", "yaml_alias")
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            depth += 1
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            depth -= 1
        if number > MOST_EVENTS or depth > DEEPEST:
            raise _refuse("The file has far more parts than a kubeconfig needs.", "too_complex")


def _named(raw: dict[str, Any], plural: str, singular: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    entries = raw.get(plural) or []
    if not isinstance(entries, list):
        raise _refuse(f"`{plural}` is not a list.", "not_kubeconfig")
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get(singular) or {}, dict):
            raise _refuse(f"An entry of `{plural}` cannot be read.", "not_kubeconfig")
        found.setdefault(str(entry.get("name") or ""), entry.get(singular) or {})
    return found


def _access(cluster: dict[str, Any], user: dict[str, Any]) -> KubeAccess:
    _refuse_dangerous(cluster, user)
    server = check_server(str(cluster.get("server") or ""))
    access = KubeAccess(
        server=server,
        ca=_pem(cluster, "certificate-authority-data", "CERTIFICATE"),
        tls_name=str(cluster.get("tls-server-name") or "")[:253],
        token=str(user.get("token") or ""),
        client_cert=_pem(user, "client-certificate-data", "CERTIFICATE"),
        client_key=_pem(user, "client-key-data", "PRIVATE KEY"),
    )
    if not access.token and not (access.client_cert and access.client_key):
        raise _refuse(
            "The user of this context has neither a token nor an embedded client certificate with its key.",
            "no_credentials",
            "Make a service account token: `kubectl create token`, or embed the files with `kubectl config view --raw --flatten`.",
        )
    return access


_FLATTEN = "Embed the files: `kubectl config view --raw --flatten --minify`."
_TOKEN = "Use a service account's token instead: `kubectl create token`."  # noqa: S105 - advice, not a secret


def _refuse_dangerous(cluster: dict[str, Any], user: dict[str, Any]) -> None:
    refusals = (
        (user, "exec", "It runs a program to get its credentials; Curfew runs no programs from a kubeconfig.", _TOKEN),
        (user, "auth-provider", "It uses an auth-provider plugin, which Curfew does not run.", _TOKEN),
        (user, "tokenFile", "It reads its token from a file, which is not on this server.", _FLATTEN),
        (user, "client-certificate", "It reads its certificate from a file, which is not on this server.", _FLATTEN),
        (user, "client-key", "It reads its key from a file, which is not on this server.", _FLATTEN),
        (user, "username", "Names and passwords are not accepted.", _TOKEN),
        (user, "password", "Names and passwords are not accepted.", _TOKEN),
        (user, "as", "Impersonation is not accepted.", _TOKEN),
        (
            cluster,
            "certificate-authority",
            "It reads its authority from a file, which is not on this server.",
            _FLATTEN,
        ),
        (cluster, "proxy-url", "It goes through a proxy of its own; Curfew connects directly.", ""),
        (cluster, "insecure-skip-tls-verify", "It does not check who answers; Curfew always does.", _FLATTEN),
    )
    for where, key, words, next_step in refusals:
        if where.get(key):
            raise _refuse(words, key.replace("-", "_").lower(), next_step)


def _pem(where: dict[str, Any], key: str, kind: str) -> str:
    value = where.get(key)
    if not value:
        return ""
    try:
        text = base64.b64decode(str(value), validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise _refuse(f"`{key}` is not base64 of a PEM text.", "bad_pem") from None
    if "-----BEGIN " not in text or kind not in text:
        raise _refuse(f"`{key}` holds no {kind.lower()}.", "bad_pem")
    return text


def check_server(server: str) -> str:
    """The address if it may be called; raises InvalidRequest otherwise."""
    try:
        parts = urlsplit(server)
        port = parts.port
    except ValueError:
        raise _refuse("The server's address cannot be read.", "bad_server") from None
    if parts.scheme != "https" or not parts.hostname:
        raise _refuse("The server's address must begin with https://.", "not_https")
    if parts.username or parts.password or parts.query or parts.fragment or port == 0:
        raise _refuse("The server's address must be a host, a port and a path, nothing else.", "bad_server")
    host = parts.hostname.rstrip(".").lower()
    if host in _METADATA_HOSTS or host == "localhost" or host.endswith((".localhost", ".internal.")):
        raise _refuse(f"{host} is not an address that Curfew connects to.", "forbidden_address")
    literal = _literal(host)
    if literal is not None:
        refuse_addresses([literal])
    return server


def _literal(host: str) -> str | None:
    """The address that a host spells, also in the odd spellings that resolvers take (0x7f.1, 2130706433)."""
    try:
        return str(ipaddress.ip_address(host.split("%", 1)[0]))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return None


def refuse_addresses(addresses: Iterable[str]) -> None:
    """Raise InvalidRequest for this machine, link-local, metadata and other addresses that no API server has.

    Private networks are allowed: most API servers are there.
    """
    for text in addresses:
        address = ipaddress.ip_address(text.split("%", 1)[0])
        address = getattr(address, "ipv4_mapped", None) or address
        bad = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
        if bad or address in _METADATA_ADDRESSES or address.is_reserved:
            raise _refuse(f"{address} is not an address that Curfew connects to.", "forbidden_address")


Resolve = Callable[[str, int], list[str]]


def _resolve(host: str, port: int) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def refuse_resolved(server: str, resolve: Resolve = _resolve) -> list[str]:
    """Resolve the server's name, refuse forbidden addresses and return the others, which are the ones to connect to: a
    name that answers differently a moment later gains nothing."""
    parts = urlsplit(check_server(server))
    try:
        found = resolve(parts.hostname or "", parts.port or 443)
    except (OSError, UnicodeError):
        raise _refuse(f"The name {parts.hostname} cannot be resolved.", "unknown_host") from None
    refuse_addresses(found)
    return found
