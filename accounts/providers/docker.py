"""Docker engines: the local socket, or a remote host over mutual TLS."""

from __future__ import annotations

import os
import re
import tempfile
import threading
from pathlib import Path
from typing import Any

from accounts.providers.base import Credentials, Identity, Timeouts
from accounts.providers.docker_errors import docker_errors
from core.providers import BadAnswer, InvalidRequest

DEFAULT_SOCKET = "/var/run/docker.sock"
DEFAULT_TLS_PORT = 2376
_HOST = re.compile(r"(?:(?:tcp|https)://)?(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]{1,253})(?::(\d{1,5}))?/?")


class DockerConnection:
    """One Docker engine. Method `local` opens a socket on this server, `tls` a remote host.

    `local` gives full control of the machine that Curfew runs on: only operators may offer it.
    Safe across threads.
    """

    def __init__(self, credentials: Credentials, *, timeouts: Timeouts | None = None) -> None:
        self.credentials = credentials
        self.timeouts = timeouts or Timeouts()
        self._lock = threading.RLock()
        self._clients: dict[float, Any] = {}
        self._files: tempfile.TemporaryDirectory[str] | None = None

    @property
    def host(self) -> str:
        """The name or address under which published ports of this engine are reached."""
        if self.credentials.method == "local":
            return "127.0.0.1"
        match = _HOST.fullmatch(self.credentials.get("host"))
        return match[1] if match else ""

    def secrets(self) -> list[str]:
        """Return every value that must not appear in any text."""
        return self.credentials.secrets()

    def verify(self) -> Identity:
        """Ask the engine for its id; raises with words for a wrong address, certificate or socket right."""
        with docker_errors(self.secrets()):
            info = self.client().info()
        if not isinstance(info, dict) or not info.get("ID"):
            raise BadAnswer("This address answers, but not like a Docker engine.", detail="no engine id in the answer")
        return Identity(
            account_number=str(info["ID"]), label=str(info.get("Name") or self.host), principal=self._address()
        )

    def client(self, *, read_timeout: float | None = None) -> Any:
        """Return a low-level APIClient; call it inside `docker_errors`. The first call contacts the engine."""
        timeout = read_timeout or self.timeouts.read
        with self._lock:
            if timeout not in self._clients:
                options: dict[str, Any] = {
                    "base_url": self._address(),
                    "version": "auto",
                    "timeout": timeout,
                    "user_agent": "curfew",
                }
                if self.credentials.method == "tls":
                    options["tls"] = self._tls()
                with docker_errors(self.secrets()):
                    self._clients[timeout] = _engine_client(options)
            return self._clients[timeout]

    def close(self) -> None:
        """Close sockets and remove the certificate files."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()
            if self._files is not None:
                self._files.cleanup()
                self._files = None

    def _address(self) -> str:
        if self.credentials.method == "local":
            path = self.credentials.get("socket") or DEFAULT_SOCKET
            path = path.removeprefix("unix://")
            if not Path(path).is_absolute():
                raise InvalidRequest(
                    "The Docker socket is an absolute path such as /var/run/docker.sock.", code="bad_address"
                )
            return f"unix://{path}"
        if self.credentials.method != "tls":
            raise InvalidRequest("Docker engines are connected by local socket or TLS.", code="unknown_method")
        (host,) = self.credentials.require("host")
        match = _HOST.fullmatch(host)
        if not match or int(match[2] or DEFAULT_TLS_PORT) > 65535:
            raise InvalidRequest("The Docker host looks like docker.example.com:2376.", code="bad_address")
        return f"https://{match[1]}:{match[2] or DEFAULT_TLS_PORT}"

    def _tls(self) -> Any:
        """Write the certificates where only this process may read them, for as long as the connection lives."""
        from docker.tls import TLSConfig

        ca, cert, key = self.credentials.require("ca_cert", "client_cert", "client_key")
        for name, text in (("CA certificate", ca), ("client certificate", cert), ("client key", key)):
            if "-----BEGIN " not in text or "-----END " not in text:
                raise InvalidRequest(
                    f"The {name} is not in PEM form.",
                    code="bad_certificate",
                    next_step="Paste the whole file, from -----BEGIN to -----END.",
                )
        if self._files is None:
            self._files = tempfile.TemporaryDirectory(prefix="curfew-docker-")
        folder = Path(self._files.name)
        paths = []
        for name, text in (("ca.pem", ca), ("cert.pem", cert), ("key.pem", key)):
            path = folder / name
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(text + "\n")
            paths.append(str(path))
        return TLSConfig(client_cert=(paths[1], paths[2]), ca_cert=paths[0], verify=True)


def _engine_client(options: dict[str, Any]) -> Any:
    """Return an APIClient that ignores the environment.

    With REQUESTS_CA_BUNDLE set, requests would verify the host against that bundle instead of the
    CA that was given, and a proxy meant for the web is no way to an engine.
    """
    import docker

    class EngineClient(docker.APIClient):
        trust_env = property(lambda self: False, lambda self, value: None)

    return EngineClient(**options)
